//! What is saved is what is loaded.

use burn::module::Module;
use burn::tensor::Device;
use half::{bf16, f16};
use serde_json::json;

use super::{assert_same, config, configs, ids, in_one_file, model, saved};
use crate::DeepSeek;
use crate::WeightInit;
use crate::weights::{
    LoadOptions, MtpWeights, SaveDType, SaveOptions, load_model, load_weights, named_parameters,
    save_model,
};

#[test]
fn f32_comes_back_bit_for_bit_in_one_file_and_in_shards() {
    for (what, config) in configs() {
        let smallest = if what == "everything" { &[1, 0][..] } else { &[] };
        for &max_shard_bytes in [&[u64::MAX, 3000], smallest].concat().iter() {
            let (model, dir) =
                saved(&config, &SaveOptions { max_shard_bytes, ..SaveOptions::default() });
            let loaded = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap();
            assert_same(&model, &loaded, &format!("{what}, shards of {max_shard_bytes}"));
            assert_eq!(loaded.config().num_nextn_predict_layers, config.num_nextn_predict_layers);
        }
    }
}

#[test]
fn sixteen_bit_types_round_to_nearest_and_the_balance_bias_stays() {
    for dtype in [SaveDType::Bf16, SaveDType::F16] {
        let round = |x| {
            if dtype == SaveDType::F16 {
                f16::from_f32(x).to_f32()
            } else {
                bf16::from_f32(x).to_f32()
            }
        };
        let (model, dir) = saved(&config(&[]), &SaveOptions { dtype, max_shard_bytes: 5000 });
        let loaded = named_parameters(
            &load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap(),
        );
        for (name, value) in named_parameters(&model) {
            let exact = name.ends_with("e_score_correction_bias");
            let want: Vec<f32> =
                value.iter::<f32>().map(|x| if exact { x } else { round(x) }).collect();
            assert_eq!(loaded[&name].iter::<f32>().collect::<Vec<_>>(), want, "{dtype:?} {name}");
        }
    }
}

#[test]
fn a_file_of_its_own_loads_with_the_config_beside_it() {
    let (model, dir) = in_one_file(&config(&[]));
    let loaded =
        load_model(dir.path().join("model.safetensors"), &Device::flex(), &LoadOptions::default())
            .unwrap();
    assert_same(&model, &loaded, "single file");

    let (model, dir) =
        saved(&config(&[]), &SaveOptions { max_shard_bytes: 5000, ..SaveOptions::default() });
    let loaded = load_model(
        dir.path().join("model.safetensors.index.json"),
        &Device::flex(),
        &LoadOptions::default(),
    )
    .unwrap();
    assert_same(&model, &loaded, "index");
}

#[test]
fn dropping_mtp_modules_leaves_the_main_model() {
    let (mut model, dir) = in_one_file(&config(&[]));
    let loaded = load_model(
        dir.path(),
        &Device::flex(),
        &LoadOptions { mtp: MtpWeights::Drop, ..LoadOptions::default() },
    )
    .unwrap();
    assert_eq!((loaded.mtp.len(), loaded.config().num_nextn_predict_layers), (0, 0));
    model.mtp.clear();
    assert_same(&model, &loaded, "without MTP");

    let again = tempfile::tempdir().unwrap();
    save_model(&loaded, again.path(), &SaveOptions::default()).unwrap();
    assert_same(
        &loaded,
        &load_model(again.path(), &Device::flex(), &LoadOptions::default()).unwrap(),
        "saved without MTP",
    );
}

#[test]
fn loading_into_a_model_keeps_its_parameters_identity() {
    let (saved, dir) = in_one_file(&config(&[]));
    let target = DeepSeek::new(saved.config(), WeightInit::zeros(&Device::flex())).unwrap().train();
    let before = ids(&target);
    let loaded = load_weights(target, dir.path()).unwrap().model;
    assert_eq!(ids(&loaded), before);
    assert_same(&saved, &loaded, "into a model in training");
    assert!(loaded.norm.weight.val().is_require_grad());
    let mut loaded = loaded;
    for (_, router) in loaded.routers_mut() {
        assert!(
            !router.e_score_correction_bias.val().is_require_grad(),
            "the balance bias has no gradient"
        );
        assert!(router.weight.val().is_require_grad());
    }
}

#[test]
fn a_model_without_mtp_ignores_the_modules_of_a_checkpoint() {
    let (saved, dir) = in_one_file(&config(&[]));
    let main = model(&config(&[
        ("num_nextn_predict_layers", json!(0)),
        ("initializer_range", json!(1.0)),
    ]));
    let loaded = load_weights(main, dir.path()).unwrap().model;
    assert_eq!(
        loaded.lm_head.unwrap().weight.val().into_data(),
        saved.lm_head.unwrap().weight.val().into_data()
    );
}
