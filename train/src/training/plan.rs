//! A run as values: what the loop does, where it starts, and how it ended.

use std::path::PathBuf;

use serde::Serialize;

use crate::checkpoint::{CheckpointWriter, TrainState};
use crate::failure::blamed;
use crate::learner::{Ema, Evaluation, StepEngine, StepReport};
use crate::metrics::StepLog;
use crate::schedule::TrainingSchedule;

/// What the loop does.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps between evaluations: one epoch of the learner.
    pub eval_every: u64,
    /// Steps between checkpoints; 0 saves only at the end.
    pub checkpoint_every: u64,
    /// What each step is to do.
    pub schedule: TrainingSchedule,
}

/// Where the loop starts and what it writes to.
#[derive(Debug)]
pub struct RunState {
    /// What computes the steps, with the weights and the optimizer, new or resumed.
    pub engine: Box<dyn StepEngine>,
    /// Average of the weights, new or resumed, where one is wanted.
    pub ema: Option<Ema>,
    /// Position, new or resumed.
    pub position: TrainState,
    /// Where checkpoints go.
    pub checkpoints: CheckpointWriter,
    /// One line a step.
    pub log: StepLog,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct RunOutcome {
    /// Position at the end.
    pub position: TrainState,
    /// The last step's report.
    pub last_step: Option<StepReport>,
    /// The last evaluation.
    pub evaluation: Option<Evaluation>,
    /// Whether the run was interrupted before its last step.
    pub interrupted: bool,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Tokens trained in this session over its seconds of training steps (evaluation and saving not
    /// counted).
    pub tokens_per_second: f64,
    /// Seconds of training steps in this session.
    pub train_seconds: f64,
}

/// A step whose loss or gradient norm is no number; nothing of it was saved.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "step {step}: the loss is {loss} and the gradient norm {grad_norm}: training has diverged; the \
     last good checkpoint is kept \
     (a lower schedule.lr or a longer warm-up may help)"
)]
pub struct Diverged {
    /// The step, from 1.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// The norm of its gradients.
    pub grad_norm: f64,
}

blamed!(Run: Diverged);
