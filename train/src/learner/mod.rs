//! Training: the optimizer, the step, the loop that burn-train's learner runs, and what it measures.

mod adamw;

pub use adamw::{AdamW, AdamWSettings, Moments, global_norm};
