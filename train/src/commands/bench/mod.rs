//! `deepseek bench`: whole training steps, or prefill and decoding, timed at a fixed setting.

mod generate;
mod table;
mod train;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Outcome;
use crate::cli::{BenchArgs, BenchTarget};
use crate::config::{ConfigRequest, RunConfig};
use crate::exit::write_stdout;

pub(super) use table::median;

/// The run whose model and optimizer are timed.
const RUN: &str = "bench";

/// Times training or generation.
///
/// # Errors
/// A setting or a device that is not there ([`crate::exit::USAGE`]), or one that fails ([`crate::exit::FAILURE`]).
pub fn run(args: BenchArgs) -> Result<Outcome> {
    let config = ConfigRequest { config: Some(RUN.into()), set: args.set.clone(), ..ConfigRequest::default() }.resolve()?;
    let selected = args.device.open()?;
    let reps = Repetitions { warmup: args.warmup as usize, timed: args.reps as usize };
    let table = match args.target {
        BenchTarget::Train => train::time(&config, &selected, reps)?,
        BenchTarget::Generate => generate::time(&config, &selected, reps)?,
    };
    write_stdout(&table.text())?;
    Ok(Outcome::done(table.results()))
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
