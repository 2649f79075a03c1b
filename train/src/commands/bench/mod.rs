//! `deepseek bench`: whole training steps, how they scale, prefill and decoding, single kernels, an
//! exchange of rows, or the way between ranks, timed at fixed settings.

mod baseline;
mod dispatch;
mod generate;
mod kernels;
mod links;
mod scale;
mod table;
mod train;
mod turns;

use burn_deepseek::backend::{compose_all, supports_fp8};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cli::{
    BenchArgs, BenchModelArgs, BenchOperationArgs, BenchScale, BenchTarget, TimingArgs,
};
use crate::commands::products::products_on;
use crate::config::{ConfigRequest, RunConfig};
use crate::device::SelectedDevice;
use crate::exit::Outcome;
use crate::failure::{Result, UsageError};
use crate::fold::width;
use crate::oversize::check_training;
use crate::signals::Signals;
use crate::stdout::write_stdout;

use table::Table;
pub(super) use table::median;
use turns::Turns;

/// The run whose model and optimizer are timed.
const RUN: &str = "bench";

/// Repetitions that count where `--reps` does not say.
const REPS: usize = 5;
/// Repetitions of kernels, which take microseconds: many turns cost little and noise is larger.
const KERNEL_REPS: usize = 15;

/// Times training, generation, kernels or an exchange; a signal ends it at once.
///
/// # Errors
/// A setting or a device that is not there ([`crate::exit::USAGE`]), or one that fails
/// ([`crate::exit::FAILURE`]).
pub fn run(args: BenchArgs, signals: &Signals) -> Result<Outcome> {
    match &args.target {
        BenchTarget::Train(args) => train::run(args),
        BenchTarget::Scale(args) => scale::run(args, signals),
        BenchTarget::Generate(args) => generate::run(args),
        BenchTarget::Kernels(args) => kernels::run(args),
        BenchTarget::Dispatch(args) => dispatch::run(args),
        BenchTarget::Links(args) => links::run(args),
    }
}

/// The setting that is timed, with these values over it too.
fn resolve(args: &BenchModelArgs, more: &[String]) -> Result<RunConfig> {
    let request = ConfigRequest {
        config: Some(RUN.into()),
        set: [args.set.as_slice(), more].concat(),
        ..ConfigRequest::default()
    };
    Ok(request.resolve()?)
}

/// Opens the device on which each of these settings is timed.
fn open(args: &BenchModelArgs, settings: &[&RunConfig]) -> Result<SelectedDevice> {
    if args.composed {
        compose_all();
    }
    let selected = args.timing.device.open()?;
    for config in settings {
        check_training(config, &selected, false, "take a smaller model or train.micro_batch")?;
    }
    Ok(selected)
}

/// Prints the figures of a bench.
fn tell(table: Table, selected: &SelectedDevice) -> Result<Outcome> {
    let table = table.with_products(products_on(&selected.name, &selected.device));
    write_stdout(&table.text(width()))?;
    Ok(Outcome::done(table.results()))
}

/// How large the shapes of single operations are: as asked for, else what suits the device.
///
/// # Errors
/// A device without FP8 operations.
fn shapes(args: &BenchOperationArgs, selected: &SelectedDevice) -> Result<BenchScale, UsageError> {
    if !supports_fp8(&selected.device) {
        return Err(UsageError(format!(
            "{} has no FP8 operations; take another --device",
            selected.name
        )));
    }
    let suitable = if selected.on_cpu { BenchScale::Cpu } else { BenchScale::Gpu };
    Ok(args.scale.unwrap_or(suitable))
}

/// What is wrong where `--only` has left no row.
fn no_row(args: &BenchOperationArgs, example: &str) -> UsageError {
    let only = args.only.as_deref().unwrap_or_default();
    UsageError(format!("--only {only}: no row is called so; names are as in \"{example}\""))
}

/// How often something is done, first without and then with a watch.
#[derive(Clone, Copy, Debug)]
struct Repetitions {
    warmup: usize,
    timed: usize,
}

impl Repetitions {
    /// As the command line has them; `usual` count where it does not say.
    fn new(args: &TimingArgs, usual: usize) -> Self {
        let timed = args.reps.map_or(usual, |reps| usize::try_from(reps).unwrap_or(usize::MAX));
        Self { warmup: args.warmup, timed }
    }
}

/// `count` tokens of the model's vocabulary, the same for the same seed.
fn random_tokens(config: &RunConfig, count: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..config.model.vocab_size as u32)).collect()
}
