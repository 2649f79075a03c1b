//! What a step must take at least on this machine, by its arithmetic and by the bytes of its
//! weights.

use std::time::Instant;

use burn_deepseek::config::Keeping;

use super::super::baseline::Baseline;
use super::super::train::{operations, products_path};
use crate::config::{MemoryEstimate, RunConfig};
use crate::device::SelectedDevice;
use crate::failure::{Failure, Result};
use crate::metrics::peak_resident_bytes;
use crate::plan::Work;
use crate::schedule::Position;

/// Bytes of the copy that is timed: more than caches hold.
const COPY_BYTES: usize = 1 << 28;
/// Copies, of which the fastest counts; the first one also takes the pages.
const COPIES: usize = 4;
/// What forward and backward move of a weight in FP32: it is read in both, and its gradient is
/// written.
const WEIGHT_BYTES: f64 = 3.0 * 4.0;
/// What the update moves of a weight in FP32: its gradient is read for the norm and for the update,
/// itself read and written.
const UPDATE_BYTES: f64 = 4.0 * 4.0;
/// Forward moves what is no product once, backward twice.
const PASSES: f64 = 3.0;

/// What the machine does at best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// Operations a second of products in the format of most of them.
    pub flops: f64,
    /// Bytes a second of a copy, read and written.
    pub bytes: f64,
    /// Memory of a program that has opened the device and done nothing.
    pub program_bytes: f64,
}

impl Rates {
    /// Measures them, in a part of a second; none where the device is not the CPU itself.
    pub fn measure(config: &RunConfig, selected: &SelectedDevice) -> Result<Option<Self>> {
        let Some(path) = products_path(config, selected) else { return Ok(None) };
        let program_bytes = peak_resident_bytes().unwrap_or(0) as f64;
        let flops = path.peak_flops().map_err(|error| Failure::new(error.to_string()))?;
        let copy = Baseline::of(selected).copy(COPY_BYTES, &selected.device);
        let seconds = (0..COPIES).map(|_| {
            let begin = Instant::now();
            copy();
            begin.elapsed().as_secs_f64()
        });
        let least = seconds.fold(f64::INFINITY, f64::min).max(1e-9);
        Ok(Some(Self { flops, bytes: COPY_BYTES as f64 / least, program_bytes }))
    }
}

/// The least that a step takes. How it grows from one point to the next is how the step must grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound {
    /// Milliseconds of forward and backward: all products at their peak, and what is no product,
    /// the weights and their gradients at the rate of a copy.
    pub gradients_ms: f64,
    /// Milliseconds of the update: gradients, weights and moments at the rate of a copy.
    pub optimizer_ms: f64,
    /// Weights, gradients, moments and activations on paper, and the program itself.
    pub memory_bytes: f64,
}

impl Bound {
    /// Of the first step of a run.
    pub fn of(config: &RunConfig, rates: Rates) -> Result<Self> {
        let (train, model) = (&config.train, &config.model);
        let settings = config.schedule()?.at(Position::default());
        let tokens = settings.global_batch.saturating_mul(train.seq_len);
        let micro_batches = (settings.global_batch / train.micro_batch) as f64;
        let precision = config.precision.precision();
        let parameters = model.parameter_counts().total_with_mtp() as f64;
        let moment_bytes = config.optimizer.moment_bytes();
        let keeping = Keeping {
            precision,
            recompute: config.precision.recompute,
            tokens: train.micro_batch.saturating_mul(train.seq_len),
        };
        let ema = config.ema.decay.is_some();
        let memory = MemoryEstimate::of(model, &keeping, moment_bytes, ema);
        let moved = Work::new(model, &precision, train.seq_len).total().bytes;
        let flops = operations(config, settings.mtp_lambda != 0.0, tokens);
        let gradient_bytes =
            PASSES * moved * tokens as f64 + WEIGHT_BYTES * parameters * micro_batches;
        // Both moments are read and written.
        let update_bytes = (UPDATE_BYTES + 4.0 * moment_bytes as f64) * parameters;
        Ok(Self {
            gradients_ms: 1e3 * (flops / rates.flops + gradient_bytes / rates.bytes),
            optimizer_ms: 1e3 * update_bytes / rates.bytes,
            memory_bytes: memory.total_bytes as f64 + rates.program_bytes,
        })
    }

    /// Milliseconds of the step.
    pub fn step_ms(&self) -> f64 {
        self.gradients_ms + self.optimizer_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    fn bound(set: &[&str], rates: Rates) -> Bound {
        let set = set.iter().map(ToString::to_string).collect();
        let request = ConfigRequest { config: Some("bench".into()), set, ..Default::default() };
        Bound::of(&request.resolve().unwrap(), rates).unwrap()
    }

    const ONLY_ARITHMETIC: Rates = Rates { flops: 1e12, bytes: f64::INFINITY, program_bytes: 0.0 };
    const ONLY_BYTES: Rates = Rates { flops: f64::INFINITY, bytes: 1e10, program_bytes: 0.0 };

    #[test]
    fn twice_the_tokens_are_twice_the_arithmetic() {
        let one = bound(&[], ONLY_ARITHMETIC);
        let two = bound(&["schedule.global_batch=16"], ONLY_ARITHMETIC);
        assert!((two.gradients_ms / one.gradients_ms - 2.0).abs() < 1e-12);
        assert_eq!((one.optimizer_ms, two.memory_bytes), (0.0, one.memory_bytes));
        // Some 34 GFLOP.
        assert!((30.0..40.0).contains(&one.gradients_ms), "{one:?}");
    }

    #[test]
    fn experts_cost_bytes_alone() {
        let (few, many) = ("model.n_routed_experts=8", "model.n_routed_experts=256");
        let [one, other] = [few, many].map(|set| bound(&[set], ONLY_ARITHMETIC));
        // The router alone.
        assert!((1.0..1.15).contains(&(other.gradients_ms / one.gradients_ms)));
        let [one, other] = [few, many].map(|set| bound(&[set], ONLY_BYTES));
        // From 5.6M to 79M parameters.
        let ratio = other.optimizer_ms / one.optimizer_ms;
        assert!((13.0..15.0).contains(&ratio), "{ratio}");
        // 5,604,248 parameters with moments in FP32.
        let one = bound(&[few, "optimizer.moments=f32"], ONLY_BYTES);
        let bytes = 5_604_248.0 * 32.0;
        assert!((one.optimizer_ms - bytes / 1e7).abs() < 1e-9, "{one:?}");
    }

    #[test]
    fn the_program_itself_is_memory_too() {
        let with = Rates { program_bytes: 1e8, ..ONLY_BYTES };
        let bytes = bound(&[], with).memory_bytes - bound(&[], ONLY_BYTES).memory_bytes;
        assert!((bytes - 1e8).abs() < 1.0, "{bytes}");
    }

    #[test]
    fn rates_are_those_of_the_cpu_and_of_nothing_else() {
        let flex = SelectedDevice::flex();
        let config =
            ConfigRequest { config: Some("bench".into()), ..Default::default() }.resolve().unwrap();
        let rates = Rates::measure(&config, &flex).unwrap().unwrap();
        assert!((1e7..1e15).contains(&rates.flops) && (1e7..1e13).contains(&rates.bytes));
        let gpu = SelectedDevice { name: "wgpu:0".into(), on_cpu: false, ..flex };
        assert!(Rates::measure(&config, &gpu).unwrap().is_none());
    }
}
