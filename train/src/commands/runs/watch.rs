//! `runs watch`: a run as it goes on, in the terminal or in plain lines.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::results_of;
use crate::cli::RunsWatchArgs;
use crate::commands::facts::facts;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::fold_on_terminal;
use crate::metrics::{Progress, evaluation_line};
use crate::record::{Line, Record, RecordError, StepLine};
use crate::run_lock::RunLock;
use crate::runs::RunSummary;
use crate::signals::Signals;
use crate::stdout::write_stdout;
use crate::terminal;

/// How often the record is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Shows a run until its watcher leaves, or in plain lines until it is no longer trained.
pub(super) fn run(args: &RunsWatchArgs, signals: &Signals) -> Result<Outcome> {
    let (folder, json) = (&args.run.run, args.run.json);
    let run = RunSummary::read(folder)?;
    if !args.plain && !json && terminal::is_there() {
        terminal::watch(facts(folder, &run.config, run.planned_steps), signals)?;
    } else {
        follow(folder, &run, json)?;
    }
    let mut results = results_of(&RunSummary::read(folder)?);
    results["command"] = json!("runs watch");
    Ok(Outcome::done(results))
}

/// Follows a run until nobody trains it, with a line for each that its training printed.
fn follow(folder: &Path, run: &RunSummary, silent: bool) -> Result<()> {
    let every = run.config.train.log_every.max(1);
    let (mut record, mut last) = (Record::of_run(folder), 0);
    loop {
        // What is written between the look at the lock and the read is read.
        let is_trained = RunLock::is_taken(folder);
        if record.was_cut() {
            // Resumed: what is there up to where it goes on from was told before.
            record = Record::of_run(folder);
            read(&mut record, |_| Ok(()))?;
        }
        read(&mut record, |line| {
            let step = line.stamp().step;
            let told = match &line {
                Line::Step(line) if step % every == 0 || last == 0 || step == run.planned_steps => {
                    step_line(line, run.planned_steps)
                }
                Line::Evaluation(line) => {
                    evaluation_line(step, line.valid_loss, line.valid_bits_per_byte)
                }
                Line::Alert(line) => {
                    format!("{}: step {step}: {}", line.level.name(), line.message)
                }
                Line::Step(_) | Line::Sample(_) | Line::System(_) => String::new(),
            };
            if matches!(line, Line::Step(_)) {
                last = step;
            }
            if silent || told.is_empty() {
                return Ok(());
            }
            write_stdout(&fold_on_terminal(told + "\n"))
        })?;
        if !is_trained {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Gives the lines that were added and can be read.
fn read(record: &mut Record, mut each: impl FnMut(Line) -> Result<()>) -> Result<()> {
    let mut failed = Ok(());
    loop {
        let added = record.added(|line| {
            if failed.is_ok() {
                failed = each(line);
            }
        });
        match added {
            Err(RecordError::Line { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return failed,
        }
    }
}

fn step_line(line: &StepLine, steps: u64) -> String {
    let left = steps.saturating_sub(line.stamp.step) as f64;
    let pace = line.stamp.elapsed_seconds / line.stamp.step.max(1) as f64;
    Progress {
        step: line.stamp.step,
        steps,
        loss: Some(line.loss),
        mtp: line.mtp_losses.first().copied(),
        grad_norm: Some(line.grad_norm),
        lr: Some(line.lr),
        violation: line.experts.max_violation,
        speed: Some(line.tokens_per_second),
        left: Some(pace * left),
    }
    .line()
}
