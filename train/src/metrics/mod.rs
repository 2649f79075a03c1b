//! What a run shows and keeps of its steps: metrics for burn-train's dashboard, plain progress lines, a JSONL log.

mod log;
mod plain;
mod scalar;
mod unlogged;

pub use log::StepLog;
pub use plain::{PlainRenderer, duration};
pub use scalar::{ScalarMetric, register};
pub use unlogged::Unlogged;
