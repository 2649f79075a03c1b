//! What a run shows and keeps of its steps: metrics for burn-train's dashboard, plain progress lines, a JSONL log.

mod log;
mod plain;
mod scalar;

pub use log::StepLog;
pub use plain::PlainRenderer;
pub use scalar::{register, ScalarMetric};
