//! Training: the optimizer, the step, the loop that burn-train's learner runs, and what it
//! measures.

mod adamw;
mod ema;
mod engine;
mod language_model;
mod report;
mod strategy;

pub use adamw::{AdamW, AdamWSettings, MomentFormat, Moments, global_norm};
pub use ema::{Ema, EmaSettings};
pub use engine::{NextBatch, SingleDevice, StepEngine};
pub use language_model::LanguageModel;
pub use report::{Evaluation, LayerLoad, StepReport};
pub use strategy::{Diverged, OutcomeCell, RunOutcome, RunPlan, RunState, StepStrategy};
