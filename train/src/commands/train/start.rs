//! What a run starts from: a configuration and fresh weights, or a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use burn_deepseek::weights::{LoadedWeights, MtpWeights, load_weights};
use burn_deepseek::{DeepSeek, DeepSeekConfig, WeightInit};

use super::begun::{begun_from, begun_so, unchanged};
use super::folders::RunFolder;
use super::processes::Origin;
use super::ranks::cluster;
use super::resumed::{Said, check_data, resumed, tokenizer_of};
use super::{adamw_settings, processes};
use crate::checkpoint::{Checkpoint, CheckpointError, RUN_FILE, TrainState, Weights};
use crate::cli::TrainArgs;
use crate::commands::preparation::Preparation;
use crate::commands::products::products_on;
use crate::commands::routing_files::check_routing_files;
use crate::config::{ConfigError, Format, RunConfig};
use crate::data::{Opening, TokenData, Tokenizer, TokenizerFiles};
use crate::device::{DeviceChoice, SelectedDevice};
use crate::dualpipe::Cluster;
use crate::durable::replace_file;
use crate::failure::{Context, Result, UsageError};
use crate::fold::{fold_on_terminal, hang, width};
use crate::learner::{AdamW, AdamWSettings, Average, Ema, EmaSettings};
use crate::oversize::check_training;
use crate::parallel::Processes;
use crate::routing::{MadeBy, RoutingShape, SavedRouting};
use crate::schedule::{Position, TrainingSchedule};
use crate::stdout::write_stdout;

/// What training changes.
#[derive(Debug)]
pub(in crate::commands) struct Parts {
    pub model: DeepSeek,
    pub optimizer: AdamW,
    pub average: Option<Average>,
    /// MTP modules that were drawn beside weights that were loaded.
    pub drawn_mtp: usize,
}

/// Everything a run needs before its first step.
#[derive(Debug)]
pub(in crate::commands) struct Start {
    pub config: RunConfig,
    pub schedule: TrainingSchedule,
    pub data: TokenData,
    /// What checkpoints have of the tokenizer.
    pub tokenizer_files: TokenizerFiles,
    pub device: Device,
    pub device_name: String,
    /// Where the ranks are, of a run over several.
    pub cluster: Option<Cluster>,
    /// Where the weights of ranks that are processes come from.
    pub(super) origin: Origin,
    /// The model and its optimizer, until training takes them.
    pub parts: Option<Parts>,
    pub position: TrainState,
    /// The saved routing that the run replays.
    pub replayed: Option<SavedRouting>,
    /// Where the run's routing is saved.
    pub saved_routing: Option<PathBuf>,
    bytes_per_token: f64,
    /// Where everything is written; nobody else trains there.
    pub folder: RunFolder,
    pub resumed_from: Option<PathBuf>,
    /// Where the run is shown in a browser, while it is trained.
    pub browser: Option<String>,
}

impl Start {
    /// Resolves, opens, builds or loads; its ranks are the processes, where there are any. The
    /// run's folder is made last, when nothing else can fail any more.
    pub fn prepare(args: &TrainArgs, processes: Option<&Arc<Processes>>) -> Result<Self> {
        let (checkpoint, folder) = resumed(args)?.unzip();
        let mut config = resolved(args, checkpoint.as_ref())?;
        if let Some(checkpoint) = &checkpoint {
            begun_so(checkpoint, &config)?;
        }
        if let Some(processes) = processes {
            processes::check(&config, args, processes)?;
        }
        let folder = folder.map_or_else(|| RunFolder::named(&config), |folder| Ok(Some(folder)))?;
        // Evaluations, averages and checkpoints are made on this machine, which is there when a
        // worker is not.
        let selected = if args.device.worker().is_some() {
            DeviceChoice::Auto.open()?
        } else {
            args.device.open()?
        };
        check_size(args, &config, &selected, processes.is_some())?;
        let adamw = adamw_settings(&config, &selected)?;
        config.optimizer.moments = adamw.moments.into();
        let preparation = Preparation::new(&config.data, args.no_cache);
        let (seq_len, vocab_size) = (config.train.seq_len, config.model.vocab_size);
        let tokenizer = match &checkpoint {
            Some(checkpoint) => tokenizer_of(checkpoint, &config.data, Said::Here)?,
            None => None,
        };
        let opening = Opening { tokenizer: tokenizer.as_ref(), ..preparation.opening() };
        let data = config.data.open_with(seq_len, vocab_size, &opening)?;
        drop(preparation);
        if let Some(checkpoint) = &checkpoint {
            check_data(checkpoint, &config.data, &data, args.allow_changed_data)?;
        }
        let tokenizer_files = TokenizerFiles::of_run(&data.tokenizer, config.model.vocab_size)?;
        check_sample(&config, &data)?;
        let schedule = config.schedule()?;
        let model = with_tokens(&config.model, &data.tokenizer);
        let device = &selected.device;
        let (mut origin, none) = (Origin::Drawn, TrainState::default());
        let (parts, position) = match (&checkpoint, processes) {
            (None, None) => (Parts::new(&config, &model, adamw, device)?, none),
            (Some(checkpoint), None) => Parts::resumed(checkpoint, &config, &model, adamw, device)?,
            (checkpoint, Some(_)) => {
                let (parts, position);
                (parts, position, origin) =
                    Parts::elsewhere(checkpoint.as_ref(), &config, &model, adamw, device)?;
                (parts, position)
            }
        };
        let replayed = replayed(args, &config, &schedule, &position)?;
        let cluster = cluster(&config, &selected, args, processes)?;
        let resumed_from = checkpoint.map(|checkpoint| checkpoint.path);
        let folder = folder.map_or_else(|| RunFolder::new(&config), Ok)?;
        let bytes_per_token =
            data.evaluated_bytes_per_token(config.train.eval_batches * config.train.micro_batch)?;
        let start = Self {
            config,
            schedule,
            data,
            tokenizer_files,
            device: selected.device,
            device_name: selected.name,
            cluster,
            origin,
            parts: Some(parts),
            position,
            replayed,
            saved_routing: args.save_routing.clone(),
            bytes_per_token,
            folder,
            resumed_from,
            browser: None,
        };
        if start.trains() {
            let toml = start.config.to_toml()?;
            replace_file(&start.run_file(), |out| out.write_all(toml.as_bytes()))?;
        }
        Ok(start)
    }

    /// Prints what is about to be done.
    pub fn announce(&self) -> Result<()> {
        let config = &self.config;
        let counts = config.model.parameter_counts();
        let mtp = config.model.num_nextn_predict_layers;
        let mut text = said(config)?;
        text += &format!("            (all of it: {})\n", self.run_file().display());
        text += &format!(
            "\nmodel       {} parameters, {} active a token{}\n{}\n",
            counts.total,
            counts.active,
            if mtp > 0 {
                format!(", and {} of {mtp} MTP modules", counts.mtp)
            } else {
                String::new()
            },
            self.data.summary,
        );
        let (end, first) =
            (self.schedule.end(), self.schedule.at(Position::default()).global_batch);
        let last = self.schedule.rows().last().map_or(first, |row| row.settings.global_batch);
        text += &format!(
            "run         {} steps of {} sequences of {} tokens = {} tokens, on {}, in {}\n",
            end.step,
            if first == last { first.to_string() } else { format!("{first} to {last}") },
            config.train.seq_len,
            end.tokens,
            self.device_name,
            self.folder.path.display()
        );
        if config.precision.format != Format::F32
            && let Some(products) = products_on(&self.device_name, &self.device)
        {
            text += &format!("products    {products}\n");
        }
        if let Some(cluster) = &self.cluster {
            text += &format!("ranks       {}\n", cluster.describe());
            if let Some(library) = cluster.processes.as_deref().and_then(Processes::library) {
                text += &format!("MPI         {library}\n");
            }
        }
        if let Some(parts) = self.parts.as_ref().filter(|parts| parts.drawn_mtp > 0) {
            text += &format!(
                "MTP         {} drawn: train.init_from has no weights of MTP modules\n",
                parts.drawn_mtp
            );
        }
        let step = self.position.step;
        if let Some(path) = &self.resumed_from {
            text += &format!("resumed     from {} after step {step}\n", path.display());
        }
        if !self.trains() {
            text += &format!(
                "finished    the run was to end after step {} and has made {step}: nothing is \
                 trained; --steps or --tokens prolongs it\n",
                self.schedule.end().step
            );
        }
        write_stdout(&(fold_on_terminal(text) + "\n"))
    }

    /// The processes that are the run's ranks, where they are processes.
    pub fn processes(&self) -> Option<&Arc<Processes>> {
        self.cluster.as_ref()?.processes.as_ref()
    }

    /// Whether the run has steps left. One that has none stays what it is, its configuration
    /// included.
    fn trains(&self) -> bool {
        let TrainState { step, tokens, .. } = self.position;
        let end = self.schedule.end_from(Position { step, tokens });
        self.resumed_from.is_none() || end.is_none_or(|end| end.step > step)
    }

    /// Where the configuration of the run is, complete.
    fn run_file(&self) -> PathBuf {
        self.folder.path.join(RUN_FILE)
    }

    /// Indices of the MoE layers, those of MTP modules last.
    pub fn moe_layers(&self) -> Vec<usize> {
        self.config.model.moe_layer_indices()
    }

    /// Bytes of text a token that an evaluation predicts.
    pub fn bytes_per_token(&self) -> f64 {
        self.bytes_per_token
    }
}

/// The saved routing that a run replays; it has all samples that the run will see.
fn replayed(
    args: &TrainArgs,
    config: &RunConfig,
    schedule: &TrainingSchedule,
    position: &TrainState,
) -> Result<Option<SavedRouting>> {
    check_routing_files(
        &config.model,
        args.routing.as_deref(),
        args.save_routing.as_deref().map(|path| ("--save-routing", path)),
    )?;
    let Some(path) = &args.routing else { return Ok(None) };
    let shape = RoutingShape::of(&config.model);
    let saved = SavedRouting::open(path, &shape, MadeBy::Train).context("--routing")?;
    let (_, samples) = left(config, schedule, position)?;
    saved.check_samples(position.samples, samples as u64).context("--routing")?;
    Ok(Some(saved))
}

/// The step that a run ends with, and the samples that it has still to see.
pub(super) fn left(
    config: &RunConfig,
    schedule: &TrainingSchedule,
    position: &TrainState,
) -> Result<(u64, usize)> {
    let here = Position { step: position.step, tokens: position.tokens };
    let too_long = "train.steps: the run has more samples than can be counted";
    let end = schedule.end_from(here).context(too_long)?;
    let samples = (end.tokens - here.tokens) / config.train.seq_len as u64;
    Ok((end.step, usize::try_from(samples).context(too_long)?))
}

/// What the configuration says beyond defaults, a line a section.
fn said(config: &RunConfig) -> Result<String> {
    let mut text = String::new();
    for (index, (section, keys)) in config.differences()?.into_iter().enumerate() {
        let keys: Vec<String> =
            keys.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let label = if index == 0 { "config" } else { "" };
        text +=
            &hang(&format!("{label:<12}"), &format!("[{section}] {}", keys.join(", ")), width());
        text.push('\n');
    }
    Ok(text)
}

impl Parts {
    /// Weights that are drawn, or those that the configuration begins with, and what is new with
    /// them.
    fn new(
        config: &RunConfig,
        model: &DeepSeekConfig,
        adamw: AdamWSettings,
        device: &Device,
    ) -> Result<Self> {
        let seed = config.train.seed;
        let LoadedWeights { model, absent_mtp: drawn_mtp } = match &config.train.init_from {
            None => LoadedWeights { model: DeepSeek::init(model, seed, device)?, absent_mtp: 0 },
            Some(path) => begun_from(path, model, seed, device)?,
        };
        let ema = averaged(config).map(|settings| Ema::new(settings, &model)).transpose()?;
        let average = ema.map(|ema| Average::Whole(ema.into()));
        Ok(Self { model, optimizer: AdamW::new(adamw), average, drawn_mtp })
    }

    /// What a checkpoint has of a run, and where that stood.
    fn resumed(
        checkpoint: &Checkpoint,
        config: &RunConfig,
        model: &DeepSeekConfig,
        adamw: AdamWSettings,
        device: &Device,
    ) -> Result<(Self, TrainState)> {
        unchanged(checkpoint, &config.model)?;
        let model = DeepSeek::new(model, WeightInit::zeros(device))?;
        let LoadedWeights { model, absent_mtp } = load_weights(model, &checkpoint.path)?;
        if absent_mtp > 0 {
            return Err(without_mtp(checkpoint).into());
        }
        let optimizer = checkpoint.optimizer(&model, adamw)?;
        let mut position = checkpoint.position.clone();
        let average = match averaged(config) {
            Some(settings) => {
                let average = resumed_average(checkpoint, settings, &mut position, &model)?;
                Some(Average::Whole(average.into()))
            }
            None => {
                position.ema_steps = 0;
                None
            }
        };
        Ok((Self { model, optimizer, average, drawn_mtp: 0 }, position))
    }
}

/// A checkpoint that lacks what its model has.
pub(super) fn without_mtp(checkpoint: &Checkpoint) -> CheckpointError {
    let problem = "the weights of its MTP modules are missing".into();
    CheckpointError::Damaged { path: checkpoint.path.clone(), problem }
}

/// The average of a checkpoint, or a new one that begins with its weights.
fn resumed_average(
    checkpoint: &Checkpoint,
    settings: EmaSettings,
    position: &mut TrainState,
    weights: &DeepSeek,
) -> Result<Ema> {
    if checkpoint.has_average() {
        let average = checkpoint.model(&Device::flex(), MtpWeights::Load, Weights::Average)?;
        return Ema::resumed(settings, position.ema_steps, average);
    }
    position.ema_steps = 0;
    Ema::new(settings, weights)
}

/// The run's model with the tokens that its texts begin and end with, as its checkpoints say them
/// to others: a document ends with the tokenizer's token, which also comes before each.
fn with_tokens(model: &DeepSeekConfig, tokenizer: &Tokenizer) -> DeepSeekConfig {
    let eod = tokenizer.eod();
    let further = model.eos_token_id.iter().filter(|&token| token != eod);
    DeepSeekConfig {
        bos_token_id: Some(eod),
        eos_token_id: std::iter::once(eod).chain(further).collect(),
        ..model.clone()
    }
}

/// How the weights are averaged, where they are.
pub(super) fn averaged(config: &RunConfig) -> Option<EmaSettings> {
    config.ema.decay.map(|decay| EmaSettings { decay, every: config.ema.every })
}

/// The run's configuration: as the command line has it, or the checkpoint's with that laid over it.
fn resolved(args: &TrainArgs, checkpoint: Option<&Checkpoint>) -> Result<RunConfig, ConfigError> {
    let request = args.config_request();
    let config = match checkpoint {
        Some(checkpoint) => {
            request.resolve_text(&checkpoint.config_toml, &checkpoint.config_origin())?
        }
        None => request.resolve()?,
    };
    Ok(config.with_absolute_paths())
}

/// Refuses a run that could not be held, unless its user knows better.
fn check_size(
    args: &TrainArgs,
    config: &RunConfig,
    device: &SelectedDevice,
    in_processes: bool,
) -> Result<(), UsageError> {
    if args.allow_oversize {
        return Ok(());
    }
    let elsewhere = in_processes
        || args.device.worker().is_some()
        || args.cluster.is_some()
        || !args.devices.is_empty();
    let remedy = "take a smaller model or train.micro_batch; --allow-oversize trains anyway";
    check_training(config, device, elsewhere, remedy)
}

/// The sample that closes the run must fit: a run is not to fail at its end for that.
fn check_sample(config: &RunConfig, data: &TokenData) -> Result<()> {
    let (tokens, limit) = (
        1 + data.tokenizer.encode_prompt(&config.output.sample_prompt)?.len(),
        config.model.max_position_embeddings,
    );
    if config.output.sample_tokens > 0 && tokens >= limit {
        let problem = format!(
            "output.sample_prompt has {tokens} tokens, which leaves no room below \
             model.max_position_embeddings = {limit}"
        );
        return Err(UsageError(problem).into());
    }
    Ok(())
}
