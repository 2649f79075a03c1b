//! A rank of a run that rank 0 leads from another process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::backend::supports_fp8;

use super::own::{Text, own_part};
use super::processes::{Answered, Began, Told, host};
use super::rank_log::RankLog;
use super::ranks::{formats_of, rank_devices};
use super::{adamw_settings, engine_settings};
use crate::cli::TrainArgs;
use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::dualpipe::{Cluster, Follower};
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result, line_of};
use crate::parallel::{Packed, Processes};
use crate::signals::Signals;

/// Is a rank of a run that rank 0 leads: says nothing but in its log, and does what it is told until
/// the run is over. Signals are rank 0's to answer, which has the same ones.
pub(super) fn follow(
    processes: &Arc<Processes>,
    args: &TrainArgs,
    signals: &Signals,
) -> Result<Outcome> {
    let _unheard = signals.forward();
    let over = Outcome::done(serde_json::Value::Null);
    let Some(task) = processes.next_task()? else { return Ok(over) };
    let opened = match open(processes, args, &task) {
        Ok((opened, answer)) => {
            processes.answer(Ok(answer.packed()));
            opened
        }
        Err(failure) => {
            never_begun(processes, failure)?;
            return Ok(over);
        }
    };
    let Some(task) = processes.next_task()? else { return Ok(over) };
    match begin(processes, &opened, &task) {
        Ok((follower, log)) => {
            processes.answer(Ok(Vec::new()));
            let ended = log.clone();
            let outcome = follower.run(move |text| log.say(text));
            match &outcome {
                Ok(()) => ended.say("ends"),
                Err(failure) => ended.say(&format!("ends: {}", line_of(failure))),
            }
            outcome?;
        }
        Err(failure) => never_begun(processes, failure)?,
    }
    Ok(over)
}

/// Tells rank 0 why this rank does not begin, whatever it asks for.
fn never_begun(processes: &Processes, failure: Failure) -> Result<()> {
    processes.answer(Err(failure));
    while processes.next_task()?.is_some() {
        processes.answer(Err(Failure::new("it has not begun")));
    }
    Ok(())
}

/// A rank that has its configuration and its device.
struct Opened {
    config: RunConfig,
    no_cache: bool,
    device: SelectedDevice,
}

/// Opens the rank's device.
fn open(processes: &Processes, args: &TrainArgs, task: &[u8]) -> Result<(Opened, Answered)> {
    let Told { config, .. } = Told::unpacked(task, &Device::flex())
        .filter(|told| told.version == env!("CARGO_PKG_VERSION"))
        .context("rank 0 is another release of deepseek; start the same one everywhere")?;
    let config = RunConfig::from_toml(&config, "the run of rank 0")?;
    processes.post.set_timeout(Duration::from_secs(config.parallel.timeout_s));
    let devices = rank_devices(args)?;
    let choice = devices.get(processes.rank).or(devices.last()).map(|(device, _)| device);
    let device = choice.unwrap_or(&args.device).open()?;
    let answer =
        Answered { fp8: supports_fp8(&device.device), device: device.name.clone(), host: host() };
    Ok((Opened { config, no_cache: args.no_cache, device }, answer))
}

/// Makes the rank's part of the model.
fn begin(processes: &Arc<Processes>, opened: &Opened, task: &[u8]) -> Result<(Follower, RankLog)> {
    let Began { origin, run_dir } =
        Began::unpacked(task, &Device::flex()).context("rank 0 began in other words")?;
    let log = RankLog::open(Path::new(&run_dir), processes.rank)?;
    let &Opened { ref config, no_cache, ref device } = opened;
    log.say(&format!(
        "begins: of {} ranks, process {} of {}, on {}",
        processes.ranks,
        std::process::id(),
        host(),
        device.name
    ));
    if let Some(library) = processes.library() {
        log.say(&format!("is joined by {library}"));
    }
    let made = || {
        let parallel = &config.parallel;
        let cluster = Cluster {
            axes: parallel.axes(),
            schedule: parallel.schedule(),
            ranks: vec![(device.name.clone(), device.device.clone()); processes.ranks],
            formats: formats_of(parallel, &config.precision.precision()),
            reduction: parallel.reduction,
            members_a_node: parallel.members_a_node(),
            timeout: processes.post.timeout(),
            timeline: None,
            processes: Some(processes.clone()),
        };
        let (optimizer, text) = (adamw_settings(config, device)?, Text::Prepared { no_cache });
        let (rank, device) = (processes.rank, &device.device);
        let own = own_part(config, &cluster, rank, optimizer, device, &origin, text)?;
        Follower::new(processes, own, &cluster, engine_settings(config))
    };
    let follower = made().inspect_err(|failure| {
        log.say(&format!("does not begin: {}", line_of(failure)));
    })?;
    log.say(&follower.describe());
    Ok((follower, log))
}
