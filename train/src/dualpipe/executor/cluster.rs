//! The ranks that a run is spread over, as the engine is told of them.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::DeepSeekConfig;

use super::timeline::TimelineCell;
use crate::failure::Result;
use crate::parallel::{
    Axes, PipelineScheduleKind, Processes, Reduction, TooManyStages, WireFormats, cut,
};

/// The ranks that a run is spread over.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many there are in which direction.
    pub axes: Axes,
    /// The schedule of each pipeline.
    pub schedule: PipelineScheduleKind,
    /// Name and device of each rank; of one in another process the name alone is its own.
    pub ranks: Vec<(String, Device)>,
    /// What rows travel in between ranks that share experts.
    pub formats: WireFormats,
    /// How gradients become sums.
    pub reduction: Reduction,
    /// How many consecutive ones of the ranks that share experts are in one node.
    pub members_a_node: usize,
    /// How long a rank waits for another.
    pub timeout: Duration,
    /// Where the timeline of each step is left.
    pub timeline: Option<TimelineCell>,
    /// The processes that have the ranks; none where all ranks are threads of this one.
    pub processes: Option<Arc<Processes>>,
}

impl Cluster {
    /// Whether a rank needs the text: one that has the beginning of the model or its end.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages.
    pub fn reads_text(&self, model: &DeepSeekConfig, rank: usize) -> Result<bool, TooManyStages> {
        let Axes { pipeline, .. } = self.axes;
        let stages = self.schedule.stages(pipeline);
        let stages = cut(model, stages, stages / pipeline)?;
        let held = self.schedule.stages_of(self.axes.place(rank).pipeline, pipeline);
        Ok(held.into_iter().flatten().any(|stage| stages[stage].begins || stages[stage].ends))
    }

    /// In words: how many ranks, their axes, schedule and devices.
    pub fn describe(&self) -> String {
        let Axes { pipeline, expert, data } = self.axes;
        let mut devices: Vec<(&str, usize)> = Vec::new();
        for (name, _) in &self.ranks {
            match devices.last_mut() {
                Some((last, count)) if last == name => *count += 1,
                _ => devices.push((name, 1)),
            }
        }
        let devices: Vec<String> =
            devices.into_iter().map(|(name, count)| format!("{count} on {name}")).collect();
        format!(
            "{} = pipeline {pipeline} ({}) x expert {expert} x data {data}: {}{}",
            self.axes.ranks(),
            self.schedule,
            devices.join(", "),
            match self.processes.as_ref().map(|processes| self.ranks.len() / processes.count) {
                None => String::new(),
                Some(1) => ", each a process".into(),
                Some(count) => format!(", {count} a process"),
            }
        )
    }
}
