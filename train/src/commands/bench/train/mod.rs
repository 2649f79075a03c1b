//! Whole training steps by the engine that trains, and their parts.

mod arithmetic;
mod timed;

use self::arithmetic::GIGA;
pub(super) use self::arithmetic::{operations, products_path};
pub(super) use self::timed::Timed;
use self::timed::Work;
use super::table::{Table, Times};
use super::{REPS, Repetitions, open, resolve, tell};
use crate::cli::BenchTrainArgs;
use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::dualpipe::Cluster;
use crate::exit::Outcome;
use crate::failure::{Failure, Result};
use crate::learner::{Ema, EmaSettings};
use crate::metrics::peak_resident_bytes;

/// Names of rows, by which `bench scale` finds them.
pub(super) const STEP: &str = "step";
pub(super) const TRAINING: &str = "training";
pub(super) const GRADIENTS: &str = "forward and backward";
pub(super) const OPTIMIZER: &str = "optimizer";
pub(super) const PEAK_MEMORY: &str = "peak memory";
pub(super) const RATE: &str = "rate";
const FORWARD: &str = "forward";
const ARITHMETIC: &str = "arithmetic";
const PEAK_RATE: &str = "peak rate";
const LAUNCHES: &str = "launches";
const WAITS: &str = "waits";
const AVERAGED: &str = "step, weights averaged";

/// Whether a row of this name has the peak of products.
pub(super) fn is_peak_rate(name: &str) -> bool {
    name.starts_with(PEAK_RATE)
}

/// Bytes of a mebibyte.
pub(super) const MEBI: f64 = (1 << 20) as f64;

/// Times training steps, and beside them those of other settings.
///
/// # Errors
/// A setting or a device that is not there, or a device that fails.
pub(super) fn run(args: &BenchTrainArgs) -> Result<Outcome> {
    let BenchTrainArgs { model, beside } = args;
    let config = resolve(model, &[])?;
    let others = beside.iter().map(|value| resolve(model, std::slice::from_ref(value)));
    let others: Vec<RunConfig> = others.collect::<Result<_>>()?;
    let settings: Vec<&RunConfig> = std::iter::once(&config).chain(&others).collect();
    let selected = open(model, &settings)?;
    let others: Vec<_> = beside.iter().map(String::as_str).zip(&others).collect();
    let reps = Repetitions::new(&model.timing, REPS);
    tell(time(&config, &others, &selected, reps)?, &selected)
}

/// Another setting, which takes its steps in turn with the first.
struct Other<'a> {
    /// The value in which it differs.
    value: &'a str,
    timed: Timed<'a>,
    steps: Times,
}

/// Times the first step of a run again and again: by itself, with the weights averaged beside it
/// where the configuration has that, on one device its forward passes alone, and the step of every
/// other setting. They take turns, so that what else the machine does falls on all of them.
fn time(
    config: &RunConfig,
    others: &[(&str, &RunConfig)],
    selected: &SelectedDevice,
    reps: Repetitions,
) -> Result<Table> {
    let mut timed = Timed::new(config, selected)?;
    let mut ema = match config.ema.decay {
        Some(decay) => {
            let settings = EmaSettings { decay, every: config.ema.every };
            Some(Ema::new(settings, &timed.model()?.model)?)
        }
        None => None,
    };
    let other = |&(value, config)| {
        Ok(Other { value, timed: Timed::new(config, selected)?, steps: Times::new() })
    };
    let mut others: Vec<Other<'_>> = others.iter().map(other).collect::<Result<_>>()?;
    let (mut steps, mut averaged_steps) = (Times::new(), Times::new());
    let (mut forward, mut gradients, mut update) = (Times::new(), Times::new(), Times::new());
    for rep in 0..reps.warmup.saturating_add(reps.timed) {
        let counts = rep >= reps.warmup;
        let step = timed.step(None)?;
        if counts {
            steps.push(step.total_ms());
            gradients.push(step.gradients_ms);
            update.push(step.update_ms);
        }
        for Other { timed, steps, .. } in &mut others {
            let step = timed.step(None)?;
            if counts {
                steps.push(step.total_ms());
            }
        }
        if let Some(ema) = &mut ema {
            let step = timed.step(Some(ema))?;
            if counts {
                averaged_steps.push(step.total_ms());
            }
        }
        if let Some(forward_ms) = timed.forward()?
            && counts
        {
            forward.push(forward_ms);
        }
    }

    let mut table = Table::new("train", setting(config, &timed, reps), &selected.name);
    table.time(STEP, &steps);
    table.speed(TRAINING, timed.tokens(), &steps);
    for (name, times) in [(FORWARD, &forward), (GRADIENTS, &gradients), (OPTIMIZER, &update)] {
        if !times.is_empty() {
            table.time(name, times);
            table.compare(name, STEP);
        }
    }
    if selected.name != "flex" {
        let Work { launches, waits } = timed.count()?;
        table.figure(LAUNCHES, "kernels", launches as f64);
        table.figure(WAITS, "reads", waits as f64);
    }
    if ema.is_some() {
        table.time(AVERAGED, &averaged_steps);
        table.compare(AVERAGED, STEP);
    }
    for Other { value, steps: others, .. } in &others {
        table.time_in_turn(&format!("{STEP}, {value}"), others, STEP, &steps);
    }
    // Of several settings it would be the memory of all.
    if others.is_empty()
        && let Some(bytes) = peak_resident_bytes()
    {
        table.figure(PEAK_MEMORY, "MiB", bytes as f64 / MEBI);
    }
    let operations = operations(config, timed.runs_mtp(), timed.tokens());
    table.figure(ARITHMETIC, "GFLOP", operations / GIGA);
    table.per_second(RATE, "GFLOP/s", operations / GIGA, &steps);
    if let Some(path) = products_path(config, selected) {
        // The ceiling of products on this path, measured when the steps are over.
        let flops = path.peak_flops().map_err(|error| Failure::new(error.to_string()))?;
        let name = format!("{PEAK_RATE} ({path})");
        table.figure(&name, "GFLOP/s", flops / GIGA);
        table.compare(RATE, &name);
    }
    Ok(table)
}

/// What is timed, in words.
fn setting(config: &RunConfig, timed: &Timed, reps: Repetitions) -> String {
    let (train, sequences) = (&config.train, timed.sequences());
    let pieces = match train.micro_batch {
        all if all == sequences => String::new(),
        some => format!(" in micro-batches of {some}"),
    };
    let ranks = timed.ranks().map(Cluster::describe);
    format!(
        "{} parameters, {sequences} x {} tokens a step{pieces}{}, median of {} after {}",
        config.model.parameter_counts().total,
        train.seq_len,
        ranks.map_or_else(String::new, |ranks| format!(", ranks {ranks}")),
        reps.timed,
        reps.warmup
    )
}
