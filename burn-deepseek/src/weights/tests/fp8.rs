//! Weights in E4M3 with a scale for each block, as DeepSeek publishes them.

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, config, edit, in_one_file};
use crate::weights::{LoadOptions, TensorProblem, WeightsError, load_model, named_parameters};

const DOWN: &str = "model.layers.1.mlp.experts.2.down_proj.weight";
const SCALE: &str = "model.layers.1.mlp.experts.2.down_proj.weight_scale_inv";

/// Inner width 130: two blocks, the second of two columns.
fn wide() -> crate::DeepSeekConfig {
    config(&[("moe_intermediate_size", json!(130))])
}

fn quantized() -> RawTensor {
    RawTensor { dtype: Dtype::F8_E4M3, shape: vec![12, 130], bytes: [0x38, 0xC0].repeat(12 * 65) }
}

#[track_caller]
fn problem_with(name: &str, tensor: RawTensor, scale: Option<RawTensor>) -> TensorProblem {
    let (_, dir) = in_one_file(&wide());
    edit(dir.path(), |tensors| {
        tensors.insert(name.into(), tensor);
        if let Some(scale) = scale {
            tensors.insert(format!("{name}_scale_inv"), scale);
        }
    });
    match load_model(dir.path(), &Device::flex(), &LoadOptions::default()) {
        Err(WeightsError::Tensors { problems, .. }) => match &problems[..] {
            [problem] => problem.clone(),
            _ => panic!("{problems:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn codes_times_scales_are_the_weights() {
    let (model, dir) = in_one_file(&wide());
    edit(dir.path(), |tensors| {
        tensors.insert(DOWN.into(), quantized());
        tensors.insert(SCALE.into(), RawTensor::f32(&[1, 2], [0.5, 3.0]));
    });
    let loaded = named_parameters(
        &load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap(),
    );
    let want = |column: usize| [1.0, -2.0][column % 2] * if column < 128 { 0.5 } else { 3.0 };
    let got: Vec<f32> = loaded[DOWN].iter().collect();
    assert_eq!(got, (0..12 * 130).map(|i| want(i % 130)).collect::<Vec<f32>>());
    let others = named_parameters(&model).into_iter().filter(|(name, _)| name != DOWN);
    others.for_each(|(name, value)| assert_eq!(loaded[&name], value, "{name}"));
}

#[test]
fn scales_must_be_there_fit_and_be_f32() {
    assert_eq!(
        problem_with(DOWN, quantized(), None),
        TensorProblem::Missing { name: SCALE.into(), shape: vec![1, 2] }
    );
    let wrong_shape = problem_with(DOWN, quantized(), Some(RawTensor::f32(&[2, 1], [1.0, 1.0])));
    assert!(matches!(
        wrong_shape,
        TensorProblem::Shape { name, expected, .. }
            if name == SCALE && expected == [1, 2]
    ));
    let wrong_type = problem_with(DOWN, quantized(), Some(RawTensor::zeros(Dtype::BF16, &[1, 2])));
    assert!(matches!(
        wrong_type,
        TensorProblem::DType { name, found, .. }
            if name == SCALE && found == "BF16"
    ));
}

#[test]
fn other_quantized_tensors_are_refused_by_name() {
    let vector = problem_with("model.norm.weight", RawTensor::zeros(Dtype::F8_E4M3, &[12]), None);
    assert!(matches!(
        vector,
        TensorProblem::DType { name, found, .. }
            if name == "model.norm.weight" && found == "F8_E4M3"
    ));
    let e5m2 = problem_with(DOWN, RawTensor::zeros(Dtype::F8_E5M2, &[12, 130]), None);
    assert!(matches!(
        e5m2,
        TensorProblem::DType { name, found, .. }
            if name == DOWN && found == "F8_E5M2"
    ));
    let (_, dir) = in_one_file(&wide());
    edit(dir.path(), |tensors| {
        tensors.insert(SCALE.into(), RawTensor::f32(&[1, 2], [1.0, 1.0]));
    });
    let unused =
        load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap_err().to_string();
    assert!(unused.contains(SCALE) && unused.contains("no place"), "{unused}");
}
