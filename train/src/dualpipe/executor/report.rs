//! What the stages of a pipeline measured of a micro-batch, and their sum: one device's report.

use std::time::Duration;

use burn::tensor::{Device, Tensor};
use burn_deepseek::backend::fp8::Casts;
use burn_deepseek::{LossWeights, PartialLoss};

use super::chunk::Measured;
use super::step::RankReport;
use super::timeline::Span;
use crate::learner::{LayerLoad, PassDetail, RankUse, StepReport, Values};

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

/// A stage's pass over a micro-batch that was measured and not read.
#[derive(Debug)]
pub(super) struct Unread {
    pub micro_batch: usize,
    pub tokens: usize,
    pub measured: Measured,
}

impl StageReport {
    /// Reads what stages of one device measured, in their order, by one read; waits for the device.
    pub fn read(passes: Vec<Unread>) -> Vec<Self> {
        let of_passes = passes.iter().flat_map(|pass| pass.measured.tensors());
        let mut values = Values::read(of_passes);
        passes.into_iter().map(|pass| Self::of(pass, &mut values)).collect()
    }

    fn of(Unread { micro_batch, tokens, measured }: Unread, values: &mut Values) -> Self {
        let Measured { main, mtp, balances, loads, entropies } = measured;
        let main = main.and_then(|_| values.take(1).first().copied());
        let (mtp, balances) = (values.take(mtp.len()), values.take(balances.len()));
        let loads = loads.into_iter();
        let loads: Vec<LayerLoad> =
            loads.map(|(layer, loads)| LayerLoad { layer, loads: loads.read(values) }).collect();
        Self {
            micro_batch,
            main,
            mtp,
            balances: loads.iter().map(|load| load.layer).zip(balances).collect(),
            entropies: loads.iter().map(|load| load.layer).zip(entropies).collect(),
            loads,
            tokens,
        }
    }
}

/// What the stages of each micro-batch measured, summed as [`burn_deepseek::DeepSeek::loss`] does and
/// where it does: the same bits. One read of `device` for all of them.
pub(super) fn micro_batch_reports(
    micro_batches: impl IntoIterator<Item = Vec<StageReport>>,
    weights: &LossWeights,
    device: &Device,
) -> Vec<StepReport> {
    let (mut reports, sums): (Vec<StepReport>, Vec<PartialLoss>) =
        micro_batches.into_iter().map(|stages| micro_batch_report(stages, weights, device)).unzip();
    let of_sums = |sums: &PartialLoss| [sums.total.clone(), sums.balance.clone()];
    let mut values = Values::read(sums.iter().flat_map(of_sums).flatten());
    let mut value = |sum: &Option<Tensor<1>>| {
        let value = sum.as_ref().and_then(|_| values.take(1).first().copied());
        f64::from(value.unwrap_or_default())
    };
    for (report, PartialLoss { total, balance }) in reports.iter_mut().zip(&sums) {
        report.total_loss = value(total);
        report.balance_loss = value(balance);
    }
    reports
}

/// What the stages of a micro-batch measured, and the sums of its losses that are yet to be read.
fn micro_batch_report(
    mut stages: Vec<StageReport>,
    weights: &LossWeights,
    device: &Device,
) -> (StepReport, PartialLoss) {
    let scalar = |value: f32| Tensor::<1>::from_data([value], device);
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
    let sums = PartialLoss::new(Some((scalar(main), &mtp_losses)), balances, weights);
    let report = StepReport {
        loss: f64::from(main),
        mtp_losses: mtp.into_iter().map(f64::from).collect(),
        tokens,
        layer_loads,
        passes: PassDetail { gate_entropy, ..PassDetail::default() },
        ..StepReport::default()
    };
    (report, sums)
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
