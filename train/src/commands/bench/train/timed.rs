//! The engine that is timed, the batch that it sees, and the parts of its step.

use std::time::Instant;

use burn::data::dataloader::batcher::Batcher;
use burn_deepseek::DeepSeek;
use burn_deepseek::backend::{LaunchCount, run_on};
use burn_deepseek::ops::host_reads;

use super::super::random_tokens;
use crate::commands::train::{adamw_settings, compute, engine, engine_settings, ranks_on};
use crate::config::RunConfig;
use crate::data::{TokenBatch, TokenBatcher, Window};
use crate::device::SelectedDevice;
use crate::dualpipe::Cluster;
use crate::failure::{Context, Result};
use crate::learner::{AdamW, Ema, LanguageModel, StepEngine};
use crate::schedule::{Position, StepSettings};

/// Seed of the micro-batch that every pass sees.
const TOKENS_SEED: u64 = 1;

/// What is timed.
pub(in super::super) struct Timed<'a> {
    selected: &'a SelectedDevice,
    settings: StepSettings,
    engine: Box<dyn StepEngine>,
    cluster: Option<Cluster>,
    batch: TokenBatch,
    micro_batches: usize,
}

/// Milliseconds of a step's parts, each waited for.
pub(in super::super) struct StepTimes {
    /// Forward, with the losses read, and backward.
    pub gradients_ms: f64,
    /// Clipping, AdamW and the balance biases.
    pub update_ms: f64,
}

impl StepTimes {
    /// Milliseconds of the step.
    pub fn total_ms(&self) -> f64 {
        self.gradients_ms + self.update_ms
    }
}

/// What a step asks of a device.
pub(super) struct Work {
    /// Kernels.
    pub launches: u64,
    /// Values that the host waits for.
    pub waits: u64,
}

impl<'a> Timed<'a> {
    /// The first step of a run, all ranks on the selected device.
    pub fn new(config: &RunConfig, selected: &'a SelectedDevice) -> Result<Self> {
        let train = &config.train;
        let settings = config.schedule()?.at(Position::default());
        let micro_batches = settings.global_batch / train.micro_batch;
        let cluster = ranks_on(config, selected)?;
        let model = DeepSeek::init(&config.model, train.seed, &selected.device)?;
        let compute = compute(config.precision.precision(), &selected.device)?;
        let model = LanguageModel::new(model, settings.loss_weights(), micro_batches, compute);
        let optimizer = AdamW::new(adamw_settings(config, selected)?);
        let run = engine_settings(config);
        let windows: Vec<Window> =
            random_tokens(config, train.micro_batch * (train.seq_len + 1), TOKENS_SEED)
                .chunks_exact(train.seq_len + 1)
                .zip(0..)
                .map(|(tokens, sample)| Window { tokens: tokens.to_vec(), sample })
                .collect();
        let device = run.training_device(&selected.device);
        let batch = TokenBatcher::new(train.seq_len).batch(windows, &device);
        let engine = engine(cluster.as_ref(), model, optimizer, run)?;
        Ok(Self { selected, settings, engine, cluster, batch, micro_batches })
    }

    /// The model as it is now.
    pub fn model(&mut self) -> Result<&LanguageModel> {
        self.engine.model()
    }

    /// Sequences of a step.
    pub fn sequences(&self) -> usize {
        self.settings.global_batch
    }

    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.batch.tokens * self.micro_batches
    }

    /// Whether the MTP modules run.
    pub fn runs_mtp(&self) -> bool {
        self.settings.mtp_lambda != 0.0
    }

    /// The ranks, where there are several.
    pub fn ranks(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Takes a step, with the weights averaged beside its forward and backward where that is
    /// wanted.
    pub fn step(&mut self, mut average: Option<&mut Ema>) -> Result<StepTimes> {
        self.sync()?;
        let begin = Instant::now();
        if let Some(average) = average.as_deref_mut() {
            average.step(&self.engine.model()?.model)?;
        }
        let batch = &self.batch;
        let report = self.engine.accumulate(&mut || Ok(batch.clone()), &self.settings, false)?;
        self.sync()?;
        let gradients_ms = milliseconds_since(begin);
        let begin = Instant::now();
        average.map_or(Ok(()), Ema::settle)?;
        self.engine.update(&self.settings, &report.layer_loads, false)?;
        self.sync()?;
        Ok(StepTimes { gradients_ms, update_ms: milliseconds_since(begin) })
    }

    /// Takes a step and counts what it asks of the device.
    pub(super) fn count(&mut self) -> Result<Work> {
        let (count, before) = (LaunchCount::new(), host_reads());
        self.step(None)?;
        Ok(Work { launches: count.launches(), waits: host_reads() - before })
    }

    /// Milliseconds of the forward passes of a step: those of one, for which what is quantized of
    /// the weights is made anew, times the micro-batches. None over several ranks, which have no
    /// pass of the whole model.
    ///
    /// One alone is run, since Burn keeps what a pass without a backward pass has left for it until
    /// another backward pass ends.
    pub fn forward(&mut self) -> Result<Option<f64>> {
        if self.cluster.is_some() {
            return Ok(None);
        }
        let mut model = self.engine.model()?.clone();
        model.weights_changed();
        let batch = self.batch.clone();
        self.sync()?;
        let begin = Instant::now();
        let _loss_and_report = run_on(&self.selected.device, || model.forward(batch));
        self.sync()?;
        Ok(Some(milliseconds_since(begin) * self.micro_batches as f64))
    }

    fn sync(&self) -> Result<()> {
        self.selected.device.sync().context("the device cannot finish its work")
    }
}

fn milliseconds_since(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
