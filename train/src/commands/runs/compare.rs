//! `runs compare`: in what runs differ, and what came of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{COLUMNS, cells, results_of};
use crate::cli::RunsCompareArgs;
use crate::exit::Outcome;
use crate::failure::{Result, UsageError};
use crate::fold::{Columns, width};
use crate::metrics::duration;
use crate::runs::{RunSummary, differing, find_runs};
use crate::stdout::write_stdout;

/// Compares runs.
pub(super) fn run(args: &RunsCompareArgs) -> Result<Outcome> {
    let folders = find_runs(&args.folders)?;
    if folders.len() < 2 {
        let problem = format!(
            "runs compare needs at least two runs; {} found in the folders given",
            if folders.is_empty() { "none were".into() } else { format!("{} was", folders.len()) }
        );
        return Err(UsageError(problem).into());
    }
    let runs = folders.iter().map(|folder| RunSummary::read(folder)).collect::<Result<Vec<_>>>()?;
    let runs: Vec<&RunSummary> = runs.iter().collect();
    let differing = differences(&runs)?;
    if !args.json {
        let mut text = table(&runs, &differing).text(width());
        if differing.is_empty() {
            text += "\nthe configurations are the same\n";
        }
        write_stdout(&text)?;
    }
    let keys: serde_json::Map<String, Value> =
        differing.into_iter().map(|(key, values)| (key, json!(values))).collect();
    let results: Vec<_> = runs.iter().map(|run| results_of(run)).collect();
    Ok(Outcome::done(json!({"command": "runs compare", "runs": results, "differences": keys})))
}

/// The keys of the configuration that runs do not all have alike, and the value of each run as TOML.
///
/// # Errors
/// A configuration that has no form in TOML.
pub(in crate::commands) fn differences(
    runs: &[&RunSummary],
) -> Result<BTreeMap<String, Vec<Option<String>>>> {
    differing(&runs.iter().map(|run| &run.config).collect::<Vec<_>>())
}

/// A row a run: how far it came, then what it has otherwise than others. The first row has the names
/// of the columns, with `<` before those of text.
pub(in crate::commands) fn rows(
    runs: &[&RunSummary],
    differing: &BTreeMap<String, Vec<Option<String>>>,
) -> Vec<Vec<String>> {
    let names = COLUMNS.into_iter().chain(["trained"]).map(String::from);
    let mut rows = vec![names.chain(differing.keys().cloned()).collect()];
    for (index, run) in runs.iter().enumerate() {
        let seconds = run.step.as_ref().map(|step| step.stamp.elapsed_seconds);
        let trained = seconds.map_or_else(|| "-".into(), duration);
        let keys = differing.values().map(|values| values[index].clone());
        let keys = keys.map(|value| value.unwrap_or_else(|| "-".into()));
        rows.push(cells(run).into_iter().chain([trained]).chain(keys).collect());
    }
    rows
}

fn table(runs: &[&RunSummary], differing: &BTreeMap<String, Vec<Option<String>>>) -> Columns {
    let mut rows = rows(runs, differing).into_iter();
    let names = rows.next().unwrap_or_default();
    let mut table = Columns::new(names.iter().map(String::as_str));
    rows.for_each(|row| table.row(row));
    table
}
