//! What a run shows and keeps of its steps: metrics for burn-train's dashboard, plain progress
//! lines, a JSONL log, and the loads of experts to place them by.

mod expert_loads;
mod kept;
mod log;
mod plain;
mod scalar;
mod unlogged;

pub use expert_loads::{ExpertLoads, LoadsError};
pub use log::{METRICS_FILE, StepLog};
pub use plain::{PlainRenderer, duration};
pub use scalar::{ScalarMetric, register};
pub use unlogged::Unlogged;
