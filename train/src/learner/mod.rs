//! Training: the optimizer, the step, the loop that burn-train's learner runs, and what it measures.

mod adamw;
mod language_model;
mod report;
pub mod schedule;
mod strategy;

pub use adamw::{AdamW, AdamWSettings, Moments, global_norm};
pub use language_model::LanguageModel;
pub use report::{Evaluation, LayerLoad, StepReport};
pub use strategy::{Diverged, OutcomeCell, RunOutcome, StepPlan, StepState, StepStrategy};
