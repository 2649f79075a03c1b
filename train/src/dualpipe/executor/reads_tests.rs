//! How often a rank of a pipeline waits for a device that works asynchronously.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use burn::tensor::{Device, DeviceKind, Tensor};
use burn_deepseek::backend::share_streams;
use burn_deepseek::ops::host_reads;
use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::{Compute, DeepSeek, LossWeights, ModelPart, Precision, Stage};

use super::chunk::{ChunkSettings, InFlight};
use super::report::{StageReport, Unread, micro_batch_reports};
use crate::learner::reads_tests::{SEQ, batch, small_model};
use crate::learner::{EngineSettings, LayerLoad};

const MICRO_BATCHES: usize = 2;

/// Reads of the passes of a rank that has both stages of a model of 4 layers, the first of them
/// dense, and what was measured of the micro-batches.
fn reads(device: &Device, precision: Precision) -> (u64, Vec<StageReport>, LossWeights) {
    let config = small_model(4);
    let model = DeepSeek::init(&config, 3, device).unwrap();
    let stages = [
        Stage { layers: 0..2, begins: true, ends: false },
        Stage { layers: 2..4, begins: false, ends: true },
    ];
    let part = ModelPart::new(&model, &stages, 0..config.n_routed_experts);
    let weights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };
    let compute = Compute::new(precision, device).unwrap();
    let before = host_reads();
    let mut unread = Vec::new();
    for micro_batch in 0..MICRO_BATCHES {
        let pass = |stage: &Stage, input: Option<Tensor<2>>| {
            let batch = batch(1 + micro_batch as i32, device);
            let settings = ChunkSettings {
                compute: compute.clone(),
                engine: EngineSettings { micro_batch: 1, seq_len: SEQ, recompute: false },
                weights: &weights,
                device,
            };
            InFlight::forward(part.stage(stage), input, batch, settings)
        };
        let (rows, first, begun) = pass(&stages[0], None);
        let (_, second, ended) = pass(&stages[1], rows);
        for measured in [first, second] {
            unread.push(Unread { micro_batch, tokens: SEQ, measured });
        }
        let (gradient, _) = ended.backward(None, 0.5);
        begun.backward(gradient, 0.5);
    }
    let reports = StageReport::read(unread);
    (host_reads() - before, reports, weights)
}

/// One for the losses and the loads of all micro-batches and stages; and one for the sums that the
/// engine makes of them.
#[test]
fn what_a_rank_has_measured_is_read_once() {
    share_streams().expect("no test uses a device before");
    let gpu = Device::wgpu(DeviceKind::DefaultDevice);
    for precision in [Precision::F32, Precision::Fp8(Fp8Recipe::default())] {
        let (count, reports, weights) = reads(&gpu, precision);
        assert_eq!(count, 1, "{precision:?}");
        let (_, expected, _) = reads(&Device::flex(), precision);
        let of = |reports: Vec<StageReport>, device: &Device| {
            let mut of_micro_batches = vec![Vec::new(); MICRO_BATCHES];
            reports.into_iter().for_each(|own| of_micro_batches[own.micro_batch].push(own));
            micro_batch_reports(of_micro_batches, &weights, device)
        };
        let before = host_reads();
        let ours = of(reports, &gpu);
        assert_eq!(host_reads() - before, 1);
        let expected = of(expected, &Device::flex());
        assert_eq!(ours.len(), MICRO_BATCHES);
        for (ours, expected) in ours.iter().zip(&expected) {
            assert!(ours.balance_loss > 0.0 && ours.total_loss > ours.loss);
            assert!((ours.total_loss / expected.total_loss - 1.0).abs() < 1e-3);
            let layers = |loads: &[LayerLoad]| -> Vec<(usize, u64)> {
                loads.iter().map(|load| (load.layer, load.loads.iter().sum())).collect()
            };
            assert!(ours.layer_loads.len() >= 3, "layers with routers");
            assert_eq!(layers(&ours.layer_loads), layers(&expected.layer_loads));
        }
    }
}
