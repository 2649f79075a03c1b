//! Whole training steps by the engine that trains, and their parts.

use std::time::Instant;

use burn::data::dataloader::batcher::Batcher;
use burn_deepseek::DeepSeek;
use burn_deepseek::backend::run_on;

use super::table::{Table, Times};
use super::{Repetitions, random_tokens};
use crate::commands::train::{adamw_settings, compute, engine_settings};
use crate::config::RunConfig;
use crate::data::{TokenBatch, TokenBatcher, Window};
use crate::device::SelectedDevice;
use crate::failure::{Context, Result};
use crate::learner::{AdamW, Ema, EmaSettings, LanguageModel, SingleDevice, StepEngine};
use crate::schedule::{Position, StepSettings};

/// Seed of the batch that every step sees.
const TOKENS_SEED: u64 = 1;

/// Times the first step of a run, of one micro-batch, again and again: by itself, with the weights
/// averaged beside it where the configuration has that, and its forward pass alone. The three take
/// turns, so that what else the machine does falls on all of them.
pub(super) fn time(
    config: &RunConfig,
    selected: &SelectedDevice,
    reps: Repetitions,
) -> Result<Table> {
    let train = &config.train;
    let settings = StepSettings {
        global_batch: train.micro_batch,
        ..config.schedule()?.at(Position::default())
    };
    let mut timed = Timed::new(config, selected, settings)?;
    let mut ema = match config.ema.decay {
        Some(decay) => {
            let settings = EmaSettings { decay, every: config.ema.every };
            Some(Ema::new(settings, &timed.engine.model()?.model)?)
        }
        None => None,
    };
    let (mut steps, mut averaged_steps) = (Times::new(), Times::new());
    let (mut forward, mut gradients, mut update) = (Times::new(), Times::new(), Times::new());
    for rep in 0..reps.warmup.saturating_add(reps.timed) {
        let counts = rep >= reps.warmup;
        let step = timed.step(None)?;
        if counts {
            steps.push(step.gradients_ms + step.update_ms);
            gradients.push(step.gradients_ms);
            update.push(step.update_ms);
        }
        if let Some(ema) = &mut ema {
            let step = timed.step(Some(ema))?;
            if counts {
                averaged_steps.push(step.gradients_ms + step.update_ms);
            }
        }
        let forward_ms = timed.forward()?;
        if counts {
            forward.push(forward_ms);
        }
    }

    let setting = format!(
        "{} parameters, {} x {} tokens a step, median of {} after {}",
        config.model.parameter_counts().total,
        train.micro_batch,
        train.seq_len,
        reps.timed,
        reps.warmup
    );
    let mut table = Table::new("train", setting, &selected.name);
    table.time("step", &steps);
    table.speed("training", timed.batch.tokens, &steps);
    for (name, times) in
        [("forward", &forward), ("forward and backward", &gradients), ("optimizer", &update)]
    {
        table.time(name, times);
        table.compare(name, "step");
    }
    if ema.is_some() {
        let name = "step, weights averaged";
        table.time(name, &averaged_steps);
        table.compare(name, "step");
    }
    Ok(table)
}

/// What is timed.
struct Timed<'a> {
    selected: &'a SelectedDevice,
    settings: StepSettings,
    engine: SingleDevice,
    batch: TokenBatch,
}

/// Milliseconds of a step's parts, each waited for.
struct StepTimes {
    /// Forward, with the losses read, and backward.
    gradients_ms: f64,
    /// Clipping, AdamW and the balance biases.
    update_ms: f64,
}

impl<'a> Timed<'a> {
    fn new(
        config: &RunConfig,
        selected: &'a SelectedDevice,
        settings: StepSettings,
    ) -> Result<Self> {
        let train = &config.train;
        let model = DeepSeek::init(&config.model, train.seed, &selected.device)?;
        let compute = compute(config.precision.precision(), &selected.device)?;
        let model = LanguageModel::new(model, settings.loss_weights(), 1, compute);
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
        Ok(Self { selected, settings, engine: SingleDevice::new(model, optimizer, run), batch })
    }

    /// Takes a step, with the weights averaged beside its forward and backward where that is
    /// wanted.
    fn step(&mut self, mut average: Option<&mut Ema>) -> Result<StepTimes> {
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

    /// Milliseconds of a forward pass as a step has it: what is quantized of the weights is made
    /// anew.
    fn forward(&mut self) -> Result<f64> {
        let mut model = self.engine.model()?.clone();
        model.weights_changed();
        self.sync()?;
        let begin = Instant::now();
        let batch = self.batch.clone();
        let _loss_and_report = run_on(&self.selected.device, || model.forward(batch));
        self.sync()?;
        Ok(milliseconds_since(begin))
    }

    fn sync(&self) -> Result<()> {
        self.selected.device.sync().context("the device cannot finish its work")
    }
}

fn milliseconds_since(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
