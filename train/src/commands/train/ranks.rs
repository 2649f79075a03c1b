//! The ranks of a run: on which devices they are, and what travels between them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::Precision;
use burn_deepseek::backend::supports_fp8;
use burn_deepseek::ops::wire::WireFormat;

use super::processes::gather_devices;
use crate::cli::TrainArgs;
use crate::config::{DispatchFormat, ParallelConfig, RunConfig};
use crate::device::{DeviceChoice, SelectedDevice, Token, WorkerDevice, cluster_devices};
use crate::dualpipe::{Cluster, TimelineCell};
use crate::failure::{Context, Result, UsageError};
use crate::parallel::{Processes, Reduction, WireFormats};

/// The ranks of a run over several, or of one that is on a worker's device; each of them another
/// process where there are `processes`.
pub(super) fn cluster(
    config: &RunConfig,
    shared: &SelectedDevice,
    args: &TrainArgs,
    processes: Option<&Arc<Processes>>,
) -> Result<Option<Cluster>> {
    let parallel = &config.parallel;
    check_reduction(parallel, processes.is_some())?;
    let timeout = timeout(parallel);
    let timeline = args.trace.is_some();
    let devices = rank_devices(args)?;
    let count = parallel.axes().ranks();
    if count == 1 && !devices.iter().any(|(device, _)| device.worker().is_some()) {
        let unused = [("--devices", !devices.is_empty()), ("--trace", timeline)]
            .into_iter()
            .find(|(_, given)| *given);
        return match unused {
            Some((flag, _)) => Err(UsageError(format!(
                "{flag} is for a run over several ranks; set parallel.pipeline, parallel.expert or \
                 parallel.data"
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
    let workers: BTreeSet<String> = devices
        .iter()
        .filter_map(|(device, _)| device.worker().map(WorkerDevice::worker))
        .collect();
    let workers = Vec::from_iter(workers);
    let open = |rank: usize| match devices.get(rank).or(devices.last()) {
        Some((device, token)) => device
            .open_for_rank(rank, token.as_ref(), &workers, timeout)
            .map(|opened| (opened.name, opened.device)),
        None => Ok((shared.name.clone(), shared.device.clone())),
    };
    let ranks: Vec<_> = match processes {
        Some(processes) => {
            let own = own_devices(&devices, 0..parallel.ranks_per_process, || Ok(shared.clone()))?;
            let names = gather_devices(processes, config, &own)?;
            // What comes from another process is put on the first one.
            let device = |rank: usize| own.get(rank).unwrap_or(&own[0]).device.clone();
            (0..).zip(names).map(|(rank, name)| (name, device(rank))).collect()
        }
        None => (0..count).map(open).collect::<Result<_, _>>()?,
    };
    let timeline = timeline.then(TimelineCell::default);
    Ok(Some(of(config, ranks, timeline, processes.cloned())?))
}

/// The ranks of a run that share one device; none where it is the only rank.
///
/// # Errors
/// [`UsageError`]: rows are to travel in FP8, which the device does not have.
pub(in crate::commands) fn ranks_on(
    config: &RunConfig,
    shared: &SelectedDevice,
) -> Result<Option<Cluster>, UsageError> {
    check_reduction(&config.parallel, false)?;
    let count = config.parallel.axes().ranks();
    let ranks = vec![(shared.name.clone(), shared.device.clone()); count];
    (count > 1).then(|| of(config, ranks, None, None)).transpose()
}

/// Ranks with these names and devices.
fn of(
    config: &RunConfig,
    ranks: Vec<(String, Device)>,
    timeline: Option<TimelineCell>,
    processes: Option<Arc<Processes>>,
) -> Result<Cluster, UsageError> {
    let parallel = &config.parallel;
    Ok(Cluster {
        axes: parallel.axes(),
        schedule: parallel.schedule(),
        formats: wire_formats(parallel, &config.precision.precision(), &ranks)?,
        reduction: parallel.reduction,
        members_a_node: parallel.members_a_node(),
        ranks,
        timeout: timeout(parallel),
        timeline,
        processes,
    })
}

/// Refuses sums by a library where none joins the ranks.
fn check_reduction(parallel: &ParallelConfig, processes: bool) -> Result<(), UsageError> {
    if parallel.reduction == Reduction::RankOrder || processes {
        return Ok(());
    }
    Err(UsageError(
        "parallel.reduction = \"collective\" is for ranks that are processes, which MPI joins: \
         start them with mpirun or srun, or take --set parallel.reduction=rank-order"
            .into(),
    ))
}

/// The devices of a process's ranks: those that the command line gives to them, or `shared`.
pub(super) fn own_devices(
    devices: &[(DeviceChoice, Option<Token>)],
    ranks: Range<usize>,
    shared: impl Fn() -> Result<SelectedDevice>,
) -> Result<Vec<SelectedDevice>> {
    let several = ranks.len() > 1;
    let open = |rank| match devices.get(rank).or(devices.last()) {
        Some((device, _)) if several => device.open().with_context(|| format!("rank {rank}")),
        Some((device, _)) => Ok(device.open()?),
        None => shared(),
    };
    ranks.map(open).collect()
}

/// How long a rank waits for another.
fn timeout(parallel: &ParallelConfig) -> Duration {
    Duration::from_secs(parallel.timeout_s)
}

/// The devices that the command line gives to ranks, with the tokens that open them; none where
/// ranks share the run's own.
pub(super) fn rank_devices(args: &TrainArgs) -> Result<Vec<(DeviceChoice, Option<Token>)>> {
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
    let formats = formats_of(parallel, precision);
    if formats.dispatch == WireFormat::Fp8
        && parallel.expert > 1
        && let Some((name, _)) = ranks.iter().find(|(_, device)| !supports_fp8(device))
    {
        let problem = format!(
            "parallel.dispatch = \"fp8\": {name} has no FP8 operations; take --set \
             parallel.dispatch=bf16 or other devices"
        );
        return Err(UsageError(problem));
    }
    Ok(formats)
}

/// What rows travel in, as the run has it.
pub(in crate::commands) fn formats_of(
    parallel: &ParallelConfig,
    precision: &Precision,
) -> WireFormats {
    let format = match (parallel.dispatch, precision) {
        (DispatchFormat::Auto, Precision::F32 | Precision::Bf16x3) => DispatchFormat::F32,
        (DispatchFormat::Auto, Precision::Bf16) => DispatchFormat::Bf16,
        (DispatchFormat::Auto, Precision::Fp8(_)) => DispatchFormat::Fp8,
        (format, _) => format,
    };
    match format {
        DispatchFormat::F32 => WireFormats { dispatch: WireFormat::F32, combine: WireFormat::F32 },
        DispatchFormat::Bf16 => {
            WireFormats { dispatch: WireFormat::Bf16, combine: WireFormat::Bf16 }
        }
        DispatchFormat::Fp8 | DispatchFormat::Auto => {
            WireFormats { dispatch: WireFormat::Fp8, combine: WireFormat::Bf16 }
        }
    }
}
