//! The training loop: steps, evaluations, checkpoints and logs, around an engine that it is handed.
//!
//! **Invariant.** It does not know how a step is computed: one device or the ranks of a cluster are
//! both a [`StepEngine`](crate::learner::StepEngine) to it.

mod diverged;
mod owed;
mod plan;
mod run;
mod strategy;

pub use diverged::Diverged;
pub use owed::Owed;
pub use plan::{RunOutcome, RunPlan, RunState, Session};
pub use strategy::{OutcomeCell, StepStrategy};
