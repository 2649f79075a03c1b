//! The record of a run: `metrics.jsonl` in its folder, one JSON object a line, as types that are
//! written and read. The book's page on file formats has every key; [`schema`] gives a JSON schema.

mod line;
mod lines;
mod nullable;
mod read;
mod schema;
mod state;
mod timeline;

pub use line::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Fp8Casts, GradNorms, Line, ParamNorms,
    SampleLine, Stamp, StepLine, SystemLine,
};
pub use lines::{RawLine, RawLines};
pub use read::{Record, RecordError, parse_line};
pub use schema::schema;
pub use state::RunState;
pub use timeline::{Lane, Slice, TIMELINE_FILE, TIMELINE_VERSION, Timeline, Timelines};

/// Name of the record in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The version of the lines that this program writes, and the only one that it reads.
pub const VERSION: u32 = 2;

/// Keys whose values depend on the clock.
const TIMED: [&str; 16] = [
    "time",
    "elapsed_seconds",
    "tokens_per_second",
    "step_seconds",
    "data_seconds",
    "compute_seconds",
    "forward_seconds",
    "backward_seconds",
    "exchange_seconds",
    "exchange_hidden_seconds",
    "update_seconds",
    "average_seconds",
    "saving_seconds",
    "evaluation_seconds",
    "rank_busy_seconds",
    "rank_waiting_seconds",
];

/// Rules of alerts that look at the clock or the machine.
const TIMED_RULES: [&str; 3] = ["throughput_drop", "lagging_rank", "disk_free_gb"];

/// What of a line is the same bits in every run of the same configuration, wherever it was stopped;
/// none of a line that the clock or the machine decides.
pub fn repeatable(mut line: serde_json::Value) -> Option<serde_json::Value> {
    let of_rule = line["rule"].as_str().is_some_and(|rule| TIMED_RULES.contains(&rule));
    if line["kind"] == "system" || of_rule {
        return None;
    }
    let object = line.as_object_mut()?;
    for key in TIMED {
        object.remove(key);
    }
    Some(line)
}
