//! The ranks of this process, of a run that rank 0 leads from another one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;

use super::own::{Text, own_part};
use super::processes::{Answered, Began, Told, host};
use super::rank_log::RankLog;
use super::ranks::{formats_of, own_devices, rank_devices};
use super::{adamw_settings, engine_settings};
use crate::cli::TrainArgs;
use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::dualpipe::{Cluster, Follower};
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result, line_of};
use crate::parallel::{Packed, Processes};
use crate::signals::Signals;

/// Is a rank of a run that rank 0 leads, or several: says nothing but in their logs, and does what they
/// are told until the run is over. Signals are rank 0's to answer, which has the same ones.
pub(super) fn follow(
    processes: &Arc<Processes>,
    args: &TrainArgs,
    signals: &Signals,
) -> Result<Outcome> {
    let _unheard = signals.forward();
    let over = Outcome::done(serde_json::Value::Null);
    let first = processes.own().start;
    let Some(task) = processes.next_task(first)? else { return Ok(over) };
    let opened = match open(processes, args, &task) {
        Ok((opened, answer)) => {
            processes.answer(first, Ok(answer.packed()));
            opened
        }
        Err(failure) => {
            never_begun(processes, failure)?;
            return Ok(over);
        }
    };
    let Some(task) = processes.next_task(first)? else { return Ok(over) };
    processes.host(opened.config.parallel.ranks_per_process);
    let first = processes.own().start;
    match begin(processes, &opened, &task) {
        Ok((follower, logs)) => {
            processes.answer(first, Ok(Vec::new()));
            let saying = logs.clone();
            let outcome = follower.run(move |place, text| saying[place].say(text));
            logs.iter().for_each(|log| match &outcome {
                Ok(()) => log.say("ends"),
                Err(failure) => log.say(&format!("ends: {}", line_of(failure))),
            });
            outcome?;
        }
        Err(failure) => never_begun(processes, failure)?,
    }
    Ok(over)
}

/// Tells rank 0 why this process does not begin, whatever it asks for.
fn never_begun(processes: &Processes, failure: Failure) -> Result<()> {
    let first = processes.own().start;
    processes.answer(first, Err(failure));
    while processes.next_task(first)?.is_some() {
        processes.answer(first, Err(Failure::new("it has not begun")));
    }
    Ok(())
}

/// A process that has its configuration and its ranks' devices.
struct Opened {
    config: RunConfig,
    no_cache: bool,
    devices: Vec<SelectedDevice>,
}

/// Opens the ranks' devices.
fn open(processes: &Processes, args: &TrainArgs, task: &[u8]) -> Result<(Opened, Answered)> {
    let Told { config, .. } = Told::unpacked(task, &Device::flex())
        .filter(|told| told.version == env!("CARGO_PKG_VERSION"))
        .context("rank 0 is another release of deepseek; start the same one everywhere")?;
    let config = RunConfig::from_toml(&config, "the run of rank 0")?;
    processes.post.set_timeout(Duration::from_secs(config.parallel.timeout_s));
    let each = config.parallel.ranks_per_process;
    let own = processes.number * each..(processes.number + 1) * each;
    let devices = own_devices(&rank_devices(args)?, own, || Ok(args.device.open()?))?;
    let answer = Answered::of(&devices);
    Ok((Opened { config, no_cache: args.no_cache, devices }, answer))
}

/// Makes the ranks' parts of the model.
fn begin(
    processes: &Arc<Processes>,
    opened: &Opened,
    task: &[u8],
) -> Result<(Follower, Vec<RankLog>)> {
    let Began { origin, run_dir } =
        Began::unpacked(task, &Device::flex()).context("rank 0 began in other words")?;
    let log = |rank| RankLog::open(Path::new(&run_dir), rank);
    let logs = processes.own().map(log).collect::<Result<Vec<_>>>()?;
    let &Opened { ref config, no_cache, ref devices } = opened;
    for (log, device) in logs.iter().zip(devices) {
        log.say(&format!(
            "begins: of {} ranks, process {} of {}, on {}",
            processes.ranks(),
            std::process::id(),
            host(),
            device.name
        ));
        if let Some(library) = processes.library() {
            log.say(&format!("is joined by {library}"));
        }
    }
    let made = || {
        let (parallel, first) = (&config.parallel, processes.own().start);
        // Of the other ranks' devices nothing is asked here.
        let device = |rank: usize| {
            let place = rank.checked_sub(first).filter(|&place| place < devices.len());
            let device = &devices[place.unwrap_or(0)];
            (device.name.clone(), device.device.clone())
        };
        let cluster = Cluster {
            axes: parallel.axes(),
            schedule: parallel.schedule(),
            ranks: (0..processes.ranks()).map(device).collect(),
            formats: formats_of(parallel, &config.precision.precision()),
            reduction: parallel.reduction,
            members_a_node: parallel.members_a_node(),
            timeout: processes.post.timeout(),
            timeline: None,
            processes: Some(processes.clone()),
        };
        let own = |(rank, device): (usize, &SelectedDevice)| {
            let (optimizer, text) = (adamw_settings(config, device)?, Text::Prepared { no_cache });
            own_part(config, &cluster, rank, optimizer, &device.device, &origin, text)
        };
        let own = processes.own().zip(devices).map(own).collect::<Result<_>>()?;
        Follower::new(processes, own, &cluster, engine_settings(config))
    };
    let follower = made().inspect_err(|failure| {
        let line = format!("does not begin: {}", line_of(failure));
        logs.iter().for_each(|log| log.say(&line));
    })?;
    logs.iter().zip(follower.describe()).for_each(|(log, held)| log.say(&held));
    Ok((follower, logs))
}
