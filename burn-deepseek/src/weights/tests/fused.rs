//! Experts in one tensor a layer, as transformers 5 keeps them.

use std::collections::BTreeMap;

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, assert_same, config, edit, in_one_file};
use crate::weights::{LoadOptions, TensorProblem, WeightsError, load_model};

pub(super) const LAYERS: [&str; 4] = ["1", "2", "3", "4"];

/// The tensors of a layer's experts as one; `parts` of each expert.
fn fuse(
    tensors: &mut BTreeMap<String, RawTensor>,
    layer: &str,
    parts: &[&str],
    suffix: &str,
) -> RawTensor {
    let mut bytes = Vec::new();
    let (mut shape, mut dtype) = (Vec::new(), Dtype::F32);
    for expert in 0..4 {
        for part in parts {
            let name = format!("model.layers.{layer}.mlp.experts.{expert}.{part}.weight{suffix}");
            let tensor = tensors.remove(&name).unwrap_or_else(|| panic!("{name}"));
            bytes.extend(tensor.bytes);
            dtype = tensor.dtype;
            shape = vec![4, parts.len() * tensor.shape[0], tensor.shape[1]];
        }
    }
    RawTensor { dtype, shape, bytes }
}

pub(super) fn fuse_all(tensors: &mut BTreeMap<String, RawTensor>, layer: &str, suffix: &str) {
    for (name, parts) in
        [("gate_up_proj", &["gate_proj", "up_proj"][..]), ("down_proj", &["down_proj"])]
    {
        let fused = fuse(tensors, layer, parts, suffix);
        tensors.insert(format!("model.layers.{layer}.mlp.experts.{name}{suffix}"), fused);
    }
}

#[track_caller]
fn problems(dir: &std::path::Path) -> Vec<TensorProblem> {
    match load_model(dir, &Device::flex(), &LoadOptions::default()) {
        Err(WeightsError::Tensors { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fused_experts_are_the_same_model() {
    let (model, dir) = in_one_file(&config(&[]));
    for layer in LAYERS {
        edit(dir.path(), |tensors| fuse_all(tensors, layer, ""));
        let loaded = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap();
        assert_same(&model, &loaded, layer);
    }
}

/// Blocks of an expert's gate do not reach into its up projection, nor into the next expert: an
/// inner width of 130 has a ragged second block in each.
#[test]
fn fused_experts_in_fp8_have_the_scales_of_their_own_matrices() {
    let wide =
        config(&[("moe_intermediate_size", json!(130)), ("num_nextn_predict_layers", json!(0))]);
    let (_, dir) = in_one_file(&wide);
    edit(dir.path(), |tensors| {
        let names: Vec<String> =
            tensors.keys().filter(|name| name.contains(".experts.")).cloned().collect();
        for (i, name) in names.into_iter().enumerate() {
            let shape = tensors[&name].shape.clone();
            let count = shape.iter().product::<usize>();
            let bytes = (0..count).map(|j| 0x30 + ((i + j) % 16) as u8).collect();
            let blocks: Vec<usize> = shape.iter().map(|n| n.div_ceil(128)).collect();
            let scales = (0..blocks.iter().product()).map(|j| 1.0 + i as f32 + 0.25 * j as f32);
            tensors.insert(format!("{name}_scale_inv"), RawTensor::f32(&blocks, scales));
            tensors.insert(name, RawTensor { dtype: Dtype::F8_E4M3, shape, bytes });
        }
    });
    let separate = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap();
    edit(dir.path(), |tensors| {
        for layer in ["1", "2"] {
            fuse_all(tensors, layer, "");
            fuse_all(tensors, layer, "_scale_inv");
        }
        let scales = &tensors["model.layers.1.mlp.experts.gate_up_proj_scale_inv"];
        assert_eq!(scales.shape, [4, 4, 1]);
    });
    let fused = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap();
    assert_same(&separate, &fused, "FP8");
}

/// Older versions of transformers had the last two dimensions the other way round for some models.
#[test]
fn fused_experts_the_other_way_round_are_refused() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        fuse_all(tensors, "2", "");
        for name in ["gate_up_proj", "down_proj"] {
            let tensor = tensors
                .get_mut(&format!("model.layers.2.mlp.experts.{name}"))
                .expect("a fused tensor");
            tensor.shape.swap(1, 2);
        }
    });
    // Gate and up over each other are square here, and only the other one can tell.
    let down = TensorProblem::Shape {
        name: "model.layers.2.mlp.experts.down_proj".into(),
        file: "model.safetensors".into(),
        expected: vec![4, 12, 6],
        found: vec![4, 6, 12],
    };
    assert_eq!(problems(dir.path()), [down]);
}

/// Both forms of the same experts: one of them has no place.
#[test]
fn experts_that_are_there_twice_are_refused() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        let before = tensors.clone();
        fuse_all(tensors, "1", "");
        tensors.extend(before);
    });
    let names: Vec<String> =
        problems(dir.path()).iter().map(|problem| problem.to_string()).collect();
    assert_eq!(
        names,
        ["down_proj", "gate_up_proj"].map(|name| format!(
            "model.layers.1.mlp.experts.{name} (model.safetensors) has no place in the model"
        ))
    );
}
