//! `[parallel]`: the ranks that a run is spread over (report, 3.2).

use burn_deepseek::config::DeepSeekConfig;
use serde::{Deserialize, Serialize};

use crate::parallel::{Axes, PipelineScheduleKind, Reduction, cut};

/// What rows of tokens travel in between ranks that share experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DispatchFormat {
    /// As the report has it where `precision.format` is FP8 (FP8 to experts, BF16 back), BF16 where
    /// it is BF16, FP32 where it is FP32. Whatever the format, rows for a rank's own experts pass
    /// it too: how many ranks share the experts does not show in what they get.
    #[default]
    Auto,
    /// Four bytes a value: the experts compute what they would on one device.
    F32,
    /// Two bytes a value.
    Bf16,
    /// E4M3 with a power-of-two scale for each 128 values to experts, BF16 back.
    Fp8,
}

/// The axes of a run, and how its ranks work together. One rank is a run on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParallelConfig {
    /// Ranks of a pipeline.
    pub pipeline: usize,
    /// Pipelines that share the experts of their layers.
    pub expert: usize,
    /// Copies of all that.
    pub data: usize,
    /// The schedule of a pipeline.
    pub schedule: PipelineScheduleKind,
    /// What rows travel in between ranks that share experts; where `expert` is 1 nothing is sent.
    pub dispatch: DispatchFormat,
    /// Who adds the gradients of ranks that hold the same parameters, and in which order.
    pub reduction: Reduction,
    /// How many consecutive ranks each process has, where mpirun or srun starts several.
    pub ranks_per_process: usize,
    /// How many consecutive ones of the ranks that share experts are in one node; none: all. With
    /// several nodes a token crosses to a node once, and its rows are summed there before they come
    /// back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks_per_node: Option<usize>,
    /// Seconds that a rank waits for another before the run is given up.
    pub timeout_s: u64,
}

impl Default for ParallelConfig {
    fn default() -> Self {
        Self {
            pipeline: 1,
            expert: 1,
            data: 1,
            schedule: PipelineScheduleKind::default(),
            dispatch: DispatchFormat::default(),
            reduction: Reduction::default(),
            ranks_per_process: 1,
            ranks_per_node: None,
            timeout_s: 600,
        }
    }
}

/// A year of seconds: nobody waits for longer, and points in time can still be counted.
const MOST_TIMEOUT_S: u64 = 365 * 24 * 60 * 60;

/// More ranks than anybody has.
const MOST_RANKS: usize = 1 << 16;

impl ParallelConfig {
    /// The axes.
    pub fn axes(&self) -> Axes {
        Axes { pipeline: self.pipeline, expert: self.expert, data: self.data }
    }

    /// How many of the ranks that share experts are in one node.
    pub fn members_a_node(&self) -> usize {
        self.ranks_per_node.unwrap_or(self.expert)
    }

    /// The schedule of a pipeline; of a single rank one micro-batch after the other.
    pub fn schedule(&self) -> PipelineScheduleKind {
        if self.pipeline == 1 { PipelineScheduleKind::OneFOneB } else { self.schedule }
    }

    /// What is wrong with the section for a model and the micro-batches of the run's steps, each
    /// with its key.
    pub fn problems(&self, model: &DeepSeekConfig, micro_batches: &[usize]) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, degree) in
            [("pipeline", self.pipeline), ("expert", self.expert), ("data", self.data)]
        {
            if !(1..=MOST_RANKS).contains(&degree) {
                problems.push(format!("parallel.{key} = {degree} must be from 1 to {MOST_RANKS}"));
            }
        }
        if !(1..=MOST_TIMEOUT_S).contains(&self.timeout_s) {
            problems.push(format!(
                "parallel.timeout_s = {} must be from 1 to {MOST_TIMEOUT_S}, which is a year",
                self.timeout_s
            ));
        }
        if let Some(size) = self.ranks_per_node
            && (size == 0 || !self.expert.is_multiple_of(size))
        {
            let expert = self.expert;
            problems.push(format!(
                "parallel.ranks_per_node = {size} must divide the ranks that \
                                   share experts, parallel.expert = {expert}"
            ));
        }
        let ranks = self.pipeline.saturating_mul(self.expert).saturating_mul(self.data);
        let each = self.ranks_per_process;
        if each == 0 || !ranks.is_multiple_of(each) {
            problems.push(format!(
                "parallel.ranks_per_process = {each} must divide the ranks, parallel.pipeline * \
                 parallel.expert * parallel.data = {ranks}"
            ));
        }
        if !problems.is_empty() || ranks == 1 {
            return problems;
        }
        if each > 1 && self.reduction == Reduction::Collective {
            problems.push(format!(
                "parallel.reduction = \"collective\" is for processes that are one rank each; \
                 parallel.ranks_per_process = {each}"
            ));
        }
        if ranks > MOST_RANKS {
            return vec![format!(
                "parallel.pipeline * parallel.expert * parallel.data = {ranks} ranks; the most is \
                 {MOST_RANKS}"
            )];
        }
        let layers = 0..model.num_hidden_layers + model.num_nextn_predict_layers;
        if self.expert > 1 && !layers.clone().any(|layer| model.is_moe_layer(layer)) {
            problems
                .push(format!("parallel.expert = {}, but the model has no experts", self.expert));
        } else if !model.n_routed_experts.is_multiple_of(self.expert) {
            problems.push(format!(
                "parallel.expert = {} does not divide model.n_routed_experts = {}",
                self.expert, model.n_routed_experts
            ));
        }
        let kind = self.schedule();
        let stages = kind.stages(self.pipeline);
        problems.extend(
            cut(model, stages, stages / self.pipeline).err().map(|error| error.to_string()),
        );
        let pipelines = self.expert * self.data;
        for &count in micro_batches {
            if !count.is_multiple_of(pipelines) {
                problems.push(format!(
                    "a step of {count} micro-batches (schedule.global_batch / train.micro_batch) \
                     cannot be shared between \
                     parallel.expert * parallel.data = {pipelines} pipelines"
                ));
            } else if let Err(error) = kind.check(self.pipeline, count / pipelines) {
                problems.push(format!(
                    "parallel.schedule: {error} (schedule.global_batch / train.micro_batch, shared \
                     between {pipelines} pipelines)"
                ));
            }
        }
        // A batch that ramps has many levels, and the same is wrong with most of them.
        problems.truncate(8);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;

    #[test]
    fn problems_name_their_keys() {
        let model = resolve_model(Some("tiny"), None, &[]).unwrap();
        let one = ParallelConfig::default();
        assert!(one.problems(&model, &[1, 3]).is_empty());
        let text = |config: ParallelConfig, micro_batches: &[usize]| {
            config.problems(&model, micro_batches).join("\n")
        };
        assert!(
            text(ParallelConfig { pipeline: 0, ..one.clone() }, &[8])
                .contains("parallel.pipeline = 0")
        );
        assert!(
            text(ParallelConfig { pipeline: 3, ..one.clone() }, &[8])
                .contains("even number of ranks")
        );
        assert!(
            text(ParallelConfig { pipeline: 2, ..one.clone() }, &[2])
                .contains("at least 4 micro-batches")
        );
        assert!(
            text(ParallelConfig { expert: 3, ..one.clone() }, &[3])
                .contains("does not divide model.n_routed_experts")
        );
        assert!(text(ParallelConfig { data: 2, ..one.clone() }, &[3]).contains("cannot be shared"));
        for timeout_s in [0, MOST_TIMEOUT_S + 1, u64::MAX] {
            let found = text(ParallelConfig { timeout_s, ..one.clone() }, &[8]);
            assert!(
                found.contains(&format!("parallel.timeout_s = {timeout_s} must be")),
                "{found}"
            );
        }
        for (expert, size) in [(1, 2), (2, 0), (4, 3)] {
            let nodes =
                text(ParallelConfig { expert, ranks_per_node: Some(size), ..one.clone() }, &[8]);
            assert!(
                nodes.contains(&format!("parallel.ranks_per_node = {size} must divide")),
                "{nodes}"
            );
        }
        assert_eq!(
            text(ParallelConfig { expert: 4, ranks_per_node: Some(2), ..one.clone() }, &[8]),
            ""
        );
        assert_eq!(text(ParallelConfig { pipeline: 2, expert: 2, ..one }, &[8]), "");
    }
}
