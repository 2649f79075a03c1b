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

/// Scales of the same values in each of their types: the same weights, exactly.
#[test]
fn scales_may_be_bf16_and_powers_of_two() {
    let (_, dir) = in_one_file(&wide());
    edit(dir.path(), |tensors| _ = tensors.insert(DOWN.into(), quantized()));
    let bf16 = [0x3F00u16, 0x3B80].into_iter().flat_map(u16::to_le_bytes).collect();
    let scales = [
        RawTensor::f32(&[1, 2], [0.5, 0.00390625]),
        RawTensor { dtype: Dtype::BF16, shape: vec![1, 2], bytes: bf16 },
        RawTensor { dtype: Dtype::F8_E8M0, shape: vec![1, 2], bytes: vec![126, 119] },
    ];
    let want = |column: usize| [1.0, -2.0][column % 2] * [0.5, 0.00390625][column / 128];
    for scale in scales {
        let dtype = scale.dtype;
        edit(dir.path(), |tensors| _ = tensors.insert(SCALE.into(), scale));
        let model = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap();
        let got: Vec<f32> = named_parameters(&model)[DOWN].iter().collect();
        assert_eq!(got, (0..12 * 130).map(|i| want(i % 130)).collect::<Vec<f32>>(), "{dtype:?}");
    }
}

/// A converter that divides 0 by 0 writes NaN codes; a scale may be as bad.
#[test]
fn what_is_no_finite_number_is_named_with_its_place() {
    let refused = |tensor: RawTensor, scale: RawTensor| {
        let (_, dir) = in_one_file(&wide());
        edit(dir.path(), |tensors| {
            tensors.insert(DOWN.into(), tensor);
            tensors.insert(SCALE.into(), scale);
        });
        load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap_err().to_string()
    };
    let ones = || RawTensor::f32(&[1, 2], [1.0, 1.0]);
    for code in [0x7F, 0xFF] {
        let mut bad = quantized();
        bad.bytes[3 * 130 + 17] = code;
        bad.bytes[11 * 130] = code;
        let error = refused(bad, ones());
        let where_it_is =
            format!("{DOWN} (model.safetensors) holds the NaN code {code:#x} at [3, 17]");
        assert!(error.contains(&where_it_is), "{error}");
    }
    for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let error = refused(quantized(), RawTensor::f32(&[1, 2], [1.0, value]));
        assert!(error.contains(&format!("{SCALE} (model.safetensors) holds {found} at [0, 1]")));
    }
    let e8m0 = RawTensor { dtype: Dtype::F8_E8M0, shape: vec![1, 2], bytes: vec![0xFF, 127] };
    let error = refused(quantized(), e8m0);
    assert!(error.contains(&format!("{SCALE} (model.safetensors) holds NaN at [0, 0]")), "{error}");
    // A product that overflows.
    let error = refused(quantized(), RawTensor::f32(&[1, 2], [f32::MAX, 1.0]));
    assert!(error.contains(&format!("{DOWN} (model.safetensors) holds -inf at [0, 1]")), "{error}");
}

#[test]
fn a_plain_weight_that_is_no_finite_number_is_named_too() {
    let (_, dir) = in_one_file(&config(&[]));
    for (bits, found) in [(0x7FC0u16, "NaN"), (0xFF80, "-inf")] {
        edit(dir.path(), |tensors| {
            let bytes = [0, 0, 0, bits, 0].into_iter().flat_map(u16::to_le_bytes).collect();
            let norm = RawTensor { dtype: Dtype::BF16, shape: vec![5], bytes };
            tensors.insert("model.layers.2.self_attn.kv_a_layernorm.weight".into(), norm);
        });
        let error = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap_err();
        assert!(
            matches!(
                &error,
                WeightsError::NotFinite { name, position, found: what, .. }
                    if name == "model.layers.2.self_attn.kv_a_layernorm.weight"
                        && *position == [3] && what == found
            ),
            "{error}"
        );
    }
}

#[test]
fn scales_must_be_there_fit_and_be_of_a_type_that_is_read() {
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
    let wrong_type = problem_with(DOWN, quantized(), Some(RawTensor::zeros(Dtype::F16, &[1, 2])));
    assert!(matches!(
        wrong_type,
        TensorProblem::DType { name, found, .. }
            if name == SCALE && found == "F16"
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
