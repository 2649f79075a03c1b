//! What a run starts from: a configuration and fresh weights, or a checkpoint.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_deepseek::weights::{MtpWeights, load_weights};
use burn_deepseek::{DeepSeek, WeightInit};

use super::adamw_settings;
use super::folders::{new_run_dir, newest_run, run_dir_of};
use super::ranks::cluster;
use crate::checkpoint::{Checkpoint, TrainState, Weights};
use crate::cli::TrainArgs;
use crate::commands::model_folder::{KINDS, ModelFolder};
use crate::commands::preparation::Preparation;
use crate::config::{ConfigError, RunConfig};
use crate::data::{DataError, TokenData};
use crate::device::DeviceChoice;
use crate::dualpipe::Cluster;
use crate::failure::{Context, Result, UsageError};
use crate::learner::{AdamW, AdamWSettings, Ema, EmaSettings};
use crate::schedule::{Position, TrainingSchedule};
use crate::stdout::write_stdout;

/// What training changes.
#[derive(Debug)]
pub(in crate::commands) struct Parts {
    pub model: DeepSeek,
    pub optimizer: AdamW,
    pub ema: Option<Ema>,
}

/// Everything a run needs before its first step.
#[derive(Debug)]
pub(in crate::commands) struct Start {
    pub config: RunConfig,
    pub schedule: TrainingSchedule,
    pub data: TokenData,
    pub device: Device,
    pub device_name: String,
    /// Where the ranks are, of a run over several.
    pub cluster: Option<Cluster>,
    /// The model and its optimizer, until training takes them.
    pub parts: Option<Parts>,
    pub position: TrainState,
    pub run_dir: PathBuf,
    pub resumed_from: Option<PathBuf>,
}

impl Start {
    /// Resolves, opens, builds or loads. The run's folder is made last, when nothing else can fail
    /// any more.
    pub fn prepare(args: &TrainArgs) -> Result<Self> {
        let checkpoint = resumed(args)?;
        let mut config = resolved(args, checkpoint.as_ref())?;
        // Evaluations, averages and checkpoints are made on this machine, which is there when a
        // worker is not.
        let selected = if args.device.worker().is_some() {
            DeviceChoice::Auto.open()?
        } else {
            args.device.open()?
        };
        let adamw = adamw_settings(&config, &selected)?;
        config.optimizer.moments = adamw.moments.into();
        let preparation = Preparation::new(&config.data, args.no_cache);
        let (seq_len, vocab_size) = (config.train.seq_len, config.model.vocab_size);
        let data = config.data.open_with(seq_len, vocab_size, &preparation.opening())?;
        drop(preparation);
        if let Some(checkpoint) = &checkpoint {
            check_data(checkpoint, &data, args.allow_changed_data)?;
        }
        check_sample(&config, &data)?;
        let schedule = config.schedule()?;
        let (parts, position) = match &checkpoint {
            None => (Parts::new(&config, adamw, &selected.device)?, TrainState::default()),
            Some(checkpoint) => Parts::resumed(checkpoint, &config, adamw, &selected.device)?,
        };
        let cluster = cluster(&config, &selected, args)?;
        let resumed_from = checkpoint.map(|checkpoint| checkpoint.path);
        let run_dir = match &resumed_from {
            Some(path) => run_dir_of(path)?,
            None => new_run_dir(&config)?,
        };
        Ok(Self {
            config,
            schedule,
            data,
            device: selected.device,
            device_name: selected.name,
            cluster,
            parts: Some(parts),
            position,
            run_dir,
            resumed_from,
        })
    }

    /// Prints what is about to be done.
    pub fn announce(&self) -> Result<()> {
        let config = &self.config;
        let counts = config.model.parameter_counts();
        let mtp = config.model.num_nextn_predict_layers;
        let mut text = config.to_toml()?;
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
            self.run_dir.display()
        );
        if let Some(cluster) = &self.cluster {
            text += &format!("ranks       {}\n", cluster.describe());
        }
        if let Some(path) = &self.resumed_from {
            text +=
                &format!("resumed     from {} after step {}\n", path.display(), self.position.step);
        }
        write_stdout(&(text + "\n"))
    }

    /// Indices of the MoE layers, those of MTP modules last.
    pub fn moe_layers(&self) -> Vec<usize> {
        let model = &self.config.model;
        (0..model.num_hidden_layers + model.num_nextn_predict_layers)
            .filter(|&layer| model.is_moe_layer(layer))
            .collect()
    }

    /// Bytes of held-out text a token.
    pub fn bytes_per_token(&self) -> f64 {
        self.data.summary.valid.bytes_per_token()
    }
}

impl Parts {
    /// Weights that are drawn, or those that the configuration begins with, and what is new with
    /// them.
    fn new(config: &RunConfig, adamw: AdamWSettings, device: &Device) -> Result<Self> {
        let model = match &config.train.init_from {
            None => DeepSeek::init(&config.model, config.train.seed, device)?,
            Some(path) => begun_from(path, config, device)?,
        };
        let ema = averaged(config).map(|settings| Ema::new(settings, &model)).transpose()?;
        Ok(Self { model, optimizer: AdamW::new(adamw), ema })
    }

    /// What a checkpoint has of a run, and where that stood.
    fn resumed(
        checkpoint: &Checkpoint,
        config: &RunConfig,
        adamw: AdamWSettings,
        device: &Device,
    ) -> Result<(Self, TrainState)> {
        if checkpoint.config()?.model != config.model {
            let problem =
                "--set changes the model of a run that is resumed; its weights would not fit";
            return Err(UsageError(problem.into()).into());
        }
        let model = DeepSeek::new(&config.model, WeightInit::zeros(device))?;
        let model = load_weights(model, &checkpoint.path)?;
        let optimizer = checkpoint.optimizer(&model, adamw)?;
        let mut position = checkpoint.position.clone();
        let ema = match averaged(config) {
            Some(settings) if checkpoint.has_average() => {
                let average =
                    checkpoint.model(&Device::flex(), MtpWeights::Load, Weights::Average)?;
                Some(Ema::resumed(settings, position.ema_steps, average)?)
            }
            settings => {
                // An average that is new here, or that the run does not go on with.
                position.ema_steps = 0;
                settings.map(|settings| Ema::new(settings, &model)).transpose()?
            }
        };
        Ok((Self { model, optimizer, ema }, position))
    }
}

/// How the weights are averaged, where they are.
fn averaged(config: &RunConfig) -> Option<EmaSettings> {
    config.ema.decay.map(|decay| EmaSettings { decay, every: config.ema.every })
}

/// The checkpoint that `--resume` goes on from.
fn resumed(args: &TrainArgs) -> Result<Option<Checkpoint>> {
    let Some(path) = &args.resume else { return Ok(None) };
    if args.config.config.is_some() {
        let problem = "--resume goes on with the configuration of the run; leave --config out \
                       (--set still changes values)";
        return Err(UsageError(problem.into()).into());
    }
    if args.run_dir.is_some() {
        let problem = "--resume goes on in the run's own folder; leave --run-dir out (a copy of \
                       the folder can be resumed too)";
        return Err(UsageError(problem.into()).into());
    }
    let path = path
        .clone()
        .map_or_else(|| newest_run(&args.config_request().resolve()?.output.dir), Ok)?;
    Ok(Some(Checkpoint::open(&path)?))
}

/// The run's configuration: as the command line has it, or the checkpoint's with that laid over it.
fn resolved(args: &TrainArgs, checkpoint: Option<&Checkpoint>) -> Result<RunConfig, ConfigError> {
    let request = args.config_request();
    if let Some(checkpoint) = checkpoint {
        return request.resolve_text(&checkpoint.config_toml, &checkpoint.config_origin());
    }
    let mut config = request.resolve()?;
    config.data = config.data.with_absolute_paths();
    config.train.init_from =
        config.train.init_from.map(|path| std::path::absolute(&path).unwrap_or(path));
    Ok(config)
}

/// The configuration's model with the weights of a run, a checkpoint or a Hugging Face folder. Only
/// its tensors must fit: what has none (context length, YaRN, how experts are chosen) may differ.
fn begun_from(path: &Path, config: &RunConfig, device: &Device) -> Result<DeepSeek> {
    let folder = match ModelFolder::find(path)? {
        Some(ModelFolder::Checkpoint(path)) => Checkpoint::open(&path)?.path,
        Some(ModelFolder::HuggingFace(path)) => path,
        None => {
            let path = path.display();
            let problem = format!("train.init_from = {path:?}: no weights here; give {KINDS}");
            return Err(UsageError(problem).into());
        }
    };
    let model = DeepSeek::new(&config.model, WeightInit::zeros(device))?;
    load_weights(model, &folder).context("train.init_from")
}

/// A run goes on over the text that it was begun on, or over another that was asked for.
fn check_data(checkpoint: &Checkpoint, data: &TokenData, allowed: bool) -> Result<()> {
    let changes = checkpoint.data()?.map_or(Vec::new(), |saved| saved.changes(&data.fingerprint));
    if changes.is_empty() {
        return Ok(());
    }
    if !allowed {
        return Err(DataError::Changed { changes }.into());
    }
    write_stdout(&format!("data        changed since the checkpoint: {}\n", changes.join(", ")))
}

/// The sample that closes the run must fit: a run is not to fail at its end for that.
fn check_sample(config: &RunConfig, data: &TokenData) -> Result<()> {
    let (tokens, limit) = (
        1 + data.tokenizer.encode(&config.output.sample_prompt)?.len(),
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
