//! A run whose ranks are processes: whether the layout has as many, what rank 0 tells the others at
//! first, and what they answer, each for all of its ranks.

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

/// What another process answers.
pub(super) struct Answered {
    /// The device of each of its ranks, and whether it has FP8 operations.
    pub devices: Vec<(String, bool)>,
    /// The machine that it is in.
    pub host: String,
}

packed!(Answered { devices, host });

impl Answered {
    /// What is to be said of devices that were opened here.
    pub fn of(devices: &[SelectedDevice]) -> Self {
        let device = |device: &SelectedDevice| (device.name.clone(), supports_fp8(&device.device));
        Self { devices: devices.iter().map(device).collect(), host: host() }
    }
}

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

/// Has all other processes make the parts of their ranks. From here on each is so many ranks: whoever
/// gets this message knows it too.
pub(super) fn begin_all(processes: &Processes, began: &Began, ranks_a_process: usize) {
    let task = began.packed();
    processes.others().for_each(|number| processes.tell(number, task.clone()));
    processes.host(ranks_a_process);
}

/// The name of this machine.
pub(in crate::commands) fn host() -> String {
    System::host_name().unwrap_or_default()
}

/// Refuses a run that these processes cannot be.
pub(super) fn check(config: &RunConfig, args: &TrainArgs, processes: &Processes) -> Result<()> {
    let parallel = &config.parallel;
    let (count, started) = (parallel.axes().ranks(), processes.count);
    let each = parallel.ranks_per_process;
    let wanted = count / each;
    if wanted != started {
        let several = match each {
            1 => String::new(),
            each => format!(", of which each process has parallel.ranks_per_process = {each}"),
        };
        let problem = format!(
            "{started} processes were started, but parallel.pipeline = {} * parallel.expert = {} * \
             parallel.data = {} are {count} ranks{several}: start {wanted}, as mpirun -n {wanted} \
             does, or change the layout",
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

/// The names of all ranks' devices, which every process has opened by the configuration that rank 0
/// has resolved, with their machines where those are several; `own` are those of this process.
pub(super) fn gather_devices(
    processes: &Processes,
    config: &RunConfig,
    own: &[SelectedDevice],
) -> Result<Vec<String>> {
    processes.post.set_timeout(Duration::from_secs(config.parallel.timeout_s));
    let told = Told { version: env!("CARGO_PKG_VERSION").into(), config: config.to_toml()? };
    let task = told.packed();
    // All at once: each opens its devices and makes room for its parts.
    processes.others().for_each(|rank| processes.tell(rank, task.clone()));
    let mut answered = vec![Answered::of(own)];
    let answers = processes.answers(config.parallel.ranks_per_process)?;
    for (process, answer) in (1..).zip(answers) {
        let answer = Answered::unpacked(&answer, &Device::flex());
        answered
            .push(answer.with_context(|| format!("process {process} answered something else"))?);
    }
    let devices = answered.iter().flat_map(|answer| &answer.devices);
    if let Some((rank, problem)) = other_kind(devices) {
        return Err(
            UsageError(format!("rank 0 is on {}, rank {rank} on {problem}", own[0].name)).into()
        );
    }
    let one_host = answered.iter().all(|answer| answer.host == answered[0].host);
    let names = answered.into_iter().flat_map(|Answered { devices, host }| {
        devices.into_iter().map(move |(device, _)| match one_host {
            true => device,
            false => format!("{device} of {host}"),
        })
    });
    Ok(names.collect())
}

/// The first rank whose device is of another kind than rank 0's, and what is wrong with that.
fn other_kind<'a>(
    mut devices: impl Iterator<Item = &'a (String, bool)>,
) -> Option<(usize, String)> {
    let (first, fp8) = devices.next()?;
    let (rank, (device, _)) = (1..).zip(devices).find(|(_, (_, theirs))| theirs != fp8)?;
    let (with, without) = if *fp8 { (first, device) } else { (device, first) };
    let problem = format!(
        "{device}: {with} has FP8 operations and {without} has none; give all ranks the same kind \
         of device"
    );
    Some((rank, problem))
}
