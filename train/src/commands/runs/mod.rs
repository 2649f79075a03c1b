//! `deepseek runs`: the runs that lie in folders: listed, watched, compared, exported, labelled,
//! deleted.

mod compare;
mod event_files;
mod exchange;
mod export;
mod label;
mod list;
mod show;
mod watch;

pub(in crate::commands) use compare::{differences, rows};

use serde_json::{Value, json};

use crate::cli::{RunsArgs, RunsTarget};
use crate::exit::Outcome;
use crate::failure::{Result, UsageError};
use crate::runs::RunSummary;
use crate::signals::Signals;

/// Does what is asked with runs.
///
/// # Errors
///
/// A folder without a run, labels that do not fit, a file that is there already
/// ([`crate::exit::USAGE`]); what cannot be read or written ([`crate::exit::FAILURE`]).
pub fn run(args: RunsArgs, signals: &Signals) -> Result<Outcome> {
    match args.target {
        RunsTarget::List(args) => list::run(&args),
        RunsTarget::Show(args) => show::run(&args),
        RunsTarget::Watch(args) => watch::run(&args, signals),
        RunsTarget::Compare(args) => compare::run(&args),
        RunsTarget::Export(args) => match (&args.tensorboard, &args.out) {
            (Some(folder), _) => event_files::run(&args, folder),
            (None, Some(out)) => export::run(&args, out),
            // The arguments demand one of the two.
            (None, None) => {
                Err(UsageError("runs export needs --out or --tensorboard".into()).into())
            }
        },
        RunsTarget::Tag(args) => label::tag(&args),
        RunsTarget::Note(args) => label::note(&args),
        RunsTarget::Archive(args) => label::archive(&args),
        RunsTarget::Delete(args) => label::delete(&args),
    }
}

/// What is known of a run, as `--json` gives it.
fn results_of(run: &RunSummary) -> Value {
    json!({
        "run": run.folder,
        "state": run.state,
        "steps": run.steps(),
        "planned_steps": run.planned_steps,
        "tokens": run.step.as_ref().map(|step| step.stamp.tokens),
        "seconds": run.step.as_ref().map(|step| step.stamp.elapsed_seconds),
        "seconds_left": run.seconds_left(),
        "loss": run.step.as_ref().map(|step| step.loss),
        "valid_loss": run.evaluation.as_ref().map(|line| line.valid_loss),
        "best_valid_loss": run.best.map(|(_, loss)| loss),
        "best_step": run.best.map(|(step, _)| step),
        "tokens_per_second": run.tokens_per_second(),
        "max_violation": run.step.as_ref().and_then(|step| step.experts.max_violation),
        "infos": run.alerts[0],
        "warnings": run.alerts[1],
        "errors": run.alerts[2],
        "begun": run.times.as_ref().map(|(first, _)| first),
        "updated": run.times.as_ref().map(|(_, last)| last),
        "unreadable_lines": run.unreadable_lines,
        "tags": run.labels.tags,
        "note": run.labels.note,
        "archived": run.labels.archived,
    })
}

/// A loss as tables have it.
fn loss(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.4}"))
}

/// Names of the columns that tables of runs begin with.
const COLUMNS: [&str; 7] = ["<run", "<state", "step", "loss", "valid", "best", "tokens/s"];

/// What a run has in them.
fn cells(run: &RunSummary) -> [String; 7] {
    let step = run.step.as_ref();
    [
        run.folder.display().to_string(),
        run.state.name().into(),
        format!("{}/{}", run.steps(), run.planned_steps),
        loss(step.map(|step| step.loss)),
        loss(run.evaluation.as_ref().map(|line| line.valid_loss)),
        loss(run.best.map(|(_, loss)| loss)),
        run.tokens_per_second().map_or_else(|| "-".into(), |speed| format!("{speed:.0}")),
    ]
}

/// Warnings and errors, where there are any.
fn alerts(run: &RunSummary) -> String {
    let [_, warnings, errors] = run.alerts;
    let said = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    let all = [said(errors, "error"), said(warnings, "warning")];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
