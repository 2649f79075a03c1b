//! `deepseek plan schedule`: a pipeline's schedule, proved, timed and drawn.

use anyhow::Result;
use serde_json::json;

use crate::cli::PlanScheduleArgs;
use crate::commands::Outcome;
use crate::dualpipe::schedule;

/// Makes the schedule and says how large it is.
pub(super) fn run(args: &PlanScheduleArgs) -> Result<Outcome> {
    let schedule = schedule(args.kind, args.ranks, args.chunks)?;
    let actions: Vec<usize> = schedule.actions.iter().map(Vec::len).collect();
    Ok(Outcome::done(json!({ "command": "plan schedule", "stages": schedule.stages, "actions": actions })))
}
