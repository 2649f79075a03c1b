//! What a run starts from: a configuration and fresh weights, or a checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::backend::supports_fp8;
use burn_deepseek::ops::wire::WireFormat;
use burn_deepseek::weights::{MtpWeights, load_weights};
use burn_deepseek::{DeepSeek, Precision, WeightInit};

use super::adamw_settings;
use crate::checkpoint::{self, Checkpoint, CheckpointError, TrainState, Weights};
use crate::cli::TrainArgs;
use crate::config::{DispatchFormat, ParallelConfig, RunConfig};
use crate::data::TokenData;
use crate::device::{DeviceChoice, SelectedDevice, Token, cluster_devices};
use crate::dualpipe::{Cluster, TimelineCell};
use crate::failure::{Context, Result, UsageError};
use crate::learner::{AdamW, Ema, EmaSettings};
use crate::parallel::WireFormats;
use crate::schedule::{Position, TrainingSchedule};
use crate::stdout::write_stdout;

/// What says that a folder holds a Hugging Face model.
const CONFIG_FILE: &str = "config.json";

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
        let checkpoint = match &args.resume {
            None => None,
            Some(path) => {
                if args.config.config.is_some() {
                    let problem = "--resume goes on with the configuration of the run; leave \
                                   --config out (--set still changes values)";
                    return Err(UsageError(problem.into()).into());
                }
                if args.run_dir.is_some() {
                    let problem = "--resume goes on in the run's own folder; leave --run-dir out \
                                   (a copy of the folder can be resumed too)";
                    return Err(UsageError(problem.into()).into());
                }
                let path = path
                    .clone()
                    .map_or_else(|| newest_run(&args.config_request().resolve()?.output.dir), Ok)?;
                Some(Checkpoint::open(&path)?)
            }
        };
        let request = args.config_request();
        let mut config = match &checkpoint {
            None => {
                let mut config = request.resolve()?;
                config.data = config.data.with_absolute_paths();
                config.train.init_from =
                    config.train.init_from.map(|path| std::path::absolute(&path).unwrap_or(path));
                config
            }
            Some(checkpoint) => {
                request.resolve_text(&checkpoint.config_toml, &checkpoint.config_origin())?
            }
        };
        // Evaluations, averages and checkpoints are made on this machine, which is there when a
        // worker is not.
        let selected = if args.device.worker().is_some() {
            DeviceChoice::Auto.open()?
        } else {
            args.device.open()?
        };
        let adamw = adamw_settings(&config, &selected)?;
        config.optimizer.moments = adamw.moments.into();
        let data = config.data.open(config.train.seq_len, config.model.vocab_size)?;
        check_sample(&config, &data)?;
        let schedule = config.schedule()?;
        let averaged = config.ema.decay.map(|decay| EmaSettings { decay, every: config.ema.every });
        let (parts, position) = match &checkpoint {
            None => {
                let model = match &config.train.init_from {
                    None => DeepSeek::init(&config.model, config.train.seed, &selected.device)?,
                    Some(path) => begun_from(path, &config, &selected.device)?,
                };
                let ema = averaged.map(|settings| Ema::new(settings, &model)).transpose()?;
                (Parts { model, optimizer: AdamW::new(adamw), ema }, TrainState::default())
            }
            Some(checkpoint) => {
                if checkpoint.config()?.model != config.model {
                    let problem = "--set changes the model of a run that is resumed; its weights \
                                   would not fit";
                    return Err(UsageError(problem.into()).into());
                }
                let model = DeepSeek::new(&config.model, WeightInit::zeros(&selected.device))?;
                let model = load_weights(model, &checkpoint.path)?;
                let optimizer = checkpoint.optimizer(&model, adamw)?;
                let mut position = checkpoint.position.clone();
                let ema = match averaged {
                    Some(settings) if checkpoint.has_average() => {
                        let average = checkpoint.model(
                            &Device::flex(),
                            MtpWeights::Load,
                            Weights::Average,
                        )?;
                        Some(Ema::resumed(settings, position.ema_steps, average)?)
                    }
                    settings => {
                        position.ema_steps = 0; // an average that is new here, or that the run does not go on with
                        settings.map(|settings| Ema::new(settings, &model)).transpose()?
                    }
                };
                (Parts { model, optimizer, ema }, position)
            }
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

/// The ranks of a run over several, or of one that is on a worker's device.
fn cluster(
    config: &RunConfig,
    shared: &SelectedDevice,
    args: &TrainArgs,
) -> Result<Option<Cluster>> {
    let parallel = &config.parallel;
    let timeout = Duration::from_secs(parallel.timeout_s);
    let timeline = args.trace.is_some();
    let devices = rank_devices(args)?;
    let count = parallel.axes().ranks();
    if count == 1 && !devices.iter().any(|(device, _)| device.worker().is_some()) {
        let unused = [("--devices", !devices.is_empty()), ("--trace", timeline)]
            .into_iter()
            .find(|(_, given)| *given);
        return match unused {
            Some((flag, _)) => Err(UsageError(format!(
                "{flag} is for a run over several ranks; set \
                                        parallel.pipeline, parallel.expert or parallel.data"
            ))
            .into()),
            None => Ok(None),
        };
    }
    if devices.len() > count {
        let flag = if args.cluster.is_some() { "--cluster" } else { "--devices" };
        return Err(
            UsageError(format!("{flag} has {} devices for {count} ranks", devices.len())).into()
        );
    }
    let open = |rank: usize| match devices.get(rank).or(devices.last()) {
        Some((device, token)) => device
            .open_for_rank(rank, token.as_ref(), timeout)
            .map(|opened| (opened.name, opened.device)),
        None => Ok((shared.name.clone(), shared.device.clone())),
    };
    let ranks: Vec<_> = (0..count).map(open).collect::<Result<_, _>>()?;
    Ok(Some(Cluster {
        axes: parallel.axes(),
        schedule: parallel.schedule(),
        formats: wire_formats(parallel, &config.precision.precision(), &ranks)?,
        members_a_node: parallel.members_a_node(),
        ranks,
        timeout,
        timeline: timeline.then(TimelineCell::default),
    }))
}

/// The devices that the command line gives to ranks, with the tokens that open them; none where
/// ranks share the run's own.
fn rank_devices(args: &TrainArgs) -> Result<Vec<(DeviceChoice, Option<Token>)>> {
    let token = args.token.token()?;
    if let Some(path) = &args.cluster {
        let devices = cluster_devices(path)?.into_iter();
        return Ok(devices.map(|(device, own)| (device, own.or_else(|| token.clone()))).collect());
    }
    let devices = match args.device.worker() {
        Some(_) if args.devices.is_empty() => std::slice::from_ref(&args.device),
        _ => &args.devices,
    };
    Ok(devices.iter().map(|device| (device.clone(), token.clone())).collect())
}

/// What rows travel in; FP8 only between devices that have the operations for it.
fn wire_formats(
    parallel: &ParallelConfig,
    precision: &Precision,
    ranks: &[(String, Device)],
) -> Result<WireFormats, UsageError> {
    let format = match (parallel.dispatch, precision) {
        (DispatchFormat::Auto, Precision::F32) => DispatchFormat::F32,
        (DispatchFormat::Auto, Precision::Bf16) => DispatchFormat::Bf16,
        (DispatchFormat::Auto, Precision::Fp8(_)) => DispatchFormat::Fp8,
        (format, _) => format,
    };
    if format == DispatchFormat::Fp8
        && parallel.expert > 1
        && let Some((name, _)) = ranks.iter().find(|(_, device)| !supports_fp8(device))
    {
        let problem = format!(
            "parallel.dispatch = \"fp8\": {name} has no FP8 operations; take --set \
             parallel.dispatch=bf16 or other devices"
        );
        return Err(UsageError(problem));
    }
    Ok(match format {
        DispatchFormat::F32 => WireFormats { dispatch: WireFormat::F32, combine: WireFormat::F32 },
        DispatchFormat::Bf16 => {
            WireFormats { dispatch: WireFormat::Bf16, combine: WireFormat::Bf16 }
        }
        DispatchFormat::Fp8 | DispatchFormat::Auto => {
            WireFormats { dispatch: WireFormat::Fp8, combine: WireFormat::Bf16 }
        }
    })
}

/// The configuration's model with the weights of a run, a checkpoint or a Hugging Face folder. Only
/// its tensors must fit: what has none (context length, YaRN, how experts are chosen) may differ.
fn begun_from(path: &Path, config: &RunConfig, device: &Device) -> Result<DeepSeek> {
    let folder = match checkpoint::find(path) {
        Ok(path) => Checkpoint::open(&path)?.path,
        Err(CheckpointError::NotFound { .. }) if path.join(CONFIG_FILE).is_file() => {
            path.to_owned()
        }
        Err(CheckpointError::NotFound { path }) => {
            let kinds = "a run's folder, one checkpoint's folder, or a Hugging Face folder (with \
                         config.json)";
            return Err(UsageError(format!(
                "train.init_from = {:?}: no weights here; give {kinds}",
                path.display()
            ))
            .into());
        }
        Err(error) => return Err(error.into()),
    };
    let model = DeepSeek::new(&config.model, WeightInit::zeros(device))?;
    load_weights(model, &folder).context("train.init_from")
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

/// The first free `dir/name-001`, or the folder that the configuration names.
fn new_run_dir(config: &RunConfig) -> Result<PathBuf> {
    let output = &config.output;
    if let Some(path) = &output.run_dir {
        if path.join(checkpoint::FOLDER).exists() {
            let problem = format!(
                "{} already holds a run; go on with --resume {0}, or give another --run-dir",
                path.display()
            );
            return Err(UsageError(problem).into());
        }
        std::fs::create_dir_all(path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        return Ok(path.clone());
    }
    std::fs::create_dir_all(&output.dir)
        .with_context(|| format!("{}: cannot create", output.dir.display()))?;
    for number in 1.. {
        let path = output.dir.join(format!("{}-{number:03}", output.name));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot create", path.display()));
            }
        }
    }
    unreachable!("the loop has no end of its own")
}

/// `RUN` of `RUN/checkpoints/step-N`.
fn run_dir_of(checkpoint: &Path) -> Result<PathBuf> {
    let full = checkpoint.canonicalize().with_context(|| checkpoint.display().to_string())?;
    let run = full
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{}: not in a run's folder", full.display()))?;
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| run.strip_prefix(here).ok().map(Path::to_path_buf));
    Ok(short.unwrap_or_else(|| run.to_path_buf()))
}

/// The run under `dir` whose newest checkpoint is the most recent.
fn newest_run(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).map_err(|_| {
        UsageError(format!("--resume: there is no {} here; give the run's folder", dir.display()))
    })?;
    let runs = entries.filter_map(|entry| {
        let path = checkpoint::find(&entry.ok()?.path()).ok()?;
        let modified = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some((modified, path))
    });
    let newest = runs.max().map(|(_, path)| path);
    newest.ok_or_else(|| {
        UsageError(format!("--resume: no run in {} has a checkpoint yet", dir.display())).into()
    })
}
