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
    let configs: Vec<_> = runs.iter().map(|run| &run.config).collect();
    let differing = differing(&configs)?;
    if !args.json {
        let mut text = table(&runs, &differing).text(width());
        if differing.is_empty() {
            text += "\nthe configurations are the same\n";
        }
        write_stdout(&text)?;
    }
    let keys: serde_json::Map<String, Value> =
        differing.into_iter().map(|(key, values)| (key, json!(values))).collect();
    let results: Vec<_> = runs.iter().map(results_of).collect();
    Ok(Outcome::done(json!({"command": "runs compare", "runs": results, "differences": keys})))
}

/// A row a run: how far it came, then what it has otherwise than others.
fn table(runs: &[RunSummary], differing: &BTreeMap<String, Vec<Option<String>>>) -> Columns {
    let names = COLUMNS.into_iter().chain(["trained"]);
    let mut table = Columns::new(names.chain(differing.keys().map(String::as_str)));
    for (index, run) in runs.iter().enumerate() {
        let seconds = run.step.as_ref().map(|step| step.stamp.elapsed_seconds);
        let trained = seconds.map_or_else(|| "-".into(), duration);
        let keys = differing.values().map(|values| values[index].clone());
        let keys = keys.map(|value| value.unwrap_or_else(|| "-".into()));
        table.row(cells(run).into_iter().chain([trained]).chain(keys));
    }
    table
}
