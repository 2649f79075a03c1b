//! A run as it is configured, as a workload: what its ranks keep.

use super::memory::{Keeper, of_ranks};
use super::stages::Stages;
use super::workload::Workload;
use crate::config::RunConfig;
use crate::dualpipe::PipelineSchedule;
use crate::parallel::{PipelineScheduleKind, cut};

/// Bytes of a number of an average of the weights.
const AVERAGE_BYTES: f64 = 4.0;

/// Bytes that this program keeps on each rank of a pipeline, in steps of the largest batch; none of
/// a layout that the run cannot have.
pub fn memory_of_run(config: &RunConfig) -> Option<Vec<f64>> {
    let parallel = &config.parallel;
    let axes = parallel.axes();
    // Of a single rank there is one order, whatever its name.
    let schedule = match axes.pipeline {
        1 => PipelineScheduleKind::OneFOneB,
        _ => parallel.schedule(),
    };
    let largest = config.schedule().ok()?.rows().iter().map(|row| row.settings.global_batch).max();
    let workload = Workload {
        axes,
        schedule,
        seq_len: config.train.seq_len,
        micro_batch: config.train.micro_batch,
        global_batch: largest?,
        precision: config.precision.precision(),
        dispatch: parallel.dispatch,
        recompute: config.precision.recompute,
        moment_bytes: config.optimizer.moment_bytes(),
        tokens: None,
    };
    let stages = schedule.stages(axes.pipeline);
    cut(&config.model, stages, stages / axes.pipeline).ok()?;
    PipelineSchedule::new(schedule, axes.pipeline, workload.chunks()).ok()?;
    let stages = Stages::new(&config.model, &workload);
    let ranks = of_ranks(&config.model, &workload, &stages, Keeper::Program);
    // An average has a number for each that a rank owns, as each of the two moments has.
    let average_bytes = |moments_bytes: f64| match config.ema.decay {
        Some(_) => AVERAGE_BYTES * moments_bytes / (2.0 * workload.moment_bytes as f64),
        None => 0.0,
    };
    Some(ranks.iter().map(|rank| rank.total_bytes + average_bytes(rank.moments_bytes)).collect())
}
