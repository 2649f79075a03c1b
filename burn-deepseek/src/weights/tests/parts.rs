//! Parameters read as they are stored: BF16 as BF16, FP8 as codes and scales.

use half::bf16;
use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, config, edit, in_one_file};
use crate::weights::WeightsError;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::plan::{ParameterPlan, plan};
use crate::weights::stored::StoredForm;

const GATE: &str = "model.layers.0.mlp.gate_proj.weight";

#[track_caller]
fn parameter<'a>(plans: &'a [ParameterPlan], path: &str) -> &'a ParameterPlan {
    plans.iter().find(|plan| plan.parameter == path).expect("a parameter of the model")
}

#[test]
fn bf16_is_read_without_a_change() {
    let (_, dir) = in_one_file(&config(&[]));
    let bits: Vec<u16> = (0..37 * 12).map(|i| 0x3F80 + i as u16).collect();
    edit(dir.path(), |tensors| {
        let bytes = bits.iter().copied().flat_map(u16::to_le_bytes).collect();
        let head = RawTensor { dtype: Dtype::BF16, shape: vec![37, 12], bytes };
        tensors.insert("lm_head.weight".into(), head);
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let plans = plan(&config(&[]), &checkpoint).unwrap().parameters;
    let head = parameter(&plans, "lm_head.weight");
    assert_eq!(head.form(), Some(StoredForm::Bf16));
    let mut values = vec![bf16::ZERO; 37 * 12];
    head.parts[0].read_bf16(&checkpoint, &mut values).unwrap();
    assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
    assert!(head.parts[0].fp8().is_none());
}

#[test]
fn fp8_is_read_as_codes_and_scales_a_tensor() {
    let dense = config(&[("intermediate_size", json!(130))]);
    let (_, dir) = in_one_file(&dense);
    let codes: Vec<u8> = (0..130 * 12).map(|i| (i % 120) as u8).collect();
    edit(dir.path(), |tensors| {
        let gate = RawTensor { dtype: Dtype::F8_E4M3, shape: vec![130, 12], bytes: codes.clone() };
        tensors.insert(GATE.into(), gate);
        tensors.insert(format!("{GATE}_scale_inv"), RawTensor::f32(&[2, 1], [0.5, 2.0]));
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let plans = plan(&dense, &checkpoint).unwrap().parameters;
    let gate_up = parameter(&plans, "layers.0.mlp.gate_up");
    assert_eq!(gate_up.form(), None, "the up projection is F32");
    let [gate, up] = &gate_up.parts[..] else { panic!("{gate_up:?}") };
    assert_eq!((gate.offset, up.offset, up.form), (0, 130 * 12, StoredForm::F32));
    assert_eq!((gate.matrices, gate.blocks(), gate.scale_count()), (1, [2, 1], 2));
    let fp8 = gate.fp8().expect("FP8");
    let mut found = vec![0; gate.elements()];
    fp8.read_codes(&checkpoint, &mut found).unwrap();
    assert_eq!(found, codes);
    assert_eq!(fp8.read_scales(&checkpoint).unwrap(), [0.5, 2.0]);
}

#[test]
fn nan_codes_are_refused_in_this_form_too() {
    let (_, dir) = in_one_file(&config(&[]));
    let mut codes = vec![0u8; 20 * 12];
    codes[5 * 12 + 7] = 0xFF;
    edit(dir.path(), |tensors| {
        let gate = RawTensor { dtype: Dtype::F8_E4M3, shape: vec![20, 12], bytes: codes.clone() };
        tensors.insert(GATE.into(), gate);
        tensors.insert(format!("{GATE}_scale_inv"), RawTensor::f32(&[1, 1], [1.0]));
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let plans = plan(&config(&[]), &checkpoint).unwrap().parameters;
    let part = &parameter(&plans, "layers.0.mlp.gate_up").parts[0];
    let error = part.fp8().unwrap().read_codes(&checkpoint, &mut codes).unwrap_err();
    assert!(
        matches!(&error, WeightsError::NotFinite { position, .. } if *position == [5, 7]),
        "{error}"
    );
}
