//! The training loop, as the strategy that burn-train's `SupervisedTraining` runs: an "epoch" of
//! the learner is a number of steps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::module::Module;
use burn::tensor::Device;
use burn_deepseek::{in_training, training_device};

use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, ValidLoader,
};
use serde::Serialize;

use super::{AdamW, Ema, Evaluation, LanguageModel, SingleDevice, StepEngine, StepReport};
use crate::checkpoint::{CheckpointWriter, TrainState};
use crate::data::TokenBatch;
use crate::dualpipe::{Cluster, Pipelines};
use crate::metrics::StepLog;
use crate::schedule::{Position, Schedule};

type Processor = SupervisedTrainingEventProcessor<LanguageModel>;
type Batches<'a> = Box<dyn DataLoaderIterator<TokenBatch> + 'a>;

/// What the loop does.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// Steps of the whole run.
    pub steps: u64,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Steps between evaluations: one epoch of the learner.
    pub eval_every: u64,
    /// Steps between checkpoints; 0 saves only at the end.
    pub checkpoint_every: u64,
    /// Whether backward computes again what it can instead of keeping it.
    pub recompute: bool,
    /// What each step is to do.
    pub schedule: Schedule,
}

/// Where the loop starts and what it writes to.
#[derive(Debug)]
pub struct RunState {
    /// Optimizer, new or resumed.
    pub optimizer: AdamW,
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

/// Runs steps of accumulated micro-batches on one device, or on the ranks of a cluster.
#[derive(Debug)]
pub struct StepStrategy {
    plan: RunPlan,
    device: Device,
    cluster: Option<Cluster>,
    state: Mutex<Option<RunState>>,
    outcome: Arc<Mutex<Option<Result<RunOutcome>>>>,
}

impl StepStrategy {
    /// A strategy for one run, and where its outcome will be once the learner has returned. With a
    /// cluster its ranks compute the steps, and `device` the evaluations.
    pub fn new(
        plan: RunPlan,
        device: Device,
        cluster: Option<Cluster>,
        state: RunState,
    ) -> (Self, OutcomeCell) {
        let outcome = Arc::new(Mutex::new(None));
        let cell = OutcomeCell(outcome.clone());
        let device = training_device(&device, plan.recompute);
        (Self { plan, device, cluster, state: Mutex::new(Some(state)), outcome }, cell)
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
        let state = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .expect("invariant: a strategy runs once");
        let train_loader = train_loader.to_device(&self.device);
        let valid_loader = valid_loader.to_device(&self.device.clone().inner());
        // The learner is taken apart: while it holds the model too, no weight could be updated in
        // place.
        let model = learner.model();
        drop(learner);
        let (mut processor, interrupter) = (components.event_processor, components.interrupter);
        let spare = model.clone();
        let (model, outcome) = match self.engine(model, state.optimizer) {
            Err(error) => (spare, Err(error)),
            Ok(engine) => {
                drop(spare);
                let mut run = Run {
                    plan: &self.plan,
                    engine,
                    ema: state.ema,
                    position: state.position,
                    checkpoints: state.checkpoints,
                    log: state.log,
                    processor: &mut processor,
                    interrupter: &interrupter,
                    last_step: None,
                    evaluation: None,
                    checkpoint: None,
                    complete: None,
                    session_tokens: 0,
                    session_seconds: 0.0,
                };
                let outcome = run
                    .train(train_loader.iter(), &valid_loader)
                    .map_err(|error| run.saved_after(error));
                (run.engine.into_model(), outcome)
            }
        };
        if let Err(error) = &outcome {
            interrupter.stop(Some(&format!("{error:#}")));
        }
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        (model, processor)
    }
}

impl StepStrategy {
    fn engine(&self, model: LanguageModel, optimizer: AdamW) -> Result<Box<dyn StepEngine>> {
        let plan = &self.plan;
        if let Some(cluster) = &self.cluster {
            return Ok(Box::new(Pipelines::start(model.valid(), optimizer, cluster, plan)?));
        }
        let model = in_training(model, plan.recompute);
        Ok(Box::new(SingleDevice::new(model, optimizer, plan.micro_batch, plan.seq_len)))
    }
}

struct Run<'a> {
    plan: &'a RunPlan,
    engine: Box<dyn StepEngine>,
    ema: Option<Ema>,
    position: TrainState,
    checkpoints: CheckpointWriter,
    log: StepLog,
    processor: &'a mut Processor,
    interrupter: &'a Interrupter,
    last_step: Option<StepReport>,
    evaluation: Option<Evaluation>,
    checkpoint: Option<PathBuf>,
    /// Where the run was when the engine last gave the whole model, unless that was saved.
    complete: Option<TrainState>,
    session_tokens: usize,
    session_seconds: f64,
}

impl Run<'_> {
    fn train(
        &mut self,
        mut batches: Batches,
        valid_loader: &ValidLoader<LanguageModel>,
    ) -> Result<RunOutcome> {
        let plan = self.plan;
        let mut epoch = (self.position.step / plan.eval_every) as usize + 1;
        while self.position.step < plan.steps && !self.interrupter.should_stop() {
            let end = (epoch as u64 * plan.eval_every).min(plan.steps);
            self.processor.process_train(LearnerEvent::StartSplit {
                epoch_number: epoch,
                total_items: plan.eval_every as usize,
            })?;
            while self.position.step < end && !self.interrupter.should_stop() {
                self.step(&mut batches, epoch)?;
                let due = plan.checkpoint_every > 0
                    && self.position.step.is_multiple_of(plan.checkpoint_every);
                if due && self.position.step < plan.steps {
                    self.save()?;
                }
            }
            self.processor.process_train(LearnerEvent::EndSplit(epoch))?;
            if self.position.step == end {
                self.evaluate(valid_loader, epoch)?;
                self.processor.process_train(LearnerEvent::EndEpoch(epoch))?;
            }
            epoch += 1;
        }
        if self.evaluation.is_none() && !self.interrupter.should_stop() {
            self.evaluate(valid_loader, epoch)?; // a resumed run with nothing left to do
        }
        self.save()?;
        Ok(RunOutcome {
            position: self.position.clone(),
            last_step: self.last_step.take(),
            evaluation: self.evaluation.take(),
            interrupted: self.position.step < plan.steps,
            checkpoint: self.checkpoint.take(),
            tokens_per_second: self.session_tokens as f64 / self.session_seconds.max(1e-9),
            train_seconds: self.session_seconds,
        })
    }

    /// One optimizer step: micro-batches accumulated, clipped, AdamW, then the balance bias.
    fn step(&mut self, batches: &mut Batches, epoch: usize) -> Result<()> {
        let started = Instant::now();
        let settings = self
            .plan
            .schedule
            .at(Position { step: self.position.step, tokens: self.position.tokens });
        let mut next = || {
            batches.next().context("the training data ended before the run")?.map_err(Into::into)
        };
        let mut report = self.engine.accumulate(&mut next, &settings)?;
        let step = self.position.step + 1;
        let lr = settings.lr;
        // While the average still reads the weights they are shared, and could not be updated in
        // place.
        self.ema.as_mut().map_or(Ok(()), Ema::settle)?;
        let grad_norm = self.engine.update(&settings, &report.layer_loads)?;
        if let Some(ema) = &mut self.ema {
            ema.step(&self.engine.model()?.model)?;
            self.position.ema_steps = ema.steps();
        }

        let seconds = started.elapsed().as_secs_f64();
        self.position.step = step;
        self.position.samples += settings.global_batch as u64;
        self.position.tokens += report.tokens as u64;
        self.position.train_seconds += seconds;
        self.session_tokens += report.tokens;
        self.session_seconds += seconds;
        if self.ema.is_some() {
            self.complete = Some(self.position.clone());
        }
        report.step = step;
        report.grad_norm = grad_norm;
        report.lr = lr;
        report.tokens_per_second = report.tokens as f64 / seconds;
        self.log.step(&report)?;
        if !report.total_loss.is_finite() || !grad_norm.is_finite() {
            return Err(Diverged { step, loss: report.total_loss, grad_norm }.into());
        }
        let done = (step - (epoch as u64 - 1) * self.plan.eval_every) as usize;
        let progress = Progress::new(done, self.plan.eval_every as usize, Some("steps".into()));
        let item =
            TrainingItem::new(report.clone(), progress, Some(step as usize), Some(lr.into()));
        self.last_step = Some(report);
        self.processor.process_train(LearnerEvent::ProcessedItem(item))?;
        Ok(())
    }

    fn evaluate(&mut self, loader: &ValidLoader<LanguageModel>, epoch: usize) -> Result<()> {
        let model = self.engine.model()?.valid();
        self.complete = Some(self.position.clone());
        let total = loader.num_items();
        self.processor
            .process_valid(LearnerEvent::StartSplit { epoch_number: epoch, total_items: total })?;
        let mut evaluation = Evaluation::default();
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            let report = InferenceStep::step(&model, batch?);
            evaluation.absorb(&report);
            let item = TrainingItem::new(
                report,
                batches.progress(),
                Some(self.position.step as usize),
                None,
            );
            self.processor.process_valid(LearnerEvent::ProcessedItem(item))?;
        }
        self.log.evaluation(self.position.step, &evaluation)?;
        self.evaluation = Some(evaluation);
        self.processor.process_valid(LearnerEvent::EndSplit(epoch))?;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let average = self.ema.as_mut().map(Ema::model).transpose()?;
        let (model, optimizer) = self.engine.state()?;
        self.checkpoint =
            Some(self.checkpoints.save(&model.model, average, optimizer, &self.position)?);
        self.complete = None;
        Ok(())
    }

    /// Saves what is still known after a failure: the last whole model, where no checkpoint has it.
    /// Gives the failure back.
    fn saved_after(&mut self, failure: anyhow::Error) -> anyhow::Error {
        let (Some(position), false) = (self.complete.take(), failure.is::<Diverged>()) else {
            return failure;
        };
        let average = match self.ema.as_mut().map(Ema::model).transpose() {
            Ok(average) => average,
            Err(error) => {
                return failure
                    .context(format!("step {} could not be saved: {error:#}", position.step));
            }
        };
        let Some((model, optimizer)) = self.engine.last_state() else { return failure };
        match self.checkpoints.save(&model.model, average, optimizer, &position) {
            Ok(path) => failure.context(format!(
                "the run was saved as it was after step {}, in {}",
                position.step,
                path.display()
            )),
            Err(error) => {
                failure.context(format!("step {} could not be saved: {error:#}", position.step))
            }
        }
    }
}
