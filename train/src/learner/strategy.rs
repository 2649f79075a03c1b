//! The training loop, as the strategy that burn-train's `SupervisedTraining` runs: an "epoch" of the learner is a number of steps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn_deepseek::moe::updated_bias;
use burn_deepseek::recomputing;

use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingComponents, TrainingItem, ValidLoader,
};
use serde::Serialize;

use super::{AdamW, Ema, Evaluation, LanguageModel, LayerLoad, StepReport};
use crate::checkpoint::{CheckpointWriter, TrainState};
use crate::data::TokenBatch;
use crate::metrics::StepLog;
use crate::schedule::{Position, Schedule};

type Processor = SupervisedTrainingEventProcessor<LanguageModel>;
type Batches<'a> = Box<dyn DataLoaderIterator<TokenBatch> + 'a>;

/// What the loop does.
#[derive(Clone, Debug)]
pub struct StepPlan {
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
pub struct StepState {
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
    /// Tokens trained in this session over its seconds of training steps (evaluation and saving not counted).
    pub tokens_per_second: f64,
    /// Seconds of training steps in this session.
    pub train_seconds: f64,
}

/// A step whose loss or gradient norm is no number; nothing of it was saved.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "step {step}: the loss is {loss} and the gradient norm {grad_norm}: training has diverged; the last good checkpoint is kept \
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

/// Runs steps of accumulated micro-batches on one device.
#[derive(Debug)]
pub struct StepStrategy {
    plan: StepPlan,
    device: Device,
    state: Mutex<Option<StepState>>,
    outcome: Arc<Mutex<Option<Result<RunOutcome>>>>,
}

impl StepStrategy {
    /// A strategy for one run, and where its outcome will be once the learner has returned.
    pub fn new(plan: StepPlan, device: Device, state: StepState) -> (Self, OutcomeCell) {
        let outcome = Arc::new(Mutex::new(None));
        let cell = OutcomeCell(outcome.clone());
        let device = if plan.recompute { device.autodiff().gradient_checkpointing() } else { device.autodiff() };
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().context("the learner returned without having run")?
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
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take().expect("invariant: a strategy runs once");
        // The learner is taken apart: while it holds the model too, no weight could be updated in place.
        let model = learner.model().train();
        let model = if self.plan.recompute { recomputing(model) } else { model };
        drop(learner);
        let train_loader = train_loader.to_device(&self.device);
        let valid_loader = valid_loader.to_device(&self.device.clone().inner());
        let mut run = Run {
            plan: &self.plan,
            model: Some(model),
            optimizer: state.optimizer,
            ema: state.ema,
            position: state.position,
            checkpoints: state.checkpoints,
            log: state.log,
            processor: components.event_processor,
            interrupter: components.interrupter,
            last_step: None,
            evaluation: None,
            checkpoint: None,
            session_tokens: 0,
            session_seconds: 0.0,
        };
        let outcome = run.train(train_loader.iter(), &valid_loader);
        if let Err(error) = &outcome {
            run.interrupter.stop(Some(&format!("{error:#}")));
        }
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        (run.model.take().expect("invariant: the model is put back after each step"), run.processor)
    }
}

struct Run<'a> {
    plan: &'a StepPlan,
    model: Option<LanguageModel>,
    optimizer: AdamW,
    ema: Option<Ema>,
    position: TrainState,
    checkpoints: CheckpointWriter,
    log: StepLog,
    processor: Processor,
    interrupter: Interrupter,
    last_step: Option<StepReport>,
    evaluation: Option<Evaluation>,
    checkpoint: Option<PathBuf>,
    session_tokens: usize,
    session_seconds: f64,
}

impl Run<'_> {
    fn train(&mut self, mut batches: Batches, valid_loader: &ValidLoader<LanguageModel>) -> Result<RunOutcome> {
        let plan = self.plan;
        let mut epoch = (self.position.step / plan.eval_every) as usize + 1;
        while self.position.step < plan.steps && !self.interrupter.should_stop() {
            let end = (epoch as u64 * plan.eval_every).min(plan.steps);
            self.processor.process_train(LearnerEvent::StartSplit { epoch_number: epoch, total_items: plan.eval_every as usize })?;
            while self.position.step < end && !self.interrupter.should_stop() {
                self.step(&mut batches, epoch)?;
                let due = plan.checkpoint_every > 0 && self.position.step.is_multiple_of(plan.checkpoint_every);
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
        let mut model = self.model.take().expect("invariant: the model is put back after each step");
        let settings = self.plan.schedule.at(Position { step: self.position.step, tokens: self.position.tokens });
        let micro_batches = settings.global_batch / self.plan.micro_batch;
        model.prepare(settings.loss_weights(), micro_batches, settings.global_batch * self.plan.seq_len);
        let mut report = StepReport::default();
        let mut accumulator = GradientsAccumulator::new();
        for _ in 0..micro_batches {
            let batch = batches.next().context("the training data ended before the run")??;
            let output = TrainStep::step(&model, batch);
            report.absorb(&output.item);
            accumulator.accumulate(&model, output.grads);
        }
        let step = self.position.step + 1;
        let lr = settings.lr;
        // While the average still reads the weights they are shared, and could not be updated in place.
        self.ema.as_mut().map_or(Ok(()), Ema::settle)?;
        let scale = model.gradient_scale();
        let grad_norm;
        (model, grad_norm) = self.optimizer.update(model, accumulator.grads(), scale, lr);
        model.weights_changed();
        update_biases(&mut model, &report.layer_loads, settings.bias_update_speed);
        if let Some(ema) = &mut self.ema {
            ema.step(&model.model)?;
            self.position.ema_steps = ema.steps();
        }
        self.model = Some(model);

        let seconds = started.elapsed().as_secs_f64();
        self.position.step = step;
        self.position.samples += settings.global_batch as u64;
        self.position.tokens += report.tokens as u64;
        self.position.train_seconds += seconds;
        self.session_tokens += report.tokens;
        self.session_seconds += seconds;
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
        let item = TrainingItem::new(report.clone(), progress, Some(step as usize), Some(lr.into()));
        self.last_step = Some(report);
        self.processor.process_train(LearnerEvent::ProcessedItem(item))?;
        Ok(())
    }

    fn evaluate(&mut self, loader: &ValidLoader<LanguageModel>, epoch: usize) -> Result<()> {
        let model = self.model.as_ref().expect("invariant: the model is put back after each step").valid();
        let total = loader.num_items();
        self.processor.process_valid(LearnerEvent::StartSplit { epoch_number: epoch, total_items: total })?;
        let mut evaluation = Evaluation::default();
        let mut batches = loader.iter();
        while let Some(batch) = batches.next() {
            let report = InferenceStep::step(&model, batch?);
            evaluation.absorb(&report);
            let item = TrainingItem::new(report, batches.progress(), Some(self.position.step as usize), None);
            self.processor.process_valid(LearnerEvent::ProcessedItem(item))?;
        }
        self.log.evaluation(self.position.step, &evaluation)?;
        self.evaluation = Some(evaluation);
        self.processor.process_valid(LearnerEvent::EndSplit(epoch))?;
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let model = self.model.as_ref().expect("invariant: the model is put back after each step");
        let average = self.ema.as_mut().map(Ema::model).transpose()?;
        self.checkpoint = Some(self.checkpoints.save(&model.model, average, &self.optimizer, &self.position)?);
        Ok(())
    }
}

/// After each step, from the loads of the whole global batch (2.1.2).
fn update_biases(model: &mut LanguageModel, loads: &[LayerLoad], speed: f64) {
    if speed == 0.0 || !model.model.config().has_balance_bias() {
        return;
    }
    for (layer, router) in model.model.routers_mut() {
        if let Some(load) = loads.iter().find(|load| load.layer == layer) {
            let bias = updated_bias(&router.bias(), &load.loads, speed);
            router.set_bias(&bias);
        }
    }
}
