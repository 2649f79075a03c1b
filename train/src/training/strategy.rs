//! The loop as the strategy that burn-train's `SupervisedTraining` runs: an "epoch" of the learner
//! is a number of steps.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;
use burn_train::{
    Learner, SupervisedLearningStrategy, TrainLoader, TrainingComponents, ValidLoader,
};

use super::run::{Processor, Run};
use super::{RunOutcome, RunPlan, RunState};
use crate::failure::{Context, Result};
use crate::learner::LanguageModel;

/// Runs steps of accumulated micro-batches, whatever computes them.
#[derive(Debug)]
pub struct StepStrategy {
    plan: RunPlan,
    device: Device,
    state: Mutex<Option<RunState>>,
    outcome: Arc<Mutex<Option<Result<RunOutcome>>>>,
}

impl StepStrategy {
    /// A strategy for one run, and where its outcome will be once the learner has returned.
    /// Batches are made on `device`, which is the one that the engine differentiates on;
    /// evaluations are made there without autodiff.
    pub fn new(plan: RunPlan, device: Device, state: RunState) -> (Self, OutcomeCell) {
        let outcome = Arc::new(Mutex::new(None));
        let cell = OutcomeCell(outcome.clone());
        (Self { plan, device, state: Mutex::new(Some(state)), outcome }, cell)
    }
}

/// Where a strategy leaves its outcome: burn-train's own result has no room for it.
#[derive(Debug)]
pub struct OutcomeCell(Arc<Mutex<Option<Result<RunOutcome>>>>);

impl OutcomeCell {
    /// The outcome.
    ///
    /// # Errors
    ///
    /// What stopped the run, or that it never ran.
    pub fn take(self) -> Result<RunOutcome> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .context("the learner returned without having run")?
    }
}

impl SupervisedLearningStrategy<LanguageModel> for StepStrategy {
    fn fit(
        &self,
        components: TrainingComponents<LanguageModel>,
        learner: Learner<LanguageModel>,
        train_loader: TrainLoader<LanguageModel>,
        valid_loader: ValidLoader<LanguageModel>,
        _starting_epoch: usize,
    ) -> (LanguageModel, Processor) {
        // While the learner holds the model that the engine trains, no weight could be updated in
        // place.
        drop(learner);
        let state = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .expect("invariant: a strategy runs once");
        let train_loader = train_loader.to_device(&self.device);
        let valid_loader = valid_loader.to_device(&self.device.clone().inner());
        let (mut processor, interrupter) = (components.event_processor, components.interrupter);
        let run = Run::new(&self.plan, state, &mut processor, &interrupter);
        let (model, outcome) = run.carry_out(train_loader.iter(), &valid_loader);
        if let Err(error) = &outcome {
            interrupter.stop(Some(&format!("{error:#}")));
        }
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        (model, processor)
    }
}
