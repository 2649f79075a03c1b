//! A run as values: what the loop does, where it starts, and how it ended.

use std::path::PathBuf;

use super::SamplePlan;
use crate::checkpoint::{CheckpointWriter, TrainState};
use crate::learner::{Average, Evaluation, StepEngine, StepReport};
use crate::metrics::{Machine, Notes, StepLog, Webhook};
use crate::record::{AlertLine, SampleLine};
use crate::routing::RoutingTap;
use crate::schedule::TrainingSchedule;
use crate::signals::Signals;

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
    /// What an evaluation lets the model say; none for nothing.
    pub sample: Option<SamplePlan>,
}

/// Where the loop starts and what it writes to.
#[derive(Debug)]
pub struct RunState {
    /// What computes the steps, with the weights and the optimizer, new or resumed.
    pub engine: Box<dyn StepEngine>,
    /// Average of the weights, new or resumed, where one is wanted.
    pub average: Option<Average>,
    /// Position, new or resumed.
    pub position: TrainState,
    /// Where checkpoints go.
    pub checkpoints: CheckpointWriter,
    /// The checkpoint that the run goes on from.
    pub checkpoint: Option<PathBuf>,
    /// Saved routings that are replayed, and where the run's own are saved.
    pub routing: RoutingTap,
    /// What is recorded.
    pub log: StepLog,
    /// What the machine has to give.
    pub machine: Machine,
    /// What is to be shown of alerts.
    pub notes: Notes,
    /// Where alerts are posted to, if anywhere.
    pub webhook: Option<Webhook>,
    /// What a signal asks; it ends the program until the first step has been made.
    pub signals: Signals,
    /// What a signal is answered with from then on.
    pub notice: &'static str,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// Position at the end.
    pub position: TrainState,
    /// The last step's report; none where no step was made.
    pub last_step: Option<StepReport>,
    /// The last evaluation, and the step that it was made after.
    pub evaluation: Option<(u64, Evaluation)>,
    /// The last sample.
    pub sample: Option<SampleLine>,
    /// Alerts of this session.
    pub alerts: Vec<AlertLine>,
    /// Whether the run was interrupted before its last step, or in the evaluation after it.
    pub interrupted: bool,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// What this session trained.
    pub session: Session,
    /// Bytes of the file of routings that the run saved, where it saved one.
    pub routing_bytes: Option<u64>,
    /// The most memory that each rank's process has had, in bytes; empty where the ranks are no
    /// processes.
    pub peak_memory: Vec<Option<u64>>,
}

impl RunOutcome {
    /// The evaluation of the model as it is at the end; none where the last one was before that.
    pub fn closing_evaluation(&self) -> Option<&Evaluation> {
        self.evaluation
            .as_ref()
            .filter(|(step, _)| *step == self.position.step)
            .map(|(_, evaluation)| evaluation)
    }
}

/// What was trained since the program was started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Session {
    /// Tokens.
    pub tokens: usize,
    /// Seconds of training steps (evaluation and saving not counted).
    pub seconds: f64,
}

impl Session {
    /// Tokens a second; none where nothing was trained.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / self.seconds.max(1e-9))
    }
}
