//! `deepseek bench scale`: how time and memory of a training step grow with the length of
//! sequences, experts, depth, width and micro-batch, and what two ranks take beside one.

mod axis;
mod bound;
mod child;
mod exponent;
mod progress;
mod row;
mod table;

use serde_json::json;

use self::axis::{Point, points};
use self::bound::{Bound, Rates};
use self::child::Children;
use self::progress::Progress;
use self::row::{Row, Seen};
use self::table::{faster, results, text};
use super::train::MEBI;
use super::{RUN, Repetitions};
use crate::cli::BenchScalingArgs;
use crate::commands::products::products_on_cpu;
use crate::config::{ConfigRequest, RunConfig};
use crate::device::SelectedDevice;
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::fold::{fold, width};
use crate::oversize::check_training;
use crate::signals::Signals;
use crate::stdout::write_stdout;

/// Repetitions of a point that count where `--reps` does not say.
const REPS: usize = 3;

/// Times every point of every axis, each in a process of its own.
///
/// # Errors
/// A setting or a device that is not there ([`crate::exit::USAGE`]); a point that fails
/// ([`crate::exit::FAILURE`]). One that does not fit into memory is a result.
pub(super) fn run(args: &BenchScalingArgs, signals: &Signals) -> Result<Outcome> {
    let selected = args.timing.device.open()?;
    let request = ConfigRequest {
        config: Some(RUN.into()),
        set: args.set.clone(),
        ..ConfigRequest::default()
    };
    let base = request.resolve()?;
    let mut axes = Vec::new();
    for &axis in &args.axes() {
        axes.push((axis, points(axis, &base, &request, args.max)?));
    }
    let rates = Rates::measure(&base, &selected)?;
    let reps = Repetitions::new(&args.timing, REPS);
    write_stdout(&fold(&heading(&base, &selected, rates, reps), width()))?;

    let children = Children::watched(args, reps, signals);
    let all: Vec<&Point> = axes.iter().flat_map(|(_, points)| points).collect();
    let mut progress = Progress::new(&all, rates, reps);
    let (mut measured, mut found) = (Vec::new(), Vec::new());
    for (axis, points) in &axes {
        let mut rows = Vec::new();
        for point in points {
            progress.begin(*axis, point);
            let row = row_of(point, rates, &selected, &children);
            progress.end();
            rows.push(row.with_context(|| format!("{} = {}", axis.name(), point.label))?);
        }
        write_stdout(&text(*axis, &rows, width()))?;
        found.extend(faster(*axis, &rows));
        measured.push(results(*axis, &rows));
    }
    for line in &found {
        write_stdout(&fold(&format!("{line}\n"), width()))?;
    }
    Ok(Outcome::done(json!({
        "command": "bench", "bench": "scale", "device": selected.name,
        "precision": base.precision.precision().name(),
        "peak_gflop_per_s": rates.map(|rates| rates.flops / 1e9),
        "copy_gb_per_s": rates.map(|rates| rates.bytes / 1e9),
        "axes": measured, "faster_than_must": found,
    })))
}

/// Measures a point, where there is room for it.
fn row_of(
    point: &Point,
    rates: Option<Rates>,
    selected: &SelectedDevice,
    children: &Children,
) -> Result<Row> {
    let remedy = "the point is left out";
    let seen = match check_training(&point.config, selected, false, remedy) {
        Err(refused) => Seen::LeftOut(refused.to_string()),
        Ok(()) => children.measure(point)?,
    };
    let bound = rates.map(|rates| Bound::of(&point.config, rates)).transpose()?;
    Ok(Row { point: point.clone(), bound, seen })
}

/// What is measured, and beside what.
fn heading(
    base: &RunConfig,
    selected: &SelectedDevice,
    rates: Option<Rates>,
    reps: Repetitions,
) -> String {
    let format = base.precision.precision().name().to_string();
    let products = products_on_cpu().filter(|_| selected.name == "flex");
    let products =
        products.map_or_else(String::new, |path| format!(" (products in BF16 and FP8: {path})"));
    let beside = rates.map_or_else(String::new, |rates| {
        format!(
            "what must be is the least time at {:.0} GFLOP/s and {:.1} GB/s, the peak of products \
             and a copy's rate as just measured, and memory on paper beside the {:.0} MiB of the \
             program itself\n",
            rates.flops / 1e9,
            rates.bytes / 1e9,
            rates.program_bytes / MEBI
        )
    });
    format!(
        "bench scale: training steps in {format}, on {}{products}, the fastest of {} after {}\n\
         {beside}\
         grows: the exponent from the row above, and in parentheses what it must be; ! where it is \
         more than {} above that\n",
        selected.name,
        reps.timed,
        reps.warmup,
        row::TOLERANCE
    )
}
