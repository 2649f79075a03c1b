//! What a rank of several processes makes by itself: its part of the model, its moments, its windows;
//! and what rank 0 has besides.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_deepseek::weights::{check_weights, load_part};
use burn_deepseek::{DeepSeek, DeepSeekConfig, WeightInit};

use super::begun::{begun_in, unchanged};
use super::processes::{Began, Origin, begin_all};
use super::resumed::{Said, tokenizer_of};
use super::start::{Parts, Start, averaged, without_mtp};
use super::{compute, engine_settings};
use crate::checkpoint::{Checkpoint, Purpose, TrainState, Weights};
use crate::config::RunConfig;
use crate::data::{Opening, Stage, TrainWindows, Unwatched, Watch};
use crate::dualpipe::{Cluster, Fill, OwnAverage, OwnPart, Pipelines};
use crate::failure::{Context, Failure, Result};
use crate::learner::{AdamW, AdamWSettings, Average, LanguageModel, StepEngine};
use crate::parallel::Processes;
use crate::schedule::Position;

impl Parts {
    /// What this process has of a run whose ranks are processes, which make their own parts and
    /// averages: a model of its shapes. Where the run stands, and where the ranks' weights come
    /// from.
    pub(super) fn elsewhere(
        checkpoint: Option<&Checkpoint>,
        config: &RunConfig,
        model: &DeepSeekConfig,
        adamw: AdamWSettings,
        device: &Device,
    ) -> Result<(Self, TrainState, Origin)> {
        let utf8 = |path: &Path| {
            let path = std::path::absolute(path)?;
            Ok::<_, Failure>(
                path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?.to_owned(),
            )
        };
        let (mut drawn_mtp, mut averaged_steps) = (0, 0);
        let (mut position, origin) = match (checkpoint, &config.train.init_from) {
            (Some(checkpoint), _) => {
                unchanged(checkpoint, &config.model)?;
                if check_weights(model, &checkpoint.path)? > 0 {
                    return Err(without_mtp(checkpoint).into());
                }
                let position = checkpoint.position.clone();
                if checkpoint.has_average() {
                    averaged_steps = position.ema_steps;
                }
                (position, Origin::Checkpoint(utf8(&checkpoint.path)?))
            }
            (None, Some(path)) => {
                let folder = begun_in(path, model)?;
                drawn_mtp = check_weights(model, &folder).context("train.init_from")?;
                (TrainState::default(), Origin::Folder(utf8(&folder)?))
            }
            (None, None) => (TrainState::default(), Origin::Drawn),
        };
        // Each rank averages what it owns.
        let average =
            averaged(config).map(|settings| Average::OfRanks { settings, steps: averaged_steps });
        position.ema_steps = average.as_ref().map_or(0, Average::steps);
        let model = DeepSeek::new(model, WeightInit::zeros(device))?;
        Ok((Self { model, optimizer: AdamW::new(adamw), average, drawn_mtp }, position, origin))
    }
}

/// The ranks that are processes, led by this one; each makes its own part, all at the same time.
pub(super) fn led(
    start: &Start,
    processes: &Processes,
    whole: LanguageModel,
    optimizer: AdamWSettings,
) -> Result<Box<dyn StepEngine>> {
    let cluster = start.cluster.as_ref().context("invariant: processes are the ranks of one")?;
    let run_dir = std::path::absolute(&start.folder.path)?;
    let run_dir =
        run_dir.to_str().with_context(|| format!("{}: not UTF-8", run_dir.display()))?.to_owned();
    let config = &start.config;
    let began = Began { origin: start.origin.clone(), run_dir };
    begin_all(processes, &began, config.parallel.ranks_per_process);
    let part = |rank: usize| {
        let text = Text::Opened(start.data.train.clone());
        let device = &cluster.ranks[rank].1;
        own_part(config, cluster, rank, optimizer, device, &start.origin, text)
    };
    let own = processes.own().map(part).collect::<Result<_>>()?;
    let engine = Pipelines::lead(whole, own, cluster, engine_settings(config))?;
    processes.answers(config.parallel.ranks_per_process)?;
    Ok(Box::new(engine))
}

/// Where a rank's text is.
pub(super) enum Text {
    /// Here.
    Opened(TrainWindows),
    /// Where rank 0 has put its tokens; `no_cache` says that they are nowhere.
    Prepared { no_cache: bool },
}

/// The part of a rank, of a run whose configuration rank 0 has resolved.
///
/// # Errors
///
/// A precision that the device does not have, text that cannot be opened.
pub(super) fn own_part(
    config: &RunConfig,
    cluster: &Cluster,
    rank: usize,
    optimizer: AdamWSettings,
    device: &Device,
    origin: &Origin,
    text: Text,
) -> Result<OwnPart> {
    let (model, axes) = (&config.model, cluster.axes);
    let experts = model.n_routed_experts / axes.expert;
    let first = axes.place(rank).expert * experts;
    let init = WeightInit::part(
        config.train.seed,
        model.initializer_range,
        device,
        first..first + experts,
    );
    let settings = config.schedule()?.at(Position::default());
    let structure = LanguageModel::new(
        DeepSeek::new(model, init)?,
        settings.loss_weights(),
        settings.global_batch / config.train.micro_batch,
        compute(config.precision.precision(), device)?,
    );
    let text = match text {
        _ if !cluster.reads_text(model, rank)? => None,
        Text::Opened(text) => Some(text),
        Text::Prepared { no_cache } => Some(opened(config, cluster, origin, no_cache)?),
    };
    let shapes = model.clone();
    let fill: Option<Fill> = match origin.clone() {
        Origin::Drawn => None,
        Origin::Folder(path) => Some(Box::new(move |part, held, _, read| {
            let part = load_part(part, held, &shapes, &path, read).context("train.init_from")?;
            Ok((part, AdamW::new(optimizer)))
        })),
        Origin::Checkpoint(path) => {
            let device = device.clone();
            Some(Box::new(move |part, held, owned, read| {
                // Rank 0 has verified all of it.
                let checkpoint = Checkpoint::open(&PathBuf::from(path), Purpose::Looking)?;
                let part = load_part(part, held, &shapes, &checkpoint.path, read)?;
                let optimizer =
                    checkpoint.part_of_optimizer(&shapes, owned, optimizer, &device, read)?;
                Ok((part, optimizer))
            }))
        }
    };
    let average = averaged(config).map(|_| own_average(model, origin)).transpose()?;
    Ok(OwnPart { structure, optimizer, text, fill, average })
}

/// How the average of what a rank owns begins: as the checkpoint has it that the run goes on from,
/// else with the weights.
fn own_average(model: &DeepSeekConfig, origin: &Origin) -> Result<OwnAverage> {
    let Origin::Checkpoint(path) = origin else { return Ok(OwnAverage::Weights) };
    let checkpoint = Checkpoint::open(&PathBuf::from(path), Purpose::Looking)?;
    if !checkpoint.has_average() {
        return Ok(OwnAverage::Weights);
    }
    let (folder, shapes) = (checkpoint.model_folder(Weights::Average)?, model.clone());
    Ok(OwnAverage::Read(Box::new(move |part, owned, read| {
        Ok(load_part(part, owned, &shapes, &folder, read)?)
    })))
}

/// Gives signs of life while the text is opened.
struct Working<'a>(&'a Processes);

impl Watch for Working<'_> {
    fn progress(&self, _: Stage, _: u64, _: u64) {
        self.0.post.sign_of_life();
    }

    fn note(&self, _: &str) {}
}

/// The text that rank 0 has prepared.
fn opened(
    config: &RunConfig,
    cluster: &Cluster,
    origin: &Origin,
    no_cache: bool,
) -> Result<TrainWindows> {
    let tokenizer = match origin {
        Origin::Checkpoint(path) => {
            let checkpoint = Checkpoint::open(&PathBuf::from(path), Purpose::Looking)?;
            tokenizer_of(&checkpoint, &config.data, Said::ByRank0)?
        }
        _ => None,
    };
    let cache = config.data.cache_folder().filter(|_| !no_cache);
    let working = cluster.processes.as_deref().map(Working);
    let watch: &dyn Watch = match &working {
        Some(working) => working,
        None => &Unwatched,
    };
    let opening = Opening {
        cache: cache.as_deref(),
        tokenizer: tokenizer.as_ref(),
        watch,
        ..Opening::default()
    };
    let data = config.data.open_with(config.train.seq_len, config.model.vocab_size, &opening)?;
    Ok(data.train)
}
