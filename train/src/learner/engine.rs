//! What computes a step: gradients of its micro-batches, then the update. The engine for one device
//! is here, the one over ranks in [`crate::dualpipe`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn_deepseek::backend::fp8::CastCounter;
use burn_deepseek::backend::run_on;
use burn_deepseek::moe::update_known_biases;
use burn_deepseek::{LossWeights, in_training, training_device};
use burn_train::InferenceStep;

use super::measured::{read, without_autodiff};
use super::{
    AdamW, LanguageModel, LayerLoad, Norms, StepReport, Updated, gradient_squares, norm_of,
    parameter_squares, save_whole,
};
use crate::data::TokenBatch;
use crate::failure::{Context, Failure, Result};
use crate::record::Timelines;
use crate::schedule::StepSettings;

/// Gives the next micro-batch.
pub type NextBatch<'a> = dyn FnMut() -> Result<TokenBatch> + 'a;

/// What an engine needs to know of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Whether backward computes again what it can instead of keeping it.
    pub recompute: bool,
}

impl EngineSettings {
    /// The device that batches for training on `device` are made on: with autodiff, and with
    /// gradient checkpointing where backward computes again what it can.
    pub fn training_device(&self, device: &Device) -> Device {
        training_device(device, self.recompute)
    }
}

/// Computes steps, and has the weights.
pub trait StepEngine: std::fmt::Debug + Send {
    /// Runs a step's micro-batches forward and backward; what they measured together. Of a step
    /// that is `detailed`, what takes time is measured too.
    ///
    /// # Errors
    ///
    /// A batch that cannot be had, or a rank that failed.
    fn accumulate(
        &mut self,
        next: &mut NextBatch,
        settings: &StepSettings,
        detailed: bool,
    ) -> Result<StepReport>;

    /// What the ranks did in the step that was accumulated last, beside what was to be expected;
    /// none of one device.
    fn timelines(&self, _step: u64) -> Option<Timelines> {
        None
    }

    /// Clips the gradients, updates the weights, then moves the balance biases by the loads of the
    /// whole batch (2.1.2).
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn update(
        &mut self,
        settings: &StepSettings,
        loads: &[LayerLoad],
        detailed: bool,
    ) -> Result<Updated>;

    /// How many held-out micro-batches are measured at once.
    fn evaluated_at_once(&self) -> usize {
        1
    }

    /// Measures held-out micro-batches with the weights as they are now, and with these weights of
    /// the loss; a report for each, in their order.
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn evaluate(
        &mut self,
        batches: Vec<TokenBatch>,
        weights: &LossWeights,
    ) -> Result<Vec<StepReport>> {
        Ok(measured_whole(self.model()?, batches, weights))
    }

    /// The balance bias of each MoE layer as it is now, those of MTP modules last.
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn balance_biases(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(self.model()?.model.balance_biases())
    }

    /// The whole model as it is now.
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn model(&mut self) -> Result<&LanguageModel>;

    /// The whole model and the optimizer's state as they are now.
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn state(&mut self) -> Result<(&LanguageModel, &AdamW)>;

    /// Writes model and optimizer, as they are now, to a folder that is there.
    ///
    /// # Errors
    ///
    /// A rank that failed, a file that cannot be written.
    fn save(&mut self, folder: &Path) -> Result<()> {
        let (model, optimizer) = self.state()?;
        save_whole(&model.model, optimizer, folder)
    }

    /// Moves the average of the weights, which the engine keeps, towards what they are now:
    /// `average += rate (weights - average)`.
    ///
    /// # Errors
    ///
    /// A rank that failed; an engine that keeps none.
    fn average(&mut self, _rate: f64) -> Result<()> {
        Err(Failure::new("invariant: this engine keeps no average"))
    }

    /// Writes the average that the engine keeps to a folder that is there.
    ///
    /// # Errors
    ///
    /// A rank that failed, a file that cannot be written; an engine that keeps none.
    fn save_average(&mut self, _folder: &Path) -> Result<()> {
        Err(Failure::new("invariant: this engine keeps no average"))
    }

    /// The most memory that each rank's process has had, in bytes; empty where the ranks are no
    /// processes, none where the system does not say.
    ///
    /// # Errors
    ///
    /// A rank that failed.
    fn peak_memory(&mut self) -> Result<Vec<Option<u64>>> {
        Ok(Vec::new())
    }

    /// Model and optimizer as the last [`model`](Self::model) or [`state`](Self::state) gave them,
    /// where they are still known after a failure.
    fn last_state(&self) -> Option<(&LanguageModel, &AdamW)> {
        None
    }

    /// The model at the end; that of the last [`model`](Self::model) or [`state`](Self::state).
    fn into_model(self: Box<Self>) -> LanguageModel;
}

/// Measures micro-batches with a whole model, without autodiff.
pub fn measured_whole(
    model: &LanguageModel,
    batches: Vec<TokenBatch>,
    weights: &LossWeights,
) -> Vec<StepReport> {
    let model = model.valid().weighed(*weights);
    batches.into_iter().map(|batch| InferenceStep::step(&model, batch)).collect()
}

/// All of a model on one device, one micro-batch after the other.
pub struct SingleDevice {
    /// None while it is being updated, in place where nobody else holds it.
    model: Option<LanguageModel>,
    optimizer: AdamW,
    gradients: GradientsAccumulator<LanguageModel>,
    /// The balance biases by layer, as they were read with the losses of the step that was
    /// accumulated.
    biases: BTreeMap<usize, Vec<f32>>,
    settings: EngineSettings,
}

impl std::fmt::Debug for SingleDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SingleDevice").field("model", &self.model).finish_non_exhaustive()
    }
}

const MODEL_IS_HERE: &str = "invariant: the model is put back after each update";

impl SingleDevice {
    /// Trains `model`, which is given without autodiff.
    pub fn new(model: LanguageModel, optimizer: AdamW, settings: EngineSettings) -> Self {
        let model = Some(in_training(model, settings.recompute));
        let gradients = GradientsAccumulator::new();
        Self { model, optimizer, gradients, biases: BTreeMap::new(), settings }
    }
}

impl StepEngine for SingleDevice {
    fn accumulate(
        &mut self,
        next: &mut NextBatch,
        settings: &StepSettings,
        detailed: bool,
    ) -> Result<StepReport> {
        let model = self.model.as_mut().context(MODEL_IS_HERE)?;
        let EngineSettings { micro_batch, seq_len, .. } = self.settings;
        let micro_batches = settings.global_batch / micro_batch;
        model.prepare(settings.loss_weights(), micro_batches, settings.global_batch * seq_len);
        let counter = detailed.then(CastCounter::default);
        if let Some(counter) = &counter {
            model.detail(counter.clone());
        }
        let mut measured = Vec::with_capacity(micro_batches);
        let (mut forward, mut backward) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..micro_batches {
            let batch = next()?;
            let gradients = &mut self.gradients;
            let item = run_on(&model.model.device(), || {
                let started = Instant::now();
                let (share, item) = model.forward(batch);
                forward += started.elapsed();
                let started = Instant::now();
                gradients.accumulate(model, model.backward(share));
                backward += started.elapsed();
                item
            });
            measured.push(item);
        }
        // One read for all of them: each read waits for the device.
        let started = Instant::now();
        let biased = settings.bias_update_speed != 0.0;
        let (layers, biases): (Vec<_>, Vec<_>) = model
            .model
            .routers_mut()
            .filter(|(_, router)| biased && router.has_balance_bias())
            .map(|(layer, router)| (layer, router.e_score_correction_bias.val()))
            .map(|(layer, bias)| (layer, without_autodiff(bias)))
            .unzip();
        let (reports, biases) = read(measured, biases);
        self.biases = layers.into_iter().zip(biases).collect();
        let mut report = StepReport::default();
        for item in &reports {
            report.absorb(item);
        }
        backward += started.elapsed();
        report.passes.forward_seconds = forward.as_secs_f64();
        report.passes.backward_seconds = backward.as_secs_f64();
        report.passes.casts = counter.map(|counter| counter.take());
        Ok(report)
    }

    fn update(
        &mut self,
        settings: &StepSettings,
        loads: &[LayerLoad],
        detailed: bool,
    ) -> Result<Updated> {
        let model = self.model.take().context(MODEL_IS_HERE)?;
        let scale = model.gradient_scale();
        let (optimizer, gradients) = (&mut self.optimizer, self.gradients.grads());
        let (mut model, updated) = run_on(&model.model.device(), || {
            let squares = gradient_squares(&model, &gradients);
            let grad_norm = norm_of(&squares) / scale;
            let model = optimizer.update_by_norm(model, gradients, grad_norm, scale, settings.lr);
            let norms = detailed
                .then(|| Norms::of(&model.model, &squares, scale, &parameter_squares(&model)));
            (model, Updated { grad_norm, norms, sent_bytes: Vec::new() })
        });
        model.weights_changed();
        update_known_biases(
            model.model.routers_mut(),
            |layer| LayerLoad::of_layer(loads, layer),
            &std::mem::take(&mut self.biases),
            settings.bias_update_speed,
        );
        self.model = Some(model);
        Ok(updated)
    }

    fn model(&mut self) -> Result<&LanguageModel> {
        self.model.as_ref().context(MODEL_IS_HERE)
    }

    fn state(&mut self) -> Result<(&LanguageModel, &AdamW)> {
        Ok((self.model.as_ref().context(MODEL_IS_HERE)?, &self.optimizer))
    }

    fn into_model(self: Box<Self>) -> LanguageModel {
        self.model.expect(MODEL_IS_HERE)
    }
}
