//! The loop itself: steps, checkpoints and what is owed after them, and what is saved when one of
//! them fails.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::module::Module;
use burn_train::{
    EventProcessorTraining, Interrupter, LearnerEvent, SupervisedTrainingEventProcessor,
    TrainingItem, ValidLoader,
};

use super::{Diverged, Owed, RunOutcome, RunPlan, RunState, Session};
use crate::checkpoint::{CheckpointWriter, TrainState, Weights};
use crate::data::TokenBatch;
use crate::failure::{Context, Failure, Result};
use crate::learner::{
    Average, Evaluation, LanguageModel, StepEngine, StepReport, Updated, save_average, save_whole,
};
use crate::metrics::{Machine, Notes, StepLog, StepSeconds, Webhook, stamp};
use crate::record::{AlertLine, SampleLine, Stamp};
use crate::routing::{Place, RoutingTap};
use crate::schedule::Position;
use crate::signals::Signals;

/// What burn-train shows a run's numbers through.
pub(super) type Processor = SupervisedTrainingEventProcessor<LanguageModel>;
type Batches<'a> = Box<dyn DataLoaderIterator<TokenBatch> + 'a>;

/// A run between its first step and its last.
pub(super) struct Run<'a> {
    plan: &'a RunPlan,
    engine: Box<dyn StepEngine>,
    average: Option<Average>,
    position: TrainState,
    checkpoints: CheckpointWriter,
    routing: RoutingTap,
    log: StepLog,
    machine: Machine,
    notes: Notes,
    webhook: Option<Webhook>,
    alerts: Vec<AlertLine>,
    processor: &'a mut Processor,
    interrupter: &'a Interrupter,
    signals: Signals,
    notice: &'static str,
    last_step: Option<StepReport>,
    evaluation: Option<(u64, Evaluation)>,
    sample: Option<SampleLine>,
    /// Seconds of saving since the last step.
    saving_seconds: f64,
    checkpoint: Option<PathBuf>,
    /// The step of the last checkpoint.
    saved: Option<u64>,
    /// Where the run was when the engine last gave the whole model, unless that was saved.
    complete: Option<TrainState>,
    session: Session,
}

impl<'a> Run<'a> {
    /// A run that goes on from `state`, tells `processor` what it measures and stops where
    /// `interrupter` says so.
    pub fn new(
        plan: &'a RunPlan,
        state: RunState,
        processor: &'a mut Processor,
        interrupter: &'a Interrupter,
    ) -> Self {
        let RunState {
            engine,
            average,
            position,
            checkpoints,
            checkpoint,
            routing,
            log,
            machine,
            notes,
            webhook,
            signals,
            notice,
        } = state;
        let saved = checkpoint.is_some().then_some(position.step);
        Self {
            plan,
            engine,
            average,
            position,
            checkpoints,
            routing,
            log,
            machine,
            notes,
            webhook,
            alerts: Vec::new(),
            processor,
            interrupter,
            signals,
            notice,
            last_step: None,
            evaluation: None,
            sample: None,
            saving_seconds: 0.0,
            checkpoint,
            saved,
            complete: None,
            session: Session::default(),
        }
    }

    /// Trains to the end or until it is interrupted, evaluates and saves; after a failure, saves
    /// what is still known. Gives the model too.
    pub fn carry_out(
        mut self,
        batches: Batches,
        valid_loader: &ValidLoader<LanguageModel>,
    ) -> (LanguageModel, Result<RunOutcome>) {
        let outcome = self.train(batches, valid_loader).map_err(|error| self.saved_after(error));
        (self.engine.into_model(), outcome)
    }

    fn train(
        &mut self,
        mut batches: Batches,
        valid_loader: &ValidLoader<LanguageModel>,
    ) -> Result<RunOutcome> {
        let plan = self.plan;
        // What the checkpoint's step owes, where the program was stopped before it was made.
        self.settle(valid_loader)?;
        while self.position.step < plan.steps && !self.interrupter.should_stop() {
            let epoch = plan.epoch_of(self.position.step + 1);
            let end = (epoch as u64 * plan.eval_every).min(plan.steps);
            self.processor.process_train(LearnerEvent::StartSplit {
                epoch_number: epoch,
                total_items: plan.eval_every as usize,
            })?;
            while self.position.step < end && !self.interrupter.should_stop() {
                self.step(&mut batches, epoch)?;
                if plan.saves_after(self.position.step) {
                    self.save()?;
                }
            }
            self.processor.process_train(LearnerEvent::EndSplit(epoch))?;
            if self.position.step == end {
                self.settle(valid_loader)?;
                self.processor.process_train(LearnerEvent::EndEpoch(epoch))?;
            }
        }
        if self.evaluation.is_none() && self.position.step >= plan.steps {
            // A finished run that is resumed: the record has it, and who resumes it sees it again.
            self.evaluation = self.measured(valid_loader)?;
        }
        if self.sample.is_none() && self.position.step >= plan.steps {
            self.sample = self.drawn()?;
        }
        // Without a step all that there is was saved before.
        if self.last_step.is_some() && self.saved != Some(self.position.step) {
            self.save()?;
        }
        self.log.sync()?;
        let routing_bytes = std::mem::take(&mut self.routing).finish()?;
        let evaluated = self.evaluation.as_ref().map(|(step, _)| *step);
        Ok(RunOutcome {
            position: self.position.clone(),
            last_step: self.last_step.take(),
            interrupted: self.position.step < plan.steps
                || evaluated.is_none_or(|step| step < self.position.step),
            evaluation: self.evaluation.take(),
            sample: self.sample.take(),
            alerts: std::mem::take(&mut self.alerts),
            checkpoint: self.checkpoint.take(),
            session: self.session,
            routing_bytes,
            peak_memory: self.engine.peak_memory()?,
        })
    }

    /// One optimizer step: micro-batches accumulated, clipped, AdamW, then the balance bias.
    fn step(&mut self, batches: &mut Batches, epoch: usize) -> Result<()> {
        let started = Instant::now();
        let settings = self
            .plan
            .schedule
            .at(Position { step: self.position.step, tokens: self.position.tokens });
        let mut parts =
            StepSeconds { saving: std::mem::take(&mut self.saving_seconds), ..Default::default() };
        let step = self.position.step + 1;
        let (routing, mut asked) = (&mut self.routing, Vec::new());
        let mtp = settings.loss_weights().mtp != 0.0;
        let mut next = || {
            let since = Instant::now();
            let batch = batches.next().context("the training data ended before the run")?;
            let mut batch = batch?;
            let told = routing.ask(&mut batch, Place::training(step), mtp).context("--routing")?;
            asked.extend(told);
            parts.data += since.elapsed().as_secs_f64();
            Ok(batch)
        };
        let detailed = self.log.is_detailed(step);
        let mut report = self.engine.accumulate(&mut next, &settings, detailed)?;
        asked.into_iter().try_for_each(|asked| self.routing.told(asked))?;
        let accumulated = started.elapsed().as_secs_f64();
        parts.compute = accumulated - parts.data;
        let lr = settings.lr;
        // While the average still reads the weights they are shared, and could not be updated in
        // place.
        self.average.as_mut().map_or(Ok(()), Average::settle)?;
        let settled = started.elapsed().as_secs_f64();
        let Updated { grad_norm, norms, sent_bytes } =
            self.engine.update(&settings, &report.layer_loads, detailed)?;
        let updated = started.elapsed().as_secs_f64();
        parts.update = updated - settled;
        if let Some(average) = &mut self.average {
            if let Average::Whole(_) = average {
                self.engine.model()?;
            }
            // From here on the engine's last whole model is that of a step without a line.
            self.complete = None;
            average.step(&mut *self.engine)?;
            self.position.ema_steps = average.steps();
        }

        let seconds = started.elapsed().as_secs_f64();
        parts.average = seconds - updated + settled - accumulated;
        parts.step = seconds;
        self.position.step = step;
        self.position.samples += settings.global_batch as u64;
        self.position.tokens += report.tokens as u64;
        self.position.train_seconds += seconds;
        self.session.tokens += report.tokens;
        self.session.seconds += seconds;
        report.step = step;
        report.grad_norm = grad_norm;
        report.norms = norms;
        for (rank, bytes) in report.passes.ranks.iter_mut().zip(sent_bytes) {
            rank.sent_bytes += bytes;
        }
        report.lr = lr;
        report.tokens_per_second = report.tokens as f64 / seconds;
        let raised = self.log.step(self.stamp(), &report, &settings, &parts)?;
        self.raise(raised);
        if self.average.is_some() {
            self.complete = Some(self.position.clone());
        }
        if detailed {
            let line = self.machine.line(self.stamp());
            let raised = self.log.system(line)?;
            self.raise(raised);
            if let Some(timelines) = self.engine.timelines(step) {
                self.log.timelines(&timelines)?;
            }
        }
        if let Some(diverged) = Diverged::of(&report, self.checkpoint.as_deref()) {
            return Err(diverged.into());
        }
        if self.last_step.is_none() {
            self.signals.guard(self.notice);
        }
        let done = (step - (epoch as u64 - 1) * self.plan.eval_every) as usize;
        let progress = Progress::new(done, self.plan.eval_every as usize, Some("steps".into()));
        let item =
            TrainingItem::new(report.clone(), progress, Some(step as usize), Some(lr.into()));
        self.last_step = Some(report);
        self.processor.process_train(LearnerEvent::ProcessedItem(item))?;
        Ok(())
    }

    /// Makes and records what the step that was made last owes, unless the record has it already or
    /// the run is interrupted: then it is made when the run goes on.
    fn settle(&mut self, loader: &ValidLoader<LanguageModel>) -> Result<()> {
        let step = self.position.step;
        for owed in self.plan.owed_after(step) {
            if owed.is_recorded(&self.log, step) {
                continue;
            }
            match owed {
                Owed::Evaluation => {
                    let started = Instant::now();
                    if let Some((step, evaluation)) = self.measured(loader)? {
                        let seconds = started.elapsed().as_secs_f64();
                        let biases = self.engine.balance_biases()?;
                        let stamp = self.stamp();
                        let raised = self.log.evaluation(stamp, &evaluation, &biases, seconds)?;
                        self.raise(raised);
                        self.evaluation = Some((step, evaluation));
                        self.keep_best(step)?;
                    }
                }
                Owed::Sample => {
                    if let Some(sample) = self.drawn()? {
                        self.log.sample(sample.clone())?;
                        self.sample = Some(sample);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the model says; none where nothing is asked for, or where the run is interrupted.
    fn drawn(&mut self) -> Result<Option<SampleLine>> {
        let (Some(plan), stamp) = (&self.plan.sample, self.stamp()) else { return Ok(None) };
        let interrupter = self.interrupter;
        let model = self.engine.model()?.valid().model;
        plan.draw(&model, stamp, &|| interrupter.should_stop())
    }

    /// Now, at this place of the run.
    fn stamp(&self) -> Stamp {
        let TrainState { train_seconds, step, samples, tokens, .. } = self.position;
        stamp(train_seconds, step, samples, tokens)
    }

    /// Has alerts shown, and keeps them for the end.
    fn raise(&mut self, alerts: Vec<AlertLine>) {
        for alert in &alerts {
            self.notes.say_recorded(format!(
                "{}: step {}: {}",
                alert.level.name(),
                alert.stamp.step,
                alert.message
            ));
            if let Some(webhook) = &mut self.webhook {
                webhook.post(alert);
            }
        }
        self.alerts.extend(alerts);
    }

    /// Measures the held-out windows; what is measured when it is interrupted counts for nothing.
    fn measured(
        &mut self,
        loader: &ValidLoader<LanguageModel>,
    ) -> Result<Option<(u64, Evaluation)>> {
        let TrainState { step, tokens, .. } = self.position;
        let weights = self.plan.schedule.loss_weights_at(Position { step, tokens });
        let mtp = weights.mtp != 0.0;
        let (epoch, total) = (self.plan.epoch_of(step), loader.num_items());
        self.processor
            .process_valid(LearnerEvent::StartSplit { epoch_number: epoch, total_items: total })?;
        let mut evaluation = Evaluation::default();
        let mut batches = loader.iter();
        let at_once = self.engine.evaluated_at_once();
        loop {
            let (mut some, mut asked) = (Vec::new(), Vec::new());
            for batch in batches.by_ref().take(at_once) {
                let mut batch = batch?;
                let told = self.routing.ask(&mut batch, Place::evaluation(step), mtp);
                asked.extend(told.context("--routing")?);
                some.push(batch);
            }
            if some.is_empty() {
                break;
            }
            if self.interrupter.should_stop() {
                return Ok(None);
            }
            let reports = self.engine.evaluate(some, &weights)?;
            if self.saved != Some(step) {
                self.complete = Some(self.position.clone());
            }
            asked.into_iter().try_for_each(|asked| self.routing.told(asked))?;
            for report in reports {
                evaluation.absorb(&report);
                let progress = batches.progress();
                let item = TrainingItem::new(report, progress, Some(step as usize), None);
                self.processor.process_valid(LearnerEvent::ProcessedItem(item))?;
            }
        }
        self.processor.process_valid(LearnerEvent::EndSplit(epoch))?;
        Ok(Some((step, evaluation)))
    }

    /// After an evaluation: its checkpoint is saved where it is the best so far, and the one that
    /// was the best is let go.
    fn keep_best(&mut self, step: u64) -> Result<()> {
        if !self.checkpoints.keeps_best() {
            return Ok(());
        }
        let losses = self.log.validation_losses();
        let (_, loss) = losses[losses.len() - 1];
        let is_best =
            losses[..losses.len() - 1].iter().all(|(_, before)| before.is_nan() || *before > loss);
        if is_best && !loss.is_nan() && self.saved != Some(step) {
            return self.save();
        }
        Ok(self.checkpoints.prune(losses)?)
    }

    fn save(&mut self) -> Result<()> {
        let started = Instant::now();
        self.log.sync()?;
        self.routing.sync()?;
        let (engine, average) = (&mut *self.engine, &mut self.average);
        let averaged = average.is_some();
        let mut write = |weights: Weights, folder: &Path| match (weights, average.as_mut()) {
            (Weights::Average, Some(average)) => average.save(&mut *engine, folder),
            _ => engine.save(folder),
        };
        let losses = self.log.validation_losses();
        let saved = self.checkpoints.save(&mut write, averaged, &self.position, losses)?;
        self.checkpoint = Some(saved);
        self.saved = Some(self.position.step);
        self.complete = None;
        self.saving_seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Saves what is still known after a failure: the last whole model, where no checkpoint has it.
    /// Gives the failure back.
    fn saved_after(&mut self, failure: Failure) -> Failure {
        let (Some(position), false) = (self.complete.take(), failure.is::<Diverged>()) else {
            return failure;
        };
        let Some((model, optimizer)) = self.engine.last_state() else { return failure };
        let synced = self.log.sync().and_then(|()| Ok(self.routing.sync()?));
        let saved = synced.and_then(|()| {
            // Who keeps the average elsewhere has no last state here.
            let mut ema = match &mut self.average {
                Some(Average::Whole(ema)) => Some(ema),
                _ => None,
            };
            let averaged = ema.is_some();
            let mut write = |weights: Weights, folder: &Path| match (weights, ema.as_mut()) {
                (Weights::Average, Some(ema)) => save_average(ema, folder),
                _ => save_whole(&model.model, optimizer, folder),
            };
            let losses = self.log.validation_losses();
            self.checkpoints.save(&mut write, averaged, &position, losses)
        });
        match saved {
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
