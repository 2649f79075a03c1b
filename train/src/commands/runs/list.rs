//! `runs list`: one line a run.

use std::cmp::Ordering;

use serde_json::json;

use super::{COLUMNS, alerts, cells, results_of};
use crate::cli::{RunsListArgs, RunsOrder};
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::{Columns, width};
use crate::metrics::duration;
use crate::record::RunState;
use crate::runs::{RunSummary, find_runs};
use crate::stdout::write_stdout;

/// Lists the runs in folders. One that cannot be read is told below the list, and is no failure.
pub(super) fn run(args: &RunsListArgs) -> Result<Outcome> {
    let (mut runs, mut unread) = (Vec::new(), Vec::new());
    for folder in find_runs(&args.folders)? {
        match RunSummary::read(&folder) {
            Ok(run) => runs.push(run),
            Err(error) => unread.push(json!({"run": folder, "problem": format!("{error:#}")})),
        }
    }
    runs.retain(|run| {
        (args.all || !run.labels.archived)
            && args.tag.iter().all(|tag| run.labels.tags.contains(tag))
    });
    sort(&mut runs, args.sort);
    if !args.json {
        let mut text = if runs.is_empty() {
            format!("no runs in {}\n", shown(args))
        } else {
            table(&runs).without_empty_columns().text(width())
        };
        for problem in &unread {
            text += &format!("not read    {}\n", problem["problem"].as_str().unwrap_or_default());
        }
        write_stdout(&text)?;
    }
    let results: Vec<_> = runs.iter().map(results_of).collect();
    Ok(Outcome::done(json!({"command": "runs list", "runs": results, "unread": unread})))
}

fn shown(args: &RunsListArgs) -> String {
    let folders: Vec<String> =
        args.folders.iter().map(|folder| folder.display().to_string()).collect();
    folders.join(", ")
}

fn sort(runs: &mut [RunSummary], order: RunsOrder) {
    let last = |run: &RunSummary| run.times.as_ref().map(|(_, last)| last.clone());
    let valid = |run: &RunSummary| run.evaluation.as_ref().map_or(f64::INFINITY, |e| e.valid_loss);
    let speed = |run: &RunSummary| run.tokens_per_second().unwrap_or(0.0);
    runs.sort_by(|a, b| match order {
        RunsOrder::Name => Ordering::Equal, // as they were found
        RunsOrder::Newest => last(b).cmp(&last(a)),
        RunsOrder::Valid => valid(a).total_cmp(&valid(b)),
        RunsOrder::Speed => speed(b).total_cmp(&speed(a)),
    });
}

fn table(runs: &[RunSummary]) -> Columns {
    let mut table = Columns::new(COLUMNS.into_iter().chain(["left", "<alerts", "<tags"]));
    for run in runs {
        let left = run.seconds_left().filter(|_| run.state == RunState::Training);
        table.row(cells(run).into_iter().chain([
            left.map_or_else(String::new, duration),
            alerts(run),
            run.labels.tags.iter().cloned().collect::<Vec<_>>().join(" "),
        ]));
    }
    table
}
