//! The record of a run: `metrics.jsonl` in its folder, one JSON object a line, as types that are
//! written and read. The book's page on file formats has every key; [`schema`] gives a JSON schema.

mod line;
mod nullable;
mod read;
mod schema;
mod timeline;

pub use line::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Line, SampleLine, Stamp, StepLine, SystemLine,
};
pub use read::{Record, RecordError, parse_line};
pub use schema::schema;
pub use timeline::{Lane, Slice, TIMELINE_FILE, TIMELINE_VERSION, Timeline, Timelines};

/// Name of the record in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The version of the lines that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Keys whose values depend on the clock.
const TIMED: [&str; 10] = [
    "time",
    "elapsed_seconds",
    "tokens_per_second",
    "step_seconds",
    "data_seconds",
    "compute_seconds",
    "update_seconds",
    "average_seconds",
    "saving_seconds",
    "evaluation_seconds",
];

/// Rules of alerts that look at the clock or the machine.
const TIMED_RULES: [&str; 2] = ["throughput_drop", "disk_free_gb"];

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
