//! `deepseek train`: resolve, open the data, build or load the model, run the learner, say what
//! came of it.

mod begun;
mod browser;
mod finish;
mod folders;
mod follow;
mod guard;
mod memory;
mod own;
mod processes;
mod rank_log;
mod ranks;
mod resumed;
mod start;
mod timeline;

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{DType, Device};
use burn_deepseek::{Compute, Precision};
use burn_train::renderer::MetricsRenderer;
use burn_train::{Learner, SupervisedTraining, TrainingStrategy};

use crate::checkpoint::{CheckpointWriter, Kept};
use crate::cli::TrainArgs;
use crate::commands::facts::facts;
use crate::commands::new_folder::check_new_files;
use crate::config::{MomentsConfig, RunConfig};
use crate::data::{Tokenizer, numbered_loader, train_loader, valid_loader};
use crate::device::SelectedDevice;
use crate::dualpipe::{Cluster, Pipelines};
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::learner::{
    AdamW, AdamWSettings, EngineSettings, LanguageModel, MomentFormat, SingleDevice, StepEngine,
};
use crate::metrics::{
    ExpertCounts, LogSettings, Machine, Notes, PlainRenderer, StepLog, Unlogged, Webhook, register,
};
use crate::parallel::{Processes, launched};
use crate::routing::{RoutingShape, RoutingTap, RoutingWriter, WriteAt};
use crate::schedule::{Position, TrainingSchedule};
use crate::signals::Signals;
use crate::stdout::write_stdout;
use crate::tensorboard::RunFacts;
use crate::terminal::{self, Facts, TerminalRenderer};
use crate::training::{RunOutcome, RunPlan, RunState, SamplePlan, StepStrategy};
use crate::visible::visible;
use own::led;
pub(in crate::commands) use processes::host;
pub(in crate::commands) use ranks::{formats_of, ranks_on};
pub(in crate::commands) use start::Start;
use start::{Parts, left};

/// Trains a model, or goes on training one.
///
/// # Errors
///
/// A configuration, data or device that does not fit ([`crate::exit::USAGE`]); a checkpoint that
/// cannot be read or written, or a training that diverged ([`crate::exit::FAILURE`]).
pub fn run(args: TrainArgs, signals: &Signals) -> Result<Outcome> {
    if let Some(launched) = launched().filter(|_| cfg!(feature = "mpi")) {
        guard::guard(launched, signals)?;
    }
    let processes = Processes::join()?;
    if let Some(processes) = processes.as_ref().filter(|processes| processes.number != 0) {
        return follow::follow(processes, &args, signals);
    }
    // A run that goes on may go on with its file; that one file is not for both is told later.
    let routing = args.save_routing.as_ref();
    let routing = routing.filter(|_| args.resume.is_none() && args.routing != args.save_routing);
    check_new_files([("--trace", args.trace.as_ref()), ("--save-routing", routing)])?;
    let listening = browser::listening(&args)?;
    let mut start = Start::prepare(&args, processes.as_ref())?;
    start.announce()?;
    let browser = listening.map(|listening| browser::show(listening, &mut start)).transpose()?;
    let view = !args.plain && !args.json && terminal::is_there();
    let notice = "stopping after this step and saving; once more to stop at once";
    let outcome = learn(&mut start, signals, notice, view)?;
    drop(browser);
    finish::report(&start, outcome, args.trace.as_deref())
}

/// Runs burn-train's learner with our strategy; a signal after the first step prints `notice`. The
/// run is shown in plain lines, or with `view` in the terminal.
pub(in crate::commands) fn learn(
    start: &mut Start,
    signals: &Signals,
    notice: &'static str,
    view: bool,
) -> Result<RunOutcome> {
    let Parts { model, optimizer, average, .. } =
        start.parts.take().expect("invariant: a start is used once");
    let replayed = start.replayed.take();
    let Start { config, schedule, position, .. } = &*start;
    let train = &config.train;
    let here = Position { step: position.step, tokens: position.tokens };
    let (steps, samples) = left(config, schedule, position)?;
    let at = WriteAt { step: position.step, samples: position.samples };
    let shape = RoutingShape::of(&config.model);
    let saved = start.saved_routing.as_ref().map(|path| RoutingWriter::of_run(path, &shape, at));
    let saved = saved.transpose().context("--save-routing")?;
    let micro_batch = train
        .micro_batch
        .try_into()
        .map_err(|_| UsageError("train.micro_batch must be at least 1".into()))?;
    let device = &start.device;
    let (text, first) = (&start.data.train, position.samples);
    // Each process reads its own windows, unless their tokens are wanted here: saved choices are of
    // certain tokens.
    let routed = replayed.is_some() || saved.is_some();
    let train_batches = match start.processes() {
        Some(_) if !routed => numbered_loader(text.seq_len(), first, samples, micro_batch, device),
        _ => train_loader(text, first, samples, micro_batch, device),
    };
    let valid_batches = valid_loader(
        &start.data.valid.first(train.eval_batches * train.micro_batch),
        micro_batch,
        device,
    );

    let next = schedule.at(here);
    let model = LanguageModel::new(
        model,
        next.loss_weights(),
        next.global_batch / train.micro_batch,
        compute(config.precision.precision(), device)?,
    );
    let keep = Kept { newest: train.keep_checkpoints, best: train.keep_best };
    let toml = config.to_toml()?;
    let (tokenizer, data) = (start.tokenizer_files.clone(), start.data.fingerprint.clone());
    let checkpoints = CheckpointWriter::new(&start.folder.path, keep, toml, tokenizer, data);
    for path in checkpoints.set_later_aside(position.step)? {
        write_stdout(&format!(
            "set aside   {}: it was saved after the step that this run goes on from\n",
            path.display()
        ))?;
    }
    let (log, broken) = StepLog::open(
        &start.folder.path,
        position.step,
        log_settings(config, start.bytes_per_token())?,
    )?;
    checkpoints.prune(log.validation_losses())?;
    if let Some(broken) = broken {
        write_stdout(&fold_on_terminal(format!("set aside   {broken}\n")))?;
    }
    let (settings, notes) = (engine_settings(config), Notes::default());
    if let Some(browser) = start.browser.as_ref().filter(|_| view) {
        notes.say(format!("in a browser: {browser}"));
    }
    let state = RunState {
        average,
        position: position.clone(),
        checkpoints,
        checkpoint: start.resumed_from.clone(),
        routing: RoutingTap::new(replayed, saved),
        log,
        machine: Machine::new(&start.folder.path, devices(start)),
        webhook: webhook(config, &start.folder.path, &notes)?,
        notes: notes.clone(),
        engine: match start.processes() {
            Some(processes) => led(start, processes, model.clone(), optimizer.settings())?,
            None => engine(start.cluster.as_ref(), model.clone(), optimizer, settings)?,
        },
        signals: signals.clone(),
        notice,
    };
    let plan = plan(config, schedule, steps, &start.data.tokenizer);
    let eval_every = plan.eval_every;
    let plain =
        PlainRenderer::new(position.step, steps, eval_every, train.log_every, notes.clone());
    let renderer: Box<dyn MetricsRenderer> = if view {
        let facts = Facts {
            device: Some(visible(&start.device_name).into_owned()),
            browser: start.browser.clone(),
            ..facts(&start.folder.path, config, steps)
        };
        Box::new(TerminalRenderer::open(facts, signals, notes.clone(), plain))
    } else {
        Box::new(plain)
    };
    let epochs = steps.div_ceil(eval_every) as usize;
    let (strategy, outcome) = StepStrategy::new(plan, settings.training_device(device), state);
    let training = SupervisedTraining::new(&start.folder.path, train_batches, valid_batches)
        .with_interrupter(signals.interrupter().clone())
        .with_application_logger(None)
        .with_metric_logger(Unlogged)
        .renderer(renderer)
        .num_epochs(epochs)
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
    let training = match (position.step / eval_every) as usize {
        0 => training,
        epoch => training.checkpoint(epoch),
    };
    let mtp_depths = if schedule.has_mtp() { config.model.num_nextn_predict_layers } else { 0 };
    let training = register(training, mtp_depths, &start.moe_layers(), start.bytes_per_token());
    // The engine has the weights and the optimizer, the strategy the schedule; what the learner is
    // given here is never stepped.
    let unused = burn::optim::SgdConfig::new().init();
    let result = training.launch(Learner::new(model, unused, 0.0));
    drop(result.renderer); // gives the terminal back
    // What was said when nobody showed the run any more.
    for note in notes.take() {
        write_stdout(&fold_on_terminal(format!("{note}\n")))?;
    }
    outcome.take()
}

/// The devices that the run computes on.
fn devices(start: &Start) -> Vec<Device> {
    match &start.cluster {
        Some(cluster) => cluster.ranks.iter().map(|(_, device)| device.clone()).collect(),
        None => vec![start.device.clone()],
    }
}

/// Where the run's alerts are posted to.
fn webhook(config: &RunConfig, run_dir: &Path, notes: &Notes) -> Result<Option<Webhook>> {
    let Some(address) = &config.alerts.webhook else { return Ok(None) };
    let name = run_dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    Webhook::start(address, &name, notes.clone()).map(Some)
}

/// What an engine needs to know of the run.
pub(in crate::commands) fn engine_settings(config: &RunConfig) -> EngineSettings {
    EngineSettings {
        micro_batch: config.train.micro_batch,
        seq_len: config.train.seq_len,
        recompute: config.precision.recompute,
    }
}

/// What computes the steps: the ranks of a cluster, or one device.
pub(in crate::commands) fn engine(
    cluster: Option<&Cluster>,
    model: LanguageModel,
    optimizer: AdamW,
    settings: EngineSettings,
) -> Result<Box<dyn StepEngine>> {
    Ok(match cluster {
        Some(cluster) => Box::new(Pipelines::start(model.valid(), optimizer, cluster, settings)?),
        None => Box::new(SingleDevice::new(model, optimizer, settings)),
    })
}

/// A precision on a device.
pub(in crate::commands) fn compute(precision: Precision, device: &Device) -> Result<Compute> {
    Compute::new(precision, device).map_err(|error| {
        let key = if precision == Precision::Bf16x3 { "products" } else { "format" };
        UsageError(format!("precision.{key} = {:?}: {error}", precision.name())).into()
    })
}

/// What the run records.
fn log_settings(config: &RunConfig, bytes_per_token: f64) -> Result<LogSettings> {
    let model = &config.model;
    Ok(LogSettings {
        every: config.metrics.every,
        bytes_per_token,
        alerts: config.alerts.clone(),
        experts: ExpertCounts {
            experts: model.n_routed_experts,
            chosen: model.num_experts_per_tok,
        },
        tensorboard: config.output.tensorboard.then(|| RunFacts::of(config)).transpose()?,
    })
}

fn plan(
    config: &RunConfig,
    schedule: &TrainingSchedule,
    steps: u64,
    tokenizer: &Tokenizer,
) -> RunPlan {
    let RunConfig { train, output, .. } = config;
    let sample = (output.sample_tokens > 0).then(|| SamplePlan {
        tokenizer: tokenizer.clone(),
        prompt: output.sample_prompt.clone(),
        tokens: output.sample_tokens,
        temperature: output.sample_temperature,
        seed: train.seed,
    });
    RunPlan {
        steps,
        eval_every: if train.eval_every == 0 { steps } else { train.eval_every.min(steps) }.max(1),
        checkpoint_every: train.checkpoint_every,
        schedule: schedule.clone(),
        sample,
    }
}

/// AdamW as the configuration has it on a device.
///
/// # Errors
///
/// Moments in BF16 on a device without it.
pub(in crate::commands) fn adamw_settings(
    config: &RunConfig,
    device: &SelectedDevice,
) -> Result<AdamWSettings, UsageError> {
    let optimizer = &config.optimizer;
    let has_bf16 = device.device.supports_dtype(DType::BF16);
    let moments = match optimizer.moments {
        MomentsConfig::F32 => MomentFormat::F32,
        MomentsConfig::Bf16 if !has_bf16 => {
            let problem = format!(
                "optimizer.moments = \"bf16\", but {} has no BF16; take --set \
                 optimizer.moments=f32",
                device.name
            );
            return Err(UsageError(problem));
        }
        MomentsConfig::Auto if !has_bf16 || !optimizer.decays_in_bf16() => MomentFormat::F32,
        MomentsConfig::Auto | MomentsConfig::Bf16 => MomentFormat::Bf16,
    };
    Ok(AdamWSettings {
        beta1: optimizer.beta1,
        beta2: optimizer.beta2,
        eps: optimizer.eps,
        weight_decay: optimizer.weight_decay,
        clip_grad_norm: (optimizer.clip_grad_norm > 0.0).then_some(optimizer.clip_grad_norm),
        moments,
    })
}
