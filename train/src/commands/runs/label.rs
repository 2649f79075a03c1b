//! `runs tag`, `note`, `archive` and `delete`: what people write on a run, and its end.

use serde_json::json;

use super::results_of;
use crate::cli::{RunArgs, RunsArchiveArgs, RunsDeleteArgs, RunsNoteArgs, RunsTagArgs};
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::record::RunState;
use crate::run_lock::RunLock;
use crate::runs::{Labels, RunSummary};
use crate::stdout::write_stdout;

/// Adds tags, or takes them away.
pub(super) fn tag(args: &RunsTagArgs) -> Result<Outcome> {
    labelled(&args.run, "runs tag", |labels| {
        for tag in &args.tags {
            if args.remove {
                labels.tags.remove(tag);
            } else {
                labels.tags.insert(tag.clone());
            }
        }
    })
}

/// Writes a note.
pub(super) fn note(args: &RunsNoteArgs) -> Result<Outcome> {
    labelled(&args.run, "runs note", |labels| labels.note = args.text.clone())
}

/// Leaves a run out of lists, or has them show it again.
pub(super) fn archive(args: &RunsArchiveArgs) -> Result<Outcome> {
    labelled(&args.run, "runs archive", |labels| labels.archived = !args.undo)
}

fn labelled(args: &RunArgs, command: &str, change: impl FnOnce(&mut Labels)) -> Result<Outcome> {
    let mut run = RunSummary::read(&args.run)?;
    change(&mut run.labels);
    run.labels.write(&args.run)?;
    if !args.json {
        let Labels { tags, note, archived } = &run.labels;
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let lines = [
            ("tags", tags.join(" ")),
            ("note", note.replace('\n', "\n            ")),
            ("archived", if *archived { "yes".into() } else { String::new() }),
        ];
        let lines = lines.iter().filter(|(_, text)| !text.is_empty());
        let text: String = lines.map(|(name, text)| format!("{name:<12}{text}\n")).collect();
        write_stdout(&format!("run         {}\n{text}", args.run.display()))?;
    }
    let mut results = results_of(&run);
    results["command"] = json!(command);
    Ok(Outcome::done(results))
}

/// Deletes a run, where that is meant.
pub(super) fn delete(args: &RunsDeleteArgs) -> Result<Outcome> {
    let run = RunSummary::read(&args.run.run)?;
    let folder = args.run.run.display();
    if run.state == RunState::Training {
        let problem = format!("{folder}: a training is going on there; stop it first");
        return Err(UsageError(problem).into());
    }
    let told = format!("{folder}: {} steps, {}", run.steps(), run.state.name());
    if !args.yes {
        return Err(UsageError(format!(
            "{told}: its folder would be deleted with all of its checkpoints; say so with --yes"
        ))
        .into());
    }
    // From here on no training can begin there.
    let lock = RunLock::take(&args.run.run, |text| write_stdout(&text))?;
    std::fs::remove_dir_all(&args.run.run).with_context(|| format!("{folder}: cannot delete"))?;
    drop(lock);
    if !args.run.json {
        write_stdout(&format!("deleted     {told}\n"))?;
    }
    Ok(Outcome::done(json!({"command": "runs delete", "run": args.run.run, "deleted": true})))
}
