//! What a run on a cluster would need and take, worked out on paper: memory, traffic, time. Data
//! alone; nothing here computes with tensors.

mod account;
mod activations;
mod chunk_time;
mod memory;
mod of_run;
mod routing;
mod schedules;
mod speed;
mod stages;
mod step;
#[cfg(test)]
mod tests;
mod traffic;
mod work;
mod workload;

pub use account::{Account, Assumption, Hours};
pub use activations::kept_per_token;
pub use chunk_time::{ChunkTime, Computing};
pub use memory::{Keeper, RankMemory, RankParameters};
pub use of_run::memory_of_run;
pub use routing::{Groups, Reach, Spread};
pub use schedules::ScheduleRow;
pub use step::StepTime;
pub use traffic::{Links, Route, Traffic};
pub use work::{LayerWork, Work};
pub use workload::Workload;

use burn_deepseek::DeepSeekConfig;

use crate::config::{ClusterConfig, ConfigError};
use stages::Stages;

/// A run on a cluster, worked out.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// What is planned.
    pub workload: Workload,
    /// Memory of each rank of a pipeline as the report keeps things, rank 0 first.
    pub report: Vec<RankMemory>,
    /// Memory of each rank as this program keeps things.
    pub program: Vec<RankMemory>,
    /// What crosses the links.
    pub traffic: Traffic,
    /// What a step takes.
    pub step: StepTime,
    /// The schedules that the workload could have, the planned one among them; empty where there is
    /// no pipeline.
    pub schedules: Vec<ScheduleRow>,
    /// GPU hours, where the time goes, and what is assumed.
    pub account: Account,
}

impl ClusterPlan {
    /// Works it out.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every rule that the workload breaks on this cluster, each with
    /// its key.
    pub fn new(
        model: &DeepSeekConfig,
        workload: &Workload,
        cluster: &ClusterConfig,
        origin: &str,
    ) -> Result<Self, ConfigError> {
        let problems = workload.problems(model, cluster);
        if !problems.is_empty() {
            return Err(ConfigError::Invalid { origin: origin.into(), problems });
        }
        let stages = Stages::new(model, workload);
        let traffic = Traffic::new(model, workload, cluster, &stages);
        let step = StepTime::new(model, workload, cluster, &stages, &traffic);
        let memory = |keeper| memory::of_ranks(model, workload, &stages, keeper);
        let account = Account::new(&step, workload, cluster, model, |cluster| {
            StepTime::new(model, workload, cluster, &stages, &traffic)
        });
        let (report, program) = (memory(Keeper::Report), memory(Keeper::Program));
        let schedules = schedules::compare(model, workload, cluster);
        Ok(Self { workload: workload.clone(), report, program, traffic, step, schedules, account })
    }
}
