//! Whole training steps, and their parts.

use std::time::Instant;

use anyhow::{Context, Result};
use burn::data::dataloader::batcher::Batcher;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn_deepseek::backend::run_on;
use burn_deepseek::{DeepSeek, in_training, training_device};

use super::table::{Table, Times};
use super::{Repetitions, random_tokens};
use crate::commands::train::{adamw_settings, compute};
use crate::config::RunConfig;
use crate::data::{TokenBatcher, Window};
use crate::device::SelectedDevice;
use crate::learner::{AdamW, Ema, EmaSettings, LanguageModel};
use crate::schedule::Position;

/// Seed of the batch that every step sees.
const TOKENS_SEED: u64 = 1;

/// Steps as the learner takes them, each waited for: forward (with the losses read), backward,
/// optimizer.
pub(super) fn time(
    config: &RunConfig,
    selected: &SelectedDevice,
    reps: Repetitions,
) -> Result<Table> {
    let train = &config.train;
    let recompute = config.precision.recompute;
    let device = training_device(&selected.device, recompute);
    let sync = || selected.device.sync().context("the device cannot finish its work");
    let step = config.schedule()?.at(Position::default());
    let model = DeepSeek::init(&config.model, train.seed, &selected.device)?;
    let compute = compute(config, &selected.device)?;
    let mut model =
        in_training(LanguageModel::new(model, step.loss_weights(), 1, compute), recompute);
    model.prepare(step.loss_weights(), 1, train.micro_batch * train.seq_len);
    let scale = model.gradient_scale();
    let mut optimizer = AdamW::new(adamw_settings(config, selected)?);
    let windows: Vec<Window> =
        random_tokens(config, train.micro_batch * (train.seq_len + 1), TOKENS_SEED)
            .chunks_exact(train.seq_len + 1)
            .zip(0..)
            .map(|(tokens, sample)| Window { tokens: tokens.to_vec(), sample })
            .collect();
    let batch = TokenBatcher::new(train.seq_len).batch(windows, &device);

    let mut ema = match config.ema.decay {
        Some(decay) => {
            Some(Ema::new(EmaSettings { decay, every: config.ema.every }, &model.model)?)
        }
        None => None,
    };
    let device = &selected.device;
    let (mut steps, mut averaged_steps) = (Times::new(), Times::new());
    let (mut forward, mut backward, mut update) = (Times::new(), Times::new(), Times::new());
    let mut averaging = false;
    let kinds = if ema.is_some() { 2 } else { 1 };
    for rep in 0..kinds * (reps.warmup + reps.timed) {
        sync()?;
        let begin = Instant::now();
        // Steps without the average beside them and steps with it take turns, so that what else the
        // machine does falls on both.
        if let Some(ema) = ema.as_mut().filter(|_| averaging) {
            ema.step(&model.model)?;
        }
        let (loss, _report) = run_on(device, || model.forward(batch.clone()));
        sync()?;
        let forward_done = Instant::now();
        let grads = run_on(device, || GradientsParams::from_grads(loss.backward(), &model));
        sync()?;
        let backward_done = Instant::now();
        let mut accumulator = GradientsAccumulator::new();
        accumulator.accumulate(&model, grads);
        ema.as_mut().map_or(Ok(()), Ema::settle)?;
        let grads = accumulator.grads();
        (model, _) = run_on(device, || optimizer.update(model, grads, scale, step.lr));
        model.weights_changed();
        sync()?;
        let end = Instant::now();
        let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        if rep >= kinds * reps.warmup && averaging {
            averaged_steps.push(ms(begin, end));
        } else if rep >= kinds * reps.warmup {
            steps.push(ms(begin, end));
            forward.push(ms(begin, forward_done));
            backward.push(ms(forward_done, backward_done));
            update.push(ms(backward_done, end));
        }
        averaging = kinds == 2 && !averaging;
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
    table.speed("training", batch.tokens, &steps);
    for (name, times) in [("forward", &forward), ("backward", &backward), ("optimizer", &update)] {
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
