//! Small models and hand-made files for the tests of checkpoints.

mod errors;
mod export;
mod fp8;
mod fused;
mod inspect;
mod kept;
mod mtp;
mod names;
mod parts;
mod round_trip;
mod saving;
mod spread;
mod tolerated;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SaveOptions, named_parameters, save_model};
use crate::{DeepSeek, DeepSeekConfig};

/// A model with everything: a query latent, biases, dense and MoE layers, shared experts, two MTP
/// modules; and then changed.
fn config(changes: &[(&str, Value)]) -> DeepSeekConfig {
    let mut config = json!({
        "vocab_size": 37, "hidden_size": 12, "intermediate_size": 20, "moe_intermediate_size": 6,
        "num_hidden_layers": 3, "num_attention_heads": 3, "n_shared_experts": 2,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "q_lora_rank": 7,
        "kv_lora_rank": 5, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 3,
        "attention_bias": true, "num_nextn_predict_layers": 2,
    });
    for (key, value) in changes {
        config[key] = value.clone();
    }
    serde_json::from_value(config).expect("a config of the test")
}

/// One model for each part that a model can have or lack.
fn configs() -> Vec<(&'static str, DeepSeekConfig)> {
    vec![
        ("everything", config(&[])),
        ("no MTP", config(&[("num_nextn_predict_layers", json!(0))])),
        ("tied", config(&[("tie_word_embeddings", json!(true))])),
        (
            "no query latent, no biases",
            config(&[("q_lora_rank", json!(null)), ("attention_bias", json!(false))]),
        ),
        ("no shared experts", config(&[("n_shared_experts", json!(0))])),
        (
            "MoE in every second layer",
            config(&[("num_hidden_layers", json!(5)), ("moe_layer_freq", json!(2))]),
        ),
        ("dense only", config(&[("n_routed_experts", json!(0)), ("n_shared_experts", json!(0))])),
        (
            "V2: no balance bias",
            config(&[
                ("topk_method", json!("group_limited_greedy")),
                ("scoring_func", json!("softmax")),
                ("norm_topk_prob", json!(false)),
            ]),
        ),
    ]
}

/// A model whose parameters all differ, balance biases included.
fn model(config: &DeepSeekConfig) -> DeepSeek {
    let mut model = DeepSeek::init(config, 11, &Device::flex()).expect("a config of the test");
    if config.has_balance_bias() {
        for (layer, router) in model.routers_mut() {
            let bias: Vec<f32> = (0..config.n_routed_experts)
                .map(|e| 0.1 * e as f32 - 0.001 * layer as f32)
                .collect();
            router.set_bias(&bias);
        }
    }
    model
}

/// The checkpoint of a model in a directory of its own.
fn saved(config: &DeepSeekConfig, options: &SaveOptions) -> (DeepSeek, TempDir) {
    let (model, dir) = (model(config), tempfile::tempdir().expect("a directory"));
    save_model(&model, dir.path(), options).expect("a writable directory");
    (model, dir)
}

fn in_one_file(config: &DeepSeekConfig) -> (DeepSeek, TempDir) {
    saved(config, &SaveOptions::default())
}

/// Names of the files in a directory, in order.
fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A tensor as a file has it.
#[derive(Clone, Debug, PartialEq)]
struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl RawTensor {
    fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    fn zeros(dtype: Dtype, shape: &[usize]) -> Self {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        Self { dtype, shape: shape.to_vec(), bytes }
    }
}

fn read_raw(path: &Path) -> BTreeMap<String, RawTensor> {
    let bytes = std::fs::read(path).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let raw = tensors.iter().map(|(name, view)| {
        (
            name.to_string(),
            RawTensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            },
        )
    });
    raw.collect()
}

fn write_raw(path: &Path, tensors: &BTreeMap<String, RawTensor>) {
    let views = tensors.iter().map(|(name, raw)| {
        (
            name.as_str(),
            TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes)
                .expect("a tensor of the test"),
        )
    });
    safetensors::serialize_to_file(views, None, path).expect("a writable file");
}

/// Changes the tensors of `model.safetensors`.
fn edit(dir: &Path, change: impl FnOnce(&mut BTreeMap<String, RawTensor>)) {
    let path = dir.join(super::WEIGHTS_FILE);
    let mut tensors = read_raw(&path);
    change(&mut tensors);
    write_raw(&path, &tensors);
}

/// Both models hold the same bits under the same names.
#[track_caller]
fn assert_same(left: &DeepSeek, right: &DeepSeek, what: &str) {
    let (left, right) = (named_parameters(left), named_parameters(right));
    assert!(left.keys().eq(right.keys()), "{what}");
    for (name, value) in &left {
        assert_bits(value, &right[name], &format!("{what}: {name}"));
    }
}

#[track_caller]
fn assert_bits(left: &TensorData, right: &TensorData, what: &str) {
    assert_eq!((left.shape(), left.dtype()), (right.shape(), right.dtype()), "{what}");
    assert_eq!(left.as_bytes(), right.as_bytes(), "{what}");
}

/// Parameters of a model in the order in which it is walked.
fn ids(model: &DeepSeek) -> Vec<burn::module::ParamId> {
    burn::module::list_param_ids(model)
}
