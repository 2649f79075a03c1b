//! What a run shows and keeps of its steps: metrics for burn-train, plain lines of progress, a JSONL
//! log, and the loads of experts to place them by.

mod alerts;
mod columns;
mod expert_loads;
mod kept;
mod log;
mod machine;
mod notes;
mod plain;
mod progress;
mod scalar;
mod seconds;
mod unlogged;
mod webhook;

pub use alerts::ExpertCounts;
pub use expert_loads::{ExpertLoads, LoadsError};
pub use log::{LogSettings, StepLog, stamp};
pub use machine::{Machine, available_bytes, peak_resident_bytes, total_bytes};
pub use notes::{Note, Notes};
pub use plain::PlainRenderer;
pub use progress::{Progress, duration, evaluation_line};
pub use scalar::{ScalarMetric, register};
pub use seconds::StepSeconds;
pub use unlogged::Unlogged;
pub use webhook::Webhook;
