//! Tensors that a checkpoint may have although the model has no place for them, and those that it
//! may not.

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, assert_same, config, edit, in_one_file};
use crate::weights::{LoadOptions, MtpWeights, TensorProblem, WeightsError, load_model};

#[track_caller]
fn problems(dir: &std::path::Path, options: &LoadOptions) -> Vec<TensorProblem> {
    match load_model(dir, &Device::flex(), options) {
        Err(WeightsError::Tensors { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tied_head_may_be_stored_with_the_embeddings_shape() {
    let (model, dir) = in_one_file(&config(&[("tie_word_embeddings", json!(true))]));
    edit(dir.path(), |tensors| {
        let head = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".into(), head);
    });
    assert_same(
        &model,
        &load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap(),
        "tied",
    );

    edit(dir.path(), |tensors| {
        tensors.insert("lm_head.weight".into(), RawTensor::zeros(Dtype::F32, &[36, 12]));
    });
    let problems = problems(dir.path(), &LoadOptions::default());
    assert!(matches!(
        &problems[..],
        [TensorProblem::Shape { name, expected, .. }]
            if name == "lm_head.weight" && *expected == [37, 12]
    ));
}

#[test]
fn copies_of_embedding_and_head_in_mtp_layers_are_ignored() {
    let (model, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        for layer in [3, 4] {
            for copy in ["embed_tokens", "shared_head.head"] {
                tensors.insert(
                    format!("model.layers.{layer}.{copy}.weight"),
                    RawTensor::zeros(Dtype::BF16, &[37, 12]),
                );
            }
        }
    });
    assert_same(
        &model,
        &load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap(),
        "copies",
    );
    load_model(
        dir.path(),
        &Device::flex(),
        &LoadOptions { mtp: MtpWeights::Drop, ..LoadOptions::default() },
    )
    .unwrap();
}

/// A layer of the main model that the config does not have is never taken for an MTP layer.
#[test]
fn a_layer_too_many_is_refused_even_when_mtp_is_dropped() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"))
        .unwrap();
    let problems =
        problems(dir.path(), &LoadOptions { mtp: MtpWeights::Drop, ..LoadOptions::default() });
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(
            matches!(
                &problem,
                TensorProblem::Extra { name, .. }
                    if name.starts_with("model.layers.2.")
            ),
            "{problem}"
        );
    }
}

#[test]
fn an_mtp_layer_too_many_is_refused_where_there_are_some() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        tensors.insert(
            "model.layers.5.eh_proj.weight".into(),
            RawTensor::zeros(Dtype::F32, &[12, 24]),
        );
    });
    let problems = problems(dir.path(), &LoadOptions::default());
    let extra = TensorProblem::Extra {
        name: "model.layers.5.eh_proj.weight".into(),
        file: "model.safetensors".into(),
    };
    assert_eq!(problems, [extra]);
}

/// Older exporters store rope's frequencies; they follow from the config.
#[test]
fn buffers_of_rope_are_ignored_in_any_layer() {
    let (model, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        for layer in 0..5 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            tensors.insert(name, RawTensor::zeros(Dtype::F32, &[1]));
        }
        let whole = RawTensor::zeros(Dtype::BF16, &[1]);
        tensors.insert("model.rotary_emb.inv_freq".into(), whole);
    });
    let options = LoadOptions::default();
    let loaded = load_model(dir.path(), &Device::flex(), &options).unwrap();
    assert_same(&model, &loaded, "rope buffers");
    edit(dir.path(), |tensors| {
        let other = RawTensor::zeros(Dtype::F32, &[1]);
        tensors.insert("model.layers.0.self_attn.inv_freq".into(), other);
    });
    assert_eq!(problems(dir.path(), &options).len(), 1, "not of a rotary_emb");
}
