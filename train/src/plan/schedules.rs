//! A workload compared under each schedule (3.2.1, Table 2, with times and bytes in place of
//! letters).

use burn_deepseek::DeepSeekConfig;
use serde::Serialize;

use super::memory::{self, Keeper};
use super::stages::Stages;
use super::step::StepTime;
use super::traffic::Traffic;
use super::workload::Workload;
use crate::config::ClusterConfig;
use crate::parallel::PipelineScheduleKind;

/// One schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScheduleRow {
    /// Which.
    pub kind: PipelineScheduleKind,
    /// Idle time of a rank, mean over the ranks.
    pub bubble_s: f64,
    /// The bubble by its formula.
    pub bubble_formula_s: f64,
    /// Rows in flight that nothing hides.
    pub exposed_s: f64,
    /// A step.
    pub step_s: f64,
    /// Tokens a second and GPU.
    pub tokens_per_s_per_gpu: f64,
    /// Memory of the rank with most, as the report keeps things.
    pub memory_bytes: f64,
}

/// Every schedule that the workload can have.
pub(super) fn compare(
    model: &DeepSeekConfig,
    workload: &Workload,
    cluster: &ClusterConfig,
) -> Vec<ScheduleRow> {
    if workload.axes.pipeline == 1 {
        return Vec::new();
    }
    let with = |schedule| Workload { schedule, ..workload.clone() };
    let possible = PipelineScheduleKind::ALL
        .into_iter()
        .map(with)
        .filter(|workload| workload.problems(model, cluster).is_empty());
    possible.map(|workload| row(model, &workload, cluster)).collect()
}

fn row(model: &DeepSeekConfig, workload: &Workload, cluster: &ClusterConfig) -> ScheduleRow {
    let stages = Stages::new(model, workload);
    let traffic = Traffic::new(model, workload, cluster, &stages);
    let step = StepTime::new(model, workload, cluster, &stages, &traffic);
    let ranks = memory::of_ranks(model, workload, &stages, Keeper::Report);
    ScheduleRow {
        kind: workload.schedule,
        bubble_s: step.bubble_s,
        bubble_formula_s: step.bubble_formula_s,
        exposed_s: step.exposed_s,
        step_s: step.total_s,
        tokens_per_s_per_gpu: step.tokens_per_s_per_gpu,
        memory_bytes: ranks.iter().map(|rank| rank.total_bytes).fold(0.0, f64::max),
    }
}
