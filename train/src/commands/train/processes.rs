//! A run whose ranks are processes: whether the layout has as many, what rank 0 tells the others at
//! first, and what they answer.

use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::backend::supports_fp8;
use sysinfo::System;

use crate::cli::TrainArgs;
use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::failure::{Context, Result, UsageError};
use crate::parallel::{Packed, Processes, Unpacking, packed};

/// What rank 0 tells the others of the run.
pub(super) struct Told {
    pub version: String,
    /// The configuration, complete.
    pub config: String,
}

packed!(Told { version, config });

/// What another rank answers.
pub(super) struct Answered {
    pub device: String,
    /// The machine that it is in.
    pub host: String,
    /// Whether the device has FP8 operations.
    pub fp8: bool,
}

packed!(Answered { device, host, fp8 });

/// Where a rank's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// They are drawn.
    Drawn,
    /// A Hugging Face folder, or the checkpoint of a run that this one begins with.
    Folder(String),
    /// The checkpoint that the run goes on from, with its moments.
    Checkpoint(String),
}

impl Packed for Origin {
    fn pack(&self, into: &mut Vec<u8>) {
        match self {
            Self::Drawn => 0u8.pack(into),
            Self::Folder(path) => (1u8, path.clone()).pack(into),
            Self::Checkpoint(path) => (2u8, path.clone()).pack(into),
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        Some(match u8::unpack(from)? {
            0 => Self::Drawn,
            1 => Self::Folder(Packed::unpack(from)?),
            2 => Self::Checkpoint(Packed::unpack(from)?),
            _ => return None,
        })
    }
}

/// What rank 0 tells the others when nothing is left that could keep the run from beginning.
pub(super) struct Began {
    pub origin: Origin,
    /// The run's folder.
    pub run_dir: String,
}

packed!(Began { origin, run_dir });

/// Has all other ranks make their parts.
pub(super) fn begin_all(processes: &Processes, began: &Began) {
    let task = began.packed();
    (1..processes.ranks).for_each(|rank| processes.tell(rank, task.clone()));
}

/// The name of this machine.
pub(in crate::commands) fn host() -> String {
    System::host_name().unwrap_or_default()
}

/// Refuses a run that these processes cannot be.
pub(super) fn check(config: &RunConfig, args: &TrainArgs, processes: &Processes) -> Result<()> {
    let parallel = &config.parallel;
    let (count, started) = (parallel.axes().ranks(), processes.ranks);
    if count != started {
        let problem = format!(
            "{started} processes were started, but parallel.pipeline = {} * parallel.expert = {} * \
             parallel.data = {} are {count} ranks: start {count}, as mpirun -n {count} does, or \
             change the layout",
            parallel.pipeline, parallel.expert, parallel.data
        );
        return Err(UsageError(problem).into());
    }
    let lent = args.cluster.is_some()
        || args.devices.iter().chain([&args.device]).any(|device| device.worker().is_some());
    if lent {
        let problem =
            "a device of a worker is for a run that is one process; leave mpirun or srun out";
        return Err(UsageError(problem.into()).into());
    }
    Ok(())
}

/// The names of all ranks' devices, each of which has opened its own by the configuration that
/// rank 0 has resolved, with their machines where those are several; `own` is rank 0's.
pub(super) fn gather_devices(
    processes: &Processes,
    config: &RunConfig,
    own: &SelectedDevice,
) -> Result<Vec<String>> {
    processes.post.set_timeout(Duration::from_secs(config.parallel.timeout_s));
    let fp8 = supports_fp8(&own.device);
    let told = Told { version: env!("CARGO_PKG_VERSION").into(), config: config.to_toml()? };
    let task = told.packed();
    let mut names = vec![(own.name.clone(), host())];
    // All at once: each opens its device and makes room for its part.
    (1..processes.ranks).for_each(|rank| processes.tell(rank, task.clone()));
    for (rank, answer) in (1..).zip(processes.answers()?) {
        let Answered { device, host, fp8: theirs } =
            Answered::unpacked(&answer, &Device::flex())
                .with_context(|| format!("rank {rank} answered something else"))?;
        if theirs != fp8 {
            let (with, without) = if fp8 { (&own.name, &device) } else { (&device, &own.name) };
            let problem = format!(
                "rank 0 is on {}, rank {rank} on {device}: {with} has FP8 operations and {without} \
                 has none; give all processes the same kind of --device",
                own.name
            );
            return Err(UsageError(problem).into());
        }
        names.push((device, host));
    }
    let one_host = names.iter().all(|(_, host)| *host == names[0].1);
    let name = |(device, host): (String, String)| match one_host {
        true => device,
        false => format!("{device} of {host}"),
    };
    Ok(names.into_iter().map(name).collect())
}
