//! The map of names: complete, exact, and the same for parameters and gradients.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::{Module, ParamId};
use burn::tensor::{Int, Tensor, TensorData};
use burn_store::ModuleSnapshot;
use serde_json::json;

use super::{config, configs, ids, model};
use crate::weights::{
    NamedSlice, WeightsError, named_gradients, named_parameters, named_slices, named_tensors,
};
use crate::{DeepSeek, DeepSeekConfig, FeedForward};

fn by_name(config: &DeepSeekConfig) -> BTreeMap<String, NamedSlice> {
    named_slices(config).into_iter().map(|slice| (slice.name.clone(), slice)).collect()
}

#[test]
fn the_tensors_of_each_parameter_fill_it_once() {
    for (what, config) in configs() {
        let mut ends: HashMap<String, (usize, usize)> = HashMap::new();
        for slice in named_slices(&config) {
            let size = slice.parameter_shape.iter().product();
            let (end, whole) = ends.entry(slice.parameter.clone()).or_insert((0, size));
            assert_eq!((slice.offset, size), (*end, *whole), "{what}: {}", slice.name);
            *end += slice.elements();
        }
        assert!(ends.values().all(|(end, whole)| end == whole), "{what}: {ends:?}");
        assert_eq!(
            by_name(&config).len(),
            named_slices(&config).len(),
            "{what}: a name is given twice"
        );
    }
}

#[test]
fn the_parameters_are_those_of_the_model() {
    for (what, config) in configs() {
        let mapped: BTreeSet<(String, Vec<usize>)> = named_slices(&config)
            .into_iter()
            .map(|slice| (slice.parameter, slice.parameter_shape))
            .collect();
        let found = model(&config)
            .collect(None, None, true)
            .into_iter()
            .map(|tensor| (tensor.name, tensor.shape.to_vec()));
        let unnamed =
            |path: &str| !config.has_balance_bias() && path.ends_with("e_score_correction_bias");
        let found: BTreeSet<_> = found.filter(|(path, _)| !unnamed(path)).collect();
        assert_eq!(mapped, found, "{what}");
    }
}

#[test]
fn stacked_tensors_lie_gate_first_and_expert_after_expert() {
    let names = by_name(&config(&[]));
    let place = |name: &str| {
        let slice = &names[name];
        (slice.parameter.as_str(), slice.offset, slice.shape.as_slice())
    };
    assert_eq!(
        place("model.layers.0.mlp.gate_proj.weight"),
        ("layers.0.mlp.gate_up", 0, &[20, 12][..])
    );
    assert_eq!(
        place("model.layers.0.mlp.up_proj.weight"),
        ("layers.0.mlp.gate_up", 20 * 12, &[20, 12][..])
    );
    assert_eq!(
        place("model.layers.1.mlp.experts.3.up_proj.weight"),
        ("layers.1.mlp.experts.gate_up", 7 * 6 * 12, &[6, 12][..])
    );
    assert_eq!(
        place("model.layers.2.mlp.experts.1.down_proj.weight"),
        ("layers.2.mlp.experts.down", 12 * 6, &[12, 6][..])
    );
    assert_eq!(
        place("model.layers.2.mlp.shared_experts.up_proj.weight"),
        ("layers.2.mlp.shared_experts.gate_up", 144, &[12, 12][..])
    );
    assert_eq!(place("model.layers.4.eh_proj.weight"), ("mtp.1.eh_proj.weight", 0, &[12, 24][..]));
    assert_eq!(
        place("model.layers.3.shared_head.norm.weight"),
        ("mtp.0.norm.weight", 0, &[12][..])
    );
    assert_eq!(
        place("model.layers.3.self_attn.o_proj.bias"),
        ("mtp.0.block.self_attn.o_proj.bias", 0, &[12][..])
    );
}

/// The report's model: 671B parameters of its own and 11.6B of the MTP module, in tensors of the
/// published names.
#[test]
fn the_map_of_deepseek_v3_has_its_size() {
    let config: DeepSeekConfig = serde_json::from_value(json!({
        "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
        "n_shared_experts": 1, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8,
        "topk_group": 4, "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "num_nextn_predict_layers": 1,
    }))
    .unwrap();
    let (mut main, mut mtp) = (0, 0);
    for slice in named_slices(&config) {
        let part = if slice.parameter.starts_with("mtp.") { &mut mtp } else { &mut main };
        *part += slice.elements();
    }
    assert_eq!((main, mtp), (671_026_419_200, 11_610_068_224));
}

#[test]
fn named_parameters_are_rows_of_the_stacked_ones() {
    let model = model(&config(&[]));
    let FeedForward::Moe(moe) = &model.layers[1].mlp else { panic!("layer 1 is MoE") };
    let want = moe.experts.gate_up.val().slice([2..3, 6..12]).reshape([6, 12]).into_data();
    assert_eq!(named_parameters(&model)["model.layers.1.mlp.experts.2.up_proj.weight"], want);
}

/// Every parameter but the balance biases gets its gradient under its name, cut as the parameter
/// is.
#[test]
fn gradients_have_the_names_of_their_parameters() {
    let model: DeepSeek = model(&config(&[])).train();
    let tokens = Tensor::<2, Int>::from_data([[1, 5, 9, 2, 30, 7]], &model.device());
    let mut pass = model.pass(0, 6, &crate::Compute::f32());
    let hidden = model.hidden(tokens.clone(), &mut pass, None);
    let deeper = model.mtp_hidden(tokens, hidden.clone(), &mut pass);
    let squares = |hidden| model.logits(hidden).powf_scalar(2.0).sum();
    let loss = deeper.into_iter().fold(squares(hidden), |loss, hidden| loss + squares(hidden));
    let grads = loss.backward();

    let named = named_gradients(&model, &grads);
    let expected: BTreeSet<String> =
        named_slices(model.config()).into_iter().map(|slice| slice.name).collect();
    let trainable: BTreeSet<String> =
        expected.into_iter().filter(|name| !name.ends_with("e_score_correction_bias")).collect();
    assert_eq!(named.keys().cloned().collect::<BTreeSet<_>>(), trainable);
    let FeedForward::Dense(mlp) = &model.layers[0].mlp else { panic!("layer 0 is dense") };
    let want = mlp.gate_up.val().grad(&grads).unwrap().slice([20..40, 0..12]).into_data();
    assert_eq!(named["model.layers.0.mlp.up_proj.weight"], want);
}

#[test]
fn any_values_of_the_right_shape_can_be_named() {
    let model = model(&config(&[]));
    let norm = model.norm.weight.id;
    let values = |shape: usize| {
        move |id: ParamId| (id == norm).then(|| TensorData::zeros::<f32, _>([shape]))
    };
    let named = named_tensors(&model, values(12)).unwrap();
    assert_eq!(named.keys().collect::<Vec<_>>(), ["model.norm.weight"]);
    match named_tensors(&model, values(13)) {
        Err(WeightsError::Shape { parameter, expected, found }) => {
            assert_eq!((parameter.as_str(), expected, found), ("norm.weight", vec![12], vec![13]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ids(&model).len(), ids(&model).into_iter().collect::<BTreeSet<_>>().len());
}
