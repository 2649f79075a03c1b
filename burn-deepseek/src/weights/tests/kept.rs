//! Models whose weights stay as they are stored, against the same in F32.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{RawTensor, assert_bits, config, configs, edit, saved};
use crate::attention::AttentionForm;
use crate::generate::{Decoder, GenerateOptions, Generation, Sampling};
use crate::weights::{
    LoadOptions, SaveDType, SaveOptions, WeightForm, WeightsError, load_model, named_parameters,
};
use crate::{Compute, DeepSeek, DeepSeekConfig, EndTokens, FeedForward, LossWeights, Weight};

const BF16: SaveOptions = SaveOptions { dtype: SaveDType::Bf16, max_shard_bytes: u64::MAX };

fn load(dir: &Path, weights: WeightForm, device: &Device) -> Result<DeepSeek, WeightsError> {
    load_model(dir, device, &LoadOptions { weights, ..LoadOptions::default() })
}

/// The model of a folder in F32, and with its weights as they are stored.
fn both(dir: &Path) -> [DeepSeek; 2] {
    [WeightForm::F32, WeightForm::AsStored]
        .map(|form| load(dir, form, &Device::flex()).expect("a checkpoint"))
}

/// Wider than a block and with ragged ones, so that every piece has several scales.
fn wide(changes: &[(&str, Value)]) -> DeepSeekConfig {
    let sizes = [("hidden_size", json!(140)), ("moe_intermediate_size", json!(130))];
    config(&[&sizes, changes].concat())
}

/// Makes codes and scales of every matrix that DeepSeek publishes so.
fn quantize(tensors: &mut std::collections::BTreeMap<String, RawTensor>) {
    let plain = ["embed_tokens", "lm_head", ".gate.", "eh_proj"];
    let mut scales = Vec::new();
    for (name, tensor) in tensors.iter_mut() {
        let &[rows, columns] = &tensor.shape[..] else { continue };
        if plain.iter().any(|part| name.contains(part)) {
            continue;
        }
        let seed = name.len();
        // No code is NaN: the lowest bit is never set.
        tensor.bytes = (0..rows * columns).map(|i| ((i * 37 + seed) * 2) as u8).collect();
        tensor.dtype = Dtype::F8_E4M3;
        let blocks = [rows.div_ceil(128), columns.div_ceil(128)];
        let values = (0..blocks[0] * blocks[1]).map(|i| 1e-4 * (1.0 + (i + seed) as f32 / 7.0));
        scales.push((format!("{name}_scale_inv"), RawTensor::f32(&blocks, values)));
    }
    tensors.extend(scales);
}

fn tokens(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i + 5) % vocab) as u32).collect()
}

fn tensor(tokens: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Tensor::from_data(TensorData::new(ids, [1, tokens.len()]), device)
}

/// Logits of a prompt and of single tokens after it, the losses, and what is said with drafts.
fn outcome(model: &DeepSeek, form: AttentionForm) -> (Vec<Vec<f32>>, Vec<f32>, Generation) {
    let vocab = model.config().vocab_size;
    let mut decoder = Decoder::new(model, form);
    let mut logits = Vec::new();
    for fed in [&tokens(12, vocab)[..], &[3], &[1], &[4, 1, 5], &tokens(9, vocab)] {
        let hidden = decoder.feed(fed);
        logits.extend(decoder.logits(hidden, fed.len()));
    }
    let inputs = tensor(&tokens(20, vocab), &Device::flex());
    let weights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };
    let losses = model.loss(inputs.clone(), inputs, &weights, &Compute::f32());
    let losses = [losses.main].into_iter().chain(losses.mtp);
    let options = GenerateOptions {
        max_new_tokens: 12,
        sampling: Sampling::GREEDY,
        stop: EndTokens::NONE,
        form,
        speculative: !model.mtp.is_empty(),
    };
    let said = model.generate(&tokens(5, vocab), &options, |_| ControlFlow::Continue(()));
    (
        logits,
        losses.flat_map(|loss| loss.into_data().iter::<f32>().collect::<Vec<_>>()).collect(),
        said.expect("a prompt of the model"),
    )
}

#[track_caller]
fn assert_same_outcome(dir: &Path, what: &str) {
    let [f32, kept] = both(dir);
    for form in [AttentionForm::Auto, AttentionForm::Expanded, AttentionForm::Absorbed] {
        let (expected, found) = (outcome(&f32, form), outcome(&kept, form));
        assert!(expected.0.iter().flatten().all(|x| x.is_finite()), "{what}");
        assert!(expected == found, "{what}, {form:?}: {expected:?} against {found:?}");
    }
}

#[test]
fn bf16_weights_give_the_bits_of_their_values_in_f32() {
    for (what, config) in configs() {
        let (_, dir) = saved(&config, &BF16);
        assert_same_outcome(dir.path(), what);
    }
    let (_, dir) = saved(&wide(&[("initializer_range", json!(0.1))]), &BF16);
    assert_same_outcome(dir.path(), "wide");
}

#[test]
fn fp8_weights_give_the_bits_of_what_they_multiply_out_to() {
    for changes in [&[][..], &[("q_lora_rank", json!(null)), ("kv_lora_rank", json!(150))]] {
        let (_, dir) = saved(&wide(changes), &BF16);
        edit(dir.path(), quantize);
        assert_same_outcome(dir.path(), &format!("{changes:?}"));
    }
}

/// What stays and what does not: every matrix but the router's and `kv_b`.
#[test]
fn matrices_stay_and_the_rest_are_parameters() {
    let (_, dir) = saved(&wide(&[]), &BF16);
    edit(dir.path(), quantize);
    let [f32, kept] = both(dir.path());
    let all = named_parameters(&f32);
    let parameters = named_parameters(&kept);
    for (name, value) in &all {
        let is_matrix = value.shape().len() == 2;
        let stays = is_matrix && !name.contains(".gate.") && !name.contains("kv_b_proj");
        assert_eq!(!parameters.contains_key(name), stays, "{name}");
        if !stays {
            assert_bits(&parameters[name], value, name);
        }
    }
    // Their values are what was stored.
    let moe = |model: &DeepSeek| match &model.layers[1].mlp {
        FeedForward::Moe(moe) => moe.experts.gate_up.clone(),
        FeedForward::Dense(_) => unreachable!("layer 1 has experts"),
    };
    assert!(matches!(moe(&kept), Weight::Stored(_)));
    assert_eq!(moe(&kept).dims(), [4, 260, 140]);
    assert_bits(&moe(&kept).val().into_data(), &moe(&f32).val().into_data(), "experts");
    let two = |model: &DeepSeek| moe(model).with_experts(1..3).val().into_data();
    assert_bits(&two(&kept), &two(&f32), "two of the experts");
}

/// One tensor in F32 makes its whole parameter F32, and nothing else.
#[test]
fn a_weight_that_is_stored_in_several_ways_is_f32_or_mixed() {
    const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
    let (_, dir) = saved(&wide(&[]), &BF16);
    edit(dir.path(), |tensors| {
        let mut coded = tensors.clone();
        quantize(&mut coded);
        tensors.extend(coded.into_iter().filter(|(name, _)| name.starts_with(GATE)));
    });
    assert_same_outcome(dir.path(), "FP8 over BF16");
    let [_, kept] = both(dir.path());
    assert!(!named_parameters(&kept).contains_key(GATE));

    edit(dir.path(), |tensors| {
        let shape = tensors[GATE].shape.clone();
        let values = (0..shape.iter().product()).map(|i: usize| (i % 17) as f32 / 100.0);
        tensors.insert(GATE.into(), RawTensor::f32(&shape, values));
        tensors.remove(&format!("{GATE}_scale_inv"));
    });
    assert_same_outcome(dir.path(), "F32 over BF16");
    let [_, kept] = both(dir.path());
    let parameters = named_parameters(&kept);
    assert!(parameters.contains_key(GATE));
    assert!(!parameters.contains_key("model.layers.0.mlp.down_proj.weight"));
}

/// A header whose length is odd puts every tensor at an odd address.
#[test]
fn tensors_that_are_not_aligned_are_read_instead_of_mapped() {
    let (_, dir) = saved(&config(&[]), &BF16);
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let (text, data) = bytes[8..].split_at(header as usize);
    let odd = [&(header + 1).to_le_bytes()[..], text, b" ", data].concat();
    std::fs::write(&path, odd).unwrap();
    assert_same_outcome(dir.path(), "odd header");
}

#[test]
fn what_is_no_finite_number_is_refused_before_anything_is_said() {
    const DOWN: &str = "model.layers.1.mlp.experts.2.down_proj.weight";
    let refused = |dir: &Path| match load(dir, WeightForm::AsStored, &Device::flex()) {
        Err(WeightsError::NotFinite { name, found, position, .. }) => (name, found, position),
        other => panic!("{other:?}"),
    };
    let (_, dir) = saved(&wide(&[]), &BF16);
    edit(dir.path(), |tensors| {
        let bytes = &mut tensors.get_mut(DOWN).unwrap().bytes;
        bytes[2 * (3 * 130 + 7)..][..2].copy_from_slice(&0xFF80u16.to_le_bytes());
    });
    assert_eq!(refused(dir.path()), (DOWN.into(), "-inf".into(), vec![3, 7]));

    let (_, dir) = saved(&wide(&[]), &BF16);
    edit(dir.path(), quantize);
    edit(dir.path(), |tensors| tensors.get_mut(DOWN).unwrap().bytes[2 * 130 + 5] = 0x7F);
    let (name, found, position) = refused(dir.path());
    assert_eq!((name.as_str(), position), (DOWN, vec![2, 5]));
    assert!(found.contains("NaN code 0x7f"), "{found}");

    // A product that overflows.
    edit(dir.path(), |tensors| tensors.get_mut(DOWN).unwrap().bytes[2 * 130 + 5] = 0x7E);
    edit(dir.path(), |tensors| {
        let scale = tensors.get_mut(&format!("{DOWN}_scale_inv")).unwrap();
        scale.bytes[..4].copy_from_slice(&f32::MAX.to_le_bytes());
    });
    assert_eq!(refused(dir.path()).0, DOWN);
}

/// Where there may be gradients, weights are parameters.
#[test]
fn a_device_with_autodiff_gets_parameters() {
    let (_, dir) = saved(&config(&[]), &BF16);
    let model = load(dir.path(), WeightForm::AsStored, &Device::flex().autodiff()).unwrap();
    assert!(named_parameters(&model).contains_key("lm_head.weight"));
}

/// By Burn's own operations on the tensors as stored, as on devices without kernels for them.
#[test]
fn composed_operations_widen_the_same_values() {
    use crate::definition::StoredPiece;
    let (_, dir) = saved(&wide(&[]), &BF16);
    edit(dir.path(), quantize);
    let [f32, kept] = both(dir.path());
    let (Weight::Stored(stored), Weight::Stored(head)) =
        (&kept.layers[0].self_attn.o_proj.weight, &kept.lm_head.as_ref().unwrap().weight)
    else {
        panic!("they stay as they are stored")
    };
    assert!(matches!(stored.pieces(), [StoredPiece::E4m3 { .. }]));
    assert!(matches!(head.pieces(), [StoredPiece::Bf16(_)]));
    for (stored, expected) in [
        (stored, &f32.layers[0].self_attn.o_proj.weight),
        (head, &f32.lm_head.as_ref().unwrap().weight),
    ] {
        let values = crate::ops::stored::widen_composed(&stored.pieces()[0]);
        assert_bits(&values.into_data(), &expected.val().into_data(), "composed");
    }
}
