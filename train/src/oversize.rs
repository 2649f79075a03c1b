//! Whether what a command is about to allocate can be there at all: an allocator that is asked for
//! too much ends the process, and a system that runs out of memory ends any process.

use burn_deepseek::config::{DeepSeekConfig, Keeping};
use sysinfo::System;

use crate::config::{MemoryEstimate, RunConfig};
use crate::device::SelectedDevice;
use crate::failure::UsageError;
use crate::metrics;

/// Refuses to train a run whose weights, gradients, moments and activations together are more than
/// the memory that is left. `elsewhere` says that the ranks are on other devices, so that only the
/// weights are here for sure.
///
/// # Errors
///
/// It does not fit, and by how much.
pub fn check_training(
    config: &RunConfig,
    device: &SelectedDevice,
    elsewhere: bool,
    remedy: &str,
) -> Result<(), UsageError> {
    let keeping = Keeping {
        precision: config.precision.precision(),
        recompute: config.precision.recompute,
        tokens: config.train.micro_batch.saturating_mul(config.train.seq_len),
    };
    let moment_bytes = config.optimizer.moment_bytes();
    let ema = config.ema.decay.is_some();
    let estimate = MemoryEstimate::of(&config.model, &keeping, moment_bytes, ema);
    let needed_bytes = if elsewhere { estimate.weights_bytes } else { estimate.total_bytes };
    let what =
        format!("training this model with train.micro_batch = {} needs", config.train.micro_batch);
    refuse_above(available_bytes(device), needed_bytes, &what, remedy)
}

/// Refuses a forward pass over more tokens than there is memory for; the weights aside, which are
/// mapped.
///
/// # Errors
///
/// It does not fit, and by how much.
pub fn check_forward(
    model: &DeepSeekConfig,
    tokens: usize,
    device: &SelectedDevice,
    remedy: &str,
) -> Result<(), UsageError> {
    let needed_bytes = MemoryEstimate::forward_bytes(model, tokens);
    let what = format!("a pass over {tokens} tokens needs");
    refuse_above(available_bytes(device), needed_bytes, &what, remedy)
}

/// Whether a device has so much memory to give; where that is not known, it has.
pub fn is_room_for(device: &SelectedDevice, needed_bytes: u64) -> bool {
    available_bytes(device).is_none_or(|available_bytes| needed_bytes <= available_bytes)
}

fn refuse_above(
    available_bytes: Option<u64>,
    needed_bytes: u64,
    what: &str,
    remedy: &str,
) -> Result<(), UsageError> {
    match available_bytes {
        Some(available_bytes) if needed_bytes > available_bytes => Err(UsageError(format!(
            "{what} about {} of memory, of which {} are available; {remedy}",
            gibibytes(needed_bytes),
            gibibytes(available_bytes)
        ))),
        _ => Ok(()),
    }
}

/// Memory that a device can still give; none where that is not known, as on a GPU.
fn available_bytes(device: &SelectedDevice) -> Option<u64> {
    if !device.on_cpu {
        return None;
    }
    let mut system = System::new();
    system.refresh_memory();
    metrics::available_bytes(&system)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    fn run(set: &[&str]) -> RunConfig {
        let set = set.iter().map(ToString::to_string).collect();
        ConfigRequest { set, ..ConfigRequest::default() }.resolve().unwrap()
    }

    #[test]
    fn a_run_that_fits_is_let_through_and_one_that_does_not_is_estimated() {
        let check = |set: &[&str], device: &SelectedDevice, elsewhere| {
            check_training(&run(set), device, elsewhere, "do otherwise")
        };
        assert!(check(&[], &SelectedDevice::flex(), false).is_ok());
        let batch = ["train.micro_batch=1048576", "schedule.global_batch=1048576"];
        let error = check(&batch, &SelectedDevice::flex(), false).unwrap_err().to_string();
        assert!(error.contains("train.micro_batch = 1048576 needs about"), "{error}");
        assert!(error.contains(" GiB are available; do otherwise"), "{error}");
        // A batch is where the ranks are; weights are here as well.
        assert!(check(&batch, &SelectedDevice::flex(), true).is_ok());
        let model = ["model.preset=deepseek-v3-671b"];
        assert!(check(&model, &SelectedDevice::flex(), true).is_err());
        let gpu = SelectedDevice { on_cpu: false, ..SelectedDevice::flex() };
        assert!(check(&model, &gpu, false).is_ok(), "its memory is not known");
    }

    #[test]
    fn a_pass_is_weighed_by_its_tokens() {
        let model = run(&[]).model;
        assert!(check_forward(&model, 4096, &SelectedDevice::flex(), "").is_ok());
        assert!(check_forward(&model, usize::MAX, &SelectedDevice::flex(), "").is_err());
    }

    #[test]
    fn the_limit_is_what_there_is() {
        assert!(refuse_above(Some(100), 100, "", "").is_ok());
        assert!(refuse_above(Some(99), 100, "", "").is_err());
        assert!(refuse_above(None, u64::MAX, "", "").is_ok());
        assert!(available_bytes(&SelectedDevice::flex()).is_some());
    }
}
