//! The record of a run: `metrics.jsonl` in its folder, one JSON object a line, as types that are
//! written and read. The book's page on file formats has every key; [`schema`] gives a JSON schema.

mod line;
mod nullable;
mod read;
mod schema;

pub use line::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Line, SampleLine, Stamp, StepLine, SystemLine,
};
pub use read::{Record, RecordError, parse_line};
pub use schema::schema;

/// Name of the record in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The version of the lines that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Keys whose values depend on the clock or the machine. All others are the same bits in every run
/// of the same configuration, and so are all lines but those of kind `system`.
pub const TIMED: [&str; 10] = [
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
