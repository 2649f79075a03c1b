//! A rank of a run that rank 0 leads from another process.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::backend::supports_fp8;
use burn_deepseek::{DeepSeek, WeightInit};

use super::processes::{Answered, Told, host};
use super::ranks::{formats_of, rank_devices};
use super::{adamw_settings, compute, engine_settings};
use crate::cli::TrainArgs;
use crate::config::RunConfig;
use crate::dualpipe::{Cluster, Follower};
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result};
use crate::learner::LanguageModel;
use crate::parallel::{Packed, Processes};
use crate::schedule::Position;
use crate::signals::Signals;

/// Is a rank of a run that rank 0 leads: says nothing, and does what it is told until the run is
/// over. Signals are rank 0's to answer, which has the same ones.
pub(super) fn follow(
    processes: &Arc<Processes>,
    args: &TrainArgs,
    signals: &Signals,
) -> Result<Outcome> {
    let _unheard = signals.forward();
    let over = Outcome::done(serde_json::Value::Null);
    let Some(task) = processes.next_task()? else { return Ok(over) };
    match begin(processes, args, &task) {
        Ok((follower, answer)) => {
            processes.answer(Ok(answer.packed()));
            follower.run()?;
        }
        Err(failure) => {
            processes.answer(Err(failure));
            while processes.next_task()?.is_some() {
                processes.answer(Err(Failure::new("it has not begun")));
            }
        }
    }
    Ok(over)
}

/// Opens the rank's device, and makes room for its part of the model.
fn begin(
    processes: &Arc<Processes>,
    args: &TrainArgs,
    task: &[u8],
) -> Result<(Follower, Answered)> {
    let Told { config, .. } = Told::unpacked(task, &Device::flex())
        .filter(|told| told.version == env!("CARGO_PKG_VERSION"))
        .context("rank 0 is another release of deepseek; start the same one everywhere")?;
    let config = RunConfig::from_toml(&config, "the run of rank 0")?;
    let timeout = Duration::from_secs(config.parallel.timeout_s);
    processes.post.set_timeout(timeout);
    let devices = rank_devices(args)?;
    let choice = devices.get(processes.rank).or(devices.last()).map(|(device, _)| device);
    let selected = choice.unwrap_or(&args.device).open()?;
    let parallel = &config.parallel;
    let precision = config.precision.precision();
    let cluster = Cluster {
        axes: parallel.axes(),
        schedule: parallel.schedule(),
        ranks: vec![(selected.name.clone(), selected.device.clone()); processes.ranks],
        formats: formats_of(parallel, &precision),
        members_a_node: parallel.members_a_node(),
        timeout,
        timeline: None,
        processes: Some(processes.clone()),
    };
    // Shapes without weights: of those this rank is given its own.
    let model = DeepSeek::new(&config.model, WeightInit::zeros(&Device::flex()))?;
    let settings = config.schedule()?.at(Position::default());
    let micro_batches = settings.global_batch / config.train.micro_batch;
    let structure = LanguageModel::new(
        model,
        settings.loss_weights(),
        micro_batches,
        compute(precision, &selected.device)?,
    );
    let optimizer = adamw_settings(&config, &selected)?;
    let follower =
        Follower::new(processes, structure, optimizer, &cluster, engine_settings(&config))?;
    let answer =
        Answered { fp8: supports_fp8(&selected.device), device: selected.name, host: host() };
    Ok((follower, answer))
}
