//! What passes measured, as it lies on their device, and the one read that brings it to the host.

use burn::tensor::Tensor;
use burn_deepseek::Losses;

use super::values::{Loads, Values};
use super::{LayerLoad, PassDetail, StepReport};

/// What one pass measured; nothing of it has been read yet.
#[derive(Debug)]
pub struct Measured {
    /// The total loss, the main one, that of balance where there is one, and those of MTP depths.
    losses: Vec<Tensor<1>>,
    has_balance: bool,
    tokens: usize,
    loads: Vec<(usize, Loads)>,
    gate_entropy: Vec<f64>,
}

impl Measured {
    /// What a pass over so many tokens gave.
    pub(super) fn new(losses: &Losses, tokens: usize) -> Self {
        let mut all = vec![losses.total.clone(), losses.main.clone()];
        all.extend(losses.balance.clone());
        all.extend(losses.mtp.iter().cloned());
        Self {
            losses: all.into_iter().map(without_autodiff).collect(),
            has_balance: losses.balance.is_some(),
            tokens,
            loads: losses.routings.iter().map(|r| (r.layer, Loads::of(r))).collect(),
            gate_entropy: losses.routings.iter().filter_map(|routing| routing.entropy).collect(),
        }
    }

    /// Its report; waits for the device.
    pub fn read(self) -> StepReport {
        let (reports, _) = read(vec![self], Vec::new());
        reports.into_iter().next().expect("invariant: a report for each pass")
    }

    /// Tensors that are to be read, in the order in which [`Measured::report`] takes them.
    fn tensors(&self) -> impl Iterator<Item = Tensor<1>> {
        let loads = self.loads.iter().filter_map(|(_, loads)| loads.tensor());
        self.losses.iter().cloned().chain(loads)
    }

    /// The report, of values of [`Measured::tensors`].
    fn report(self, values: &mut Values) -> StepReport {
        let losses = values.take(self.losses.len());
        let losses: Vec<f64> = losses.into_iter().map(f64::from).collect();
        let (balance_loss, mtp) = match self.has_balance {
            true => (losses[2], &losses[3..]),
            false => (0.0, &losses[2..]),
        };
        let loads = self.loads.into_iter();
        let loads = loads.map(|(layer, loads)| LayerLoad { layer, loads: loads.read(values) });
        StepReport {
            total_loss: losses[0],
            loss: losses[1],
            mtp_losses: mtp.to_vec(),
            balance_loss,
            tokens: self.tokens,
            layer_loads: loads.collect(),
            passes: PassDetail { gate_entropy: self.gate_entropy, ..PassDetail::default() },
            ..StepReport::default()
        }
    }
}

/// The reports of passes, and the values of other tensors of their device, by one read: each waits
/// for all that was asked of the device before.
pub(super) fn read(
    passes: Vec<Measured>,
    others: Vec<Tensor<1>>,
) -> (Vec<StepReport>, Vec<Vec<f32>>) {
    let of_passes = passes.iter().flat_map(Measured::tensors);
    let mut values = Values::read(of_passes.chain(others.iter().cloned()));
    let reports = passes.into_iter().map(|pass| pass.report(&mut values)).collect();
    let others = others.iter().map(|x| values.take(x.dims()[0])).collect();
    (reports, others)
}

/// A tensor without autodiff, whether it had it or not: what is kept must not keep a graph.
pub(super) fn without_autodiff(x: Tensor<1>) -> Tensor<1> {
    if x.is_autodiff() { x.inner() } else { x }
}
