//! What a rank that is a process makes by itself: its part of the model, its moments, its windows;
//! and what rank 0 has besides.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_deepseek::weights::{check_weights, load_part, load_weights};
use burn_deepseek::{DeepSeek, DeepSeekConfig, WeightInit};

use super::begun::{begun_from, begun_in, unchanged};
use super::processes::{Began, Origin, begin_all};
use super::resumed::{Said, tokenizer_of};
use super::start::{Parts, Start, averaged, resumed_average, without_mtp};
use super::{compute, engine_settings};
use crate::checkpoint::{Checkpoint, Purpose, TrainState};
use crate::config::RunConfig;
use crate::data::{Opening, Stage, TrainWindows, Unwatched, Watch};
use crate::dualpipe::{Cluster, Fill, OwnPart, Pipelines};
use crate::failure::{Context, Failure, Result};
use crate::learner::{AdamW, AdamWSettings, Ema, LanguageModel, StepEngine};
use crate::parallel::Processes;
use crate::schedule::Position;

impl Parts {
    /// What this process has of a run whose ranks are processes, which make their own parts: a model
    /// of its shapes, and the average of all weights, where one is kept. Where the run stands, and
    /// where the ranks' weights come from.
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
        // Nothing of an average's model is shared with another: it is made whole here.
        let average = averaged(config);
        let mut drawn_mtp = 0;
        let (ema, position, origin) = match (checkpoint, &config.train.init_from) {
            (Some(checkpoint), _) => {
                unchanged(checkpoint, &config.model)?;
                if check_weights(model, &checkpoint.path)? > 0 {
                    return Err(without_mtp(checkpoint).into());
                }
                let mut position = checkpoint.position.clone();
                let ema = match average {
                    None => {
                        position.ema_steps = 0;
                        None
                    }
                    Some(settings) => {
                        let begun = || {
                            let whole = DeepSeek::new(model, WeightInit::zeros(device))?;
                            Ok::<_, Failure>(load_weights(whole, &checkpoint.path)?.model)
                        };
                        Some(resumed_average(checkpoint, settings, &mut position, begun)?)
                    }
                };
                (ema, position, Origin::Checkpoint(utf8(&checkpoint.path)?))
            }
            (None, Some(path)) => {
                let folder = begun_in(path, model)?;
                drawn_mtp = check_weights(model, &folder).context("train.init_from")?;
                let ema = average.map(|settings| {
                    let whole = begun_from(path, model, config.train.seed, device)?;
                    Ema::new(settings, &whole.model)
                });
                (ema.transpose()?, TrainState::default(), Origin::Folder(utf8(&folder)?))
            }
            (None, None) => {
                let ema = average.map(|settings| {
                    Ema::new(settings, &DeepSeek::init(model, config.train.seed, device)?)
                });
                (ema.transpose()?, TrainState::default(), Origin::Drawn)
            }
        };
        let model = DeepSeek::new(model, WeightInit::zeros(device))?;
        Ok((Self { model, optimizer: AdamW::new(adamw), ema, drawn_mtp }, position, origin))
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
    begin_all(processes, &Began { origin: start.origin.clone(), run_dir });
    let config = &start.config;
    let text = Text::Opened(start.data.train.clone());
    let own = own_part(config, cluster, 0, optimizer, &cluster.ranks[0].1, &start.origin, text)?;
    let engine = Pipelines::lead(whole, own, cluster, engine_settings(config))?;
    processes.answers()?;
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
    let model = model.clone();
    let fill: Option<Fill> = match origin.clone() {
        Origin::Drawn => None,
        Origin::Folder(path) => Some(Box::new(move |part, held, _, read| {
            let part = load_part(part, held, &model, &path, read).context("train.init_from")?;
            Ok((part, AdamW::new(optimizer)))
        })),
        Origin::Checkpoint(path) => {
            let device = device.clone();
            Some(Box::new(move |part, held, owned, read| {
                // Rank 0 has verified all of it.
                let checkpoint = Checkpoint::open(&PathBuf::from(path), Purpose::Looking)?;
                let part = load_part(part, held, &model, &checkpoint.path, read)?;
                let optimizer =
                    checkpoint.part_of_optimizer(&model, owned, optimizer, &device, read)?;
                Ok((part, optimizer))
            }))
        }
    };
    Ok(OwnPart { structure, optimizer, text, fill })
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
