//! How long a step takes: each rank's chunks by work and rates, then the schedule over them, then
//! what the copies exchange.

use burn_deepseek::DeepSeekConfig;
use serde::Serialize;

use super::chunk_time::{ChunkTime, Computing};
use super::speed::{GIGA, Speed};
use super::stages::Stages;
use super::traffic::Traffic;
use super::workload::Workload;
use crate::config::ClusterConfig;
use crate::dualpipe::{Action, Costs, PipelineSchedule, Planned, Waiting, simulate};
use crate::parallel::PipelineScheduleKind;

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepTime {
    /// A chunk of each rank.
    pub ranks: Vec<ChunkTime>,
    /// The rank whose chunks take longest: it sets the pace.
    pub slowest: usize,
    /// What the schedule is timed with: a chunk of the slowest rank.
    pub costs: Costs,
    /// The number of micro-batches of a pipeline.
    pub chunks: usize,
    /// The pipeline's time, each rank as slow as the slowest.
    pub makespan_s: f64,
    /// Time of that in which a rank as slow as the slowest computes or waits for rows, mean over
    /// the ranks.
    pub busy_s: f64,
    /// Idle time of a rank, mean over the ranks.
    pub bubble_s: f64,
    /// The bubble by the report's formula with the same costs.
    pub bubble_formula_s: f64,
    /// Summing gradients over copies, and sending updated weights back; nothing hides it.
    pub copies_s: f64,
    /// AdamW over a rank's shard, bound by memory.
    pub optimizer_s: f64,
    /// All of it.
    pub total_s: f64,
    /// Computing of a rank over the step, mean over the ranks.
    pub computing: Computing,
    /// What is lost because ranks are not all as fast as the mean of them: `busy_s` less what they
    /// need.
    pub uneven_s: f64,
    /// Rows in flight that nothing hides, mean over the ranks.
    pub exposed_s: f64,
    /// Tokens a second and GPU.
    pub tokens_per_s_per_gpu: f64,
}

impl StepTime {
    /// The time of a step of a workload that has no problems.
    pub(super) fn new(
        model: &DeepSeekConfig,
        workload: &Workload,
        cluster: &ClusterConfig,
        stages: &Stages,
        traffic: &Traffic,
    ) -> Self {
        let speed = Speed::new(cluster, &workload.precision);
        let all_to_all = traffic
            .routes
            .first()
            .map_or(0.0, |route| speed.rows(&route.dispatch) + speed.rows(&route.combine));
        let of_stage =
            |stage: usize| ChunkTime::of_stage(stages, stage, workload, &speed, all_to_all);
        let of_rank = |held: &Vec<usize>| {
            ChunkTime::mean(&held.iter().map(|&stage| of_stage(stage)).collect::<Vec<_>>())
        };
        let ranks: Vec<ChunkTime> = stages.of_rank.iter().map(of_rank).collect();
        let message = speed.message(traffic.message_bytes, traffic.message_is_slow);
        let costs: Vec<Costs> = ranks.iter().map(|chunks| chunks.costs(message)).collect();

        let (kind, pipeline, chunks) =
            (workload.schedule, workload.axes.pipeline, workload.chunks());
        let schedule = PipelineSchedule::new(kind, pipeline, chunks)
            .expect("invariant: a workload without problems has a schedule");
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let busy = |actions: &[Planned], costs: &Costs| {
            actions.iter().map(|planned| of_action(costs, &planned.action)).sum::<f64>()
        };
        let needed: Vec<f64> = schedule
            .actions
            .iter()
            .zip(&costs)
            .map(|(actions, costs)| busy(actions, costs))
            .collect();
        let slow = |costs: &Costs| {
            schedule.actions.iter().map(|actions| busy(actions, costs)).sum::<f64>()
        };
        let slowest = costs
            .iter()
            .map(slow)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(rank, _)| rank);
        let costs = costs[slowest];
        let simulation = simulate(&schedule, &costs, Waiting::WhereNeeded)
            .expect("invariant: a schedule that is made can be proved");
        let makespan_s = simulation.makespan();
        let busy_s = mean(simulation.busy());

        let copies_s =
            (traffic.gradients_bytes + traffic.weights_bytes) / speed.link(traffic.copies_are_slow);
        let optimizer_s = optimizer_bytes(model, workload, cluster)
            / (cluster.gpu.memory_gb_per_s * GIGA * cluster.rates.memory);
        let total_s = makespan_s + copies_s + optimizer_s;
        // Every micro-batch passes each of DualPipeV's two stages of a rank, and one stage of a
        // rank in the others.
        let passes = (chunks * if kind == PipelineScheduleKind::DualPipeV { 2 } else { 1 }) as f64;
        let computing = ChunkTime::mean(&ranks).computing().times(passes);
        Self {
            slowest,
            costs,
            chunks,
            makespan_s,
            busy_s,
            bubble_s: makespan_s - busy_s,
            bubble_formula_s: kind.bubble(pipeline, &costs),
            copies_s,
            optimizer_s,
            total_s,
            computing,
            uneven_s: busy_s - mean(needed.clone()),
            // The same sums in another order: what is below their roundings is nothing.
            exposed_s: (mean(needed) - computing.total()).max(0.0),
            tokens_per_s_per_gpu: workload.step_tokens() as f64 / total_s / cluster.gpus() as f64,
            ranks,
        }
    }
}

/// What an action costs a rank's own time; messages travel beside it.
fn of_action(costs: &Costs, action: &Action) -> f64 {
    if matches!(action, Action::Exchange(_)) { 0.0 } else { costs.of(action) }
}

/// What AdamW reads and writes of a rank's shard, all shards alike: gradient, weight and both
/// moments read, weight and moments written.
fn optimizer_bytes(model: &DeepSeekConfig, workload: &Workload, cluster: &ClusterConfig) -> f64 {
    let shard = model.parameter_counts().total_with_mtp() as f64 / cluster.gpus() as f64;
    shard * (4.0 + 2.0 * 4.0 + 4.0 * workload.moment_bytes as f64)
}
