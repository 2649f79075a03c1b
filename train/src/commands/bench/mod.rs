//! `deepseek bench`: whole training steps, prefill and decoding, single kernels, or an exchange of
//! rows, timed at fixed settings.

mod dispatch;
mod generate;
mod kernels;
mod table;
mod train;
mod turns;

use burn_deepseek::backend::supports_fp8;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cli::{BenchArgs, BenchScale, BenchTarget};
use crate::config::{ConfigRequest, RunConfig};
use crate::device::SelectedDevice;
use crate::exit::Outcome;
use crate::failure::{Result, UsageError};
use crate::stdout::write_stdout;

pub(super) use table::median;
use turns::Turns;

/// The run whose model and optimizer are timed.
const RUN: &str = "bench";

/// Repetitions that count where `--reps` does not say.
const REPS: usize = 5;
/// Repetitions of kernels, which take microseconds: many turns cost little and noise is larger.
const KERNEL_REPS: usize = 15;

/// Times training, generation, kernels or an exchange.
///
/// # Errors
/// A setting or a device that is not there ([`crate::exit::USAGE`]), or one that fails
/// ([`crate::exit::FAILURE`]).
pub fn run(args: BenchArgs) -> Result<Outcome> {
    check_arguments(&args)?;
    let config = ConfigRequest {
        config: Some(RUN.into()),
        set: args.set.clone(),
        ..ConfigRequest::default()
    }
    .resolve()?;
    let selected = args.device.open()?;
    let timed = args
        .reps
        .map_or(if args.target.is_of_kernels() { KERNEL_REPS } else { REPS }, |reps| reps as usize);
    let reps = Repetitions { warmup: args.warmup as usize, timed };
    let table = match args.target {
        BenchTarget::Train => train::time(&config, &selected, reps)?,
        BenchTarget::Generate => generate::time(&config, &selected, reps)?,
        BenchTarget::Kernels => return kernels::run(&args, &selected, reps),
        BenchTarget::Dispatch => return dispatch::run(&args, &selected, reps),
    };
    write_stdout(&table.text())?;
    Ok(Outcome::done(table.results()))
}

/// Refuses an argument that another bench takes: ignored, it would seem to have been heeded.
fn check_arguments(args: &BenchArgs) -> Result<(), UsageError> {
    let kernels = args.target.is_of_kernels();
    let arguments = [
        ("--set", kernels && !args.set.is_empty(), "train and generate"),
        ("--scale", !kernels && args.scale.is_some(), "kernels and dispatch"),
        ("--only", !kernels && args.only.is_some(), "kernels and dispatch"),
    ];
    match arguments.iter().find(|(_, misplaced, _)| *misplaced) {
        Some((argument, _, targets)) => {
            Err(UsageError(format!("{argument} is of bench {targets} alone")))
        }
        None => Ok(()),
    }
}

/// How large the shapes of single operations are: as asked for, else what suits the device.
///
/// # Errors
/// A device without FP8 operations.
fn scale(args: &BenchArgs, selected: &SelectedDevice) -> Result<BenchScale, UsageError> {
    if !supports_fp8(&selected.device) {
        return Err(UsageError(format!(
            "bench {}: {} has no FP8 operations; take another --device",
            args.target.name(),
            selected.name
        )));
    }
    let suitable = if selected.on_cpu { BenchScale::Cpu } else { BenchScale::Gpu };
    Ok(args.scale.unwrap_or(suitable))
}

/// What is wrong where `--only` has left no row.
fn no_row(args: &BenchArgs, example: &str) -> UsageError {
    let only = args.only.as_deref().unwrap_or_default();
    UsageError(format!("--only {only}: no row is called so; names are as in \"{example}\""))
}

/// How often something is done, first without and then with a watch.
#[derive(Clone, Copy, Debug)]
struct Repetitions {
    warmup: usize,
    timed: usize,
}

/// `count` tokens of the model's vocabulary, the same for the same seed.
fn random_tokens(config: &RunConfig, count: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..config.model.vocab_size as u32)).collect()
}
