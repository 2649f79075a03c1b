//! What the stages of a pipeline measured of a micro-batch, and their sum: one device's report.

use std::time::Duration;

use burn::tensor::{Device, Tensor};
use burn_deepseek::backend::fp8::Casts;
use burn_deepseek::{LossWeights, PartialLoss};

use super::chunk::Measured;
use super::step::RankReport;
use super::timeline::Span;
use crate::learner::{LayerLoad, PassDetail, RankUse, StepReport};

/// What a stage measured of a micro-batch.
#[derive(Clone, Debug)]
pub(super) struct StageReport {
    pub micro_batch: usize,
    pub main: Option<f32>,
    pub mtp: Vec<f32>,
    /// Layer and loss at alpha = 1.
    pub balances: Vec<(usize, f32)>,
    pub loads: Vec<LayerLoad>,
    /// Layer and entropy of its router, in a detailed step.
    pub entropies: Vec<(usize, f64)>,
    pub tokens: usize,
}

impl StageReport {
    /// Reads what a stage measured of a micro-batch of `tokens` tokens; waits for the device.
    pub fn read(micro_batch: usize, tokens: usize, measured: Measured) -> Self {
        let Measured { main, mtp, balances, loads, entropies } = measured;
        let counts = (usize::from(main.is_some()), mtp.len());
        let scalars: Vec<Tensor<1>> = main.into_iter().chain(mtp).chain(balances).collect();
        let values: Vec<f32> = if scalars.is_empty() {
            Vec::new()
        } else {
            Tensor::cat(scalars, 0).into_data().iter::<f32>().collect()
        };
        let (main, rest) = values.split_at(counts.0);
        let (mtp, balances) = rest.split_at(counts.1);
        Self {
            micro_batch,
            main: main.first().copied(),
            mtp: mtp.to_vec(),
            balances: loads.iter().map(|load| load.layer).zip(balances.iter().copied()).collect(),
            entropies: loads.iter().map(|load| load.layer).zip(entropies).collect(),
            loads,
            tokens,
        }
    }
}

/// What all stages measured of a micro-batch, summed as [`burn_deepseek::DeepSeek::loss`] does.
pub(super) fn micro_batch_report(
    mut stages: Vec<StageReport>,
    weights: &LossWeights,
    device: &Device,
) -> StepReport {
    let scalar = |value: f32| Tensor::<1>::from_data([value], device);
    let read = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
    stages.sort_by_key(|stage| stage.loads.first().map_or(0, |load| load.layer));
    let end = stages
        .iter()
        .find(|stage| stage.main.is_some())
        .expect("invariant: some stage has the end of the model");
    let (main, mtp) = (end.main.unwrap_or_default(), end.mtp.clone());
    let tokens = end.tokens;
    let mut balances: Vec<(usize, f32)> =
        stages.iter().flat_map(|stage| stage.balances.iter().copied()).collect();
    balances.sort_by_key(|(layer, _)| *layer);
    let mut layer_loads: Vec<LayerLoad> =
        stages.iter().flat_map(|stage| stage.loads.iter().cloned()).collect();
    layer_loads.sort_by_key(|load| load.layer);
    let mut entropies: Vec<(usize, f64)> =
        stages.iter().flat_map(|stage| stage.entropies.iter().copied()).collect();
    entropies.sort_by_key(|(layer, _)| *layer);
    let gate_entropy = entropies.into_iter().map(|(_, entropy)| entropy).collect();
    let mtp_losses: Vec<Tensor<1>> = mtp.iter().map(|&loss| scalar(loss)).collect();
    let balances = balances.into_iter().map(|(_, loss)| scalar(loss)).collect();
    let PartialLoss { total, balance } =
        PartialLoss::new(Some((scalar(main), &mtp_losses)), balances, weights);
    StepReport {
        total_loss: read(total.expect("invariant: there is a main loss")),
        loss: f64::from(main),
        mtp_losses: mtp.into_iter().map(f64::from).collect(),
        balance_loss: balance.map_or(0.0, read),
        tokens,
        layer_loads,
        passes: PassDetail { gate_entropy, ..PassDetail::default() },
        ..StepReport::default()
    }
}

/// How the passes of a step went on its ranks, whether or not they share experts.
pub(super) fn passes_of(ranks: &[RankReport], share_experts: bool) -> PassDetail {
    let mean = |of: &dyn Fn(&RankReport) -> Duration| {
        ranks.iter().map(of).sum::<Duration>().as_secs_f64() / ranks.len().max(1) as f64
    };
    let mut casts: Option<Casts> = None;
    for of_rank in ranks.iter().filter_map(|rank| rank.casts.as_ref()) {
        casts.get_or_insert_default().absorb(of_rank);
    }
    PassDetail {
        forward_seconds: mean(&|rank| rank.times.forward),
        backward_seconds: mean(&|rank| rank.times.backward),
        exchange_seconds: share_experts.then(|| mean(&|rank| rank.mail.waited_for_experts)),
        exchange_hidden_seconds: share_experts.then(|| mean(&|rank| rank.mail.hidden)),
        gate_entropy: Vec::new(),
        casts,
        ranks: ranks.iter().map(use_of).collect(),
    }
}

fn use_of(rank: &RankReport) -> RankUse {
    let RankReport { spans, times, mail, .. } = rank;
    let computed: Duration = spans.iter().map(Span::computed).sum();
    let waited: Duration = spans.iter().map(|span| span.waited).sum();
    RankUse {
        busy_seconds: computed.saturating_sub(times.idle).as_secs_f64(),
        waiting_seconds: (waited + times.idle).as_secs_f64(),
        sent_bytes: mail.sent_bytes,
    }
}
