//! How often a training step waits for a device that works asynchronously.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use burn_deepseek::backend::share_streams;
use burn_deepseek::ops::host_reads;
use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig, LossWeights, Precision};

use super::{
    AdamW, AdamWSettings, EngineSettings, LanguageModel, MomentFormat, SingleDevice, StepEngine,
};
use crate::config::resolve_model;
use crate::data::TokenBatch;
use crate::failure::Result;
use crate::schedule::StepSettings;

/// Tokens of a sequence.
pub const SEQ: usize = 16;

/// The configuration of a small model with so many layers, the first of them dense.
pub fn small_model(layers: usize) -> DeepSeekConfig {
    let small = [
        "hidden_size=32",
        "vocab_size=40",
        "moe_intermediate_size=16",
        "intermediate_size=32",
        "num_attention_heads=2",
        &format!("num_hidden_layers={layers}"),
        "first_k_dense_replace=1",
    ];
    let set: Vec<String> = small.iter().map(|key| format!("model.{key}")).collect();
    resolve_model(Some("tiny"), None, &set).unwrap()
}

/// A micro-batch of one sequence for it.
pub fn batch(first: i32, device: &Device) -> TokenBatch {
    let ids = |first: i32| {
        let ids: Vec<i32> = (0..SEQ as i32).map(|i| (first + i * i) % 40).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [1, SEQ]), device)
    };
    let (inputs, targets) = (ids(first), ids(2));
    TokenBatch { inputs, targets, tokens: SEQ, windows: [].into(), routing: None }
}

/// Reads of a step of two micro-batches on a model with so many layers, the first of them dense.
fn reads(layers: usize, precision: Precision) -> u64 {
    share_streams().expect("no test uses a device before");
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let config = small_model(layers);
    let model = DeepSeek::init(&config, 3, &device).unwrap();
    let compute = Compute::new(precision, &device).unwrap();
    let weights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };
    let model = LanguageModel::new(model, weights, 2, compute);
    let optimizer = AdamW::new(AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        clip_grad_norm: Some(1.0),
        moments: MomentFormat::F32,
    });
    let run = EngineSettings { micro_batch: 1, seq_len: SEQ, recompute: false };
    let on = run.training_device(&device);
    let mut engine = SingleDevice::new(model, optimizer, run);
    let settings = StepSettings {
        global_batch: 2,
        lr: 1e-3,
        bias_update_speed: 1e-3,
        seq_aux_alpha: 1e-4,
        mtp_lambda: 0.3,
    };
    let mut next = || -> Result<TokenBatch> { Ok(batch(1, &on)) };
    let before = host_reads();
    let report = engine.accumulate(&mut next, &settings, false).unwrap();
    let updated = engine.update(&settings, &report.layer_loads, false).unwrap();
    assert!(report.loss.is_finite() && updated.grad_norm > 0.0);
    host_reads() - before
}

/// One for the losses, the loads and the balance biases of all micro-batches and layers, and one for
/// the norm of all gradients.
#[test]
fn a_step_waits_twice_whatever_the_layers() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Fp8(Fp8Recipe::default())] {
        for layers in [2, 4] {
            assert_eq!(reads(layers, precision), 2, "{layers} layers, {precision:?}");
        }
    }
}
