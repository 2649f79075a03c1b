//! What is planned: the axes, the schedule, the batch and the numbers of a run, and which of them a
//! cluster cannot have.

use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::{DeepSeekConfig, Precision};
use serde::Serialize;

use crate::config::{ClusterConfig, DispatchFormat, PlanConfig};
use crate::parallel::{Axes, PipelineScheduleKind, cut};

/// A run as far as its cost goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Ranks of a pipeline, pipelines that share experts, copies of all that.
    #[serde(serialize_with = "axes_as_counts")]
    pub axes: Axes,
    /// The schedule of a pipeline.
    pub schedule: PipelineScheduleKind,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences of a micro-batch.
    pub micro_batch: usize,
    /// Sequences of a step.
    pub global_batch: usize,
    /// The numbers that it computes in.
    #[serde(serialize_with = "precision_as_name")]
    pub precision: Precision,
    /// What rows travel in between ranks that share experts.
    pub dispatch: DispatchFormat,
    /// Whether RMSNorms, MLA up-projections and SwiGLU are computed again in backward.
    pub recompute: bool,
    /// Bytes of a value of one of AdamW's moments.
    pub moment_bytes: u64,
    /// Tokens of the whole run.
    pub tokens: Option<u64>,
}

/// Groups times experts of a layer whose routing is worked out; DeepSeek-V3 has 8 times 256.
const MOST_GROUPED: usize = 1 << 20;
/// The largest schedule that is worked out, in ranks times micro-batches.
const MOST_CHUNKS: usize = 1 << 12;

fn axes_as_counts<S: serde::Serializer>(axes: &Axes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([
        ("pipeline", axes.pipeline),
        ("expert", axes.expert),
        ("data", axes.data),
    ])
}

fn precision_as_name<S: serde::Serializer>(
    precision: &Precision,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(precision.name())
}

impl Workload {
    /// What `[plan]` says, with moments in BF16 (3.3.3), but in FP32 where all is.
    pub fn new(plan: &PlanConfig) -> Self {
        let precision = match plan.precision {
            crate::config::Format::F32 => Precision::F32,
            crate::config::Format::Bf16 => Precision::Bf16,
            crate::config::Format::Fp8 => Precision::Fp8(Fp8Recipe::default()),
        };
        Self {
            axes: Axes { pipeline: plan.pipeline, expert: plan.expert, data: plan.data },
            // Of a single rank there is one order, whatever its name.
            schedule: if plan.pipeline == 1 {
                PipelineScheduleKind::OneFOneB
            } else {
                plan.schedule
            },
            seq_len: plan.seq_len,
            micro_batch: plan.micro_batch,
            global_batch: plan.global_batch,
            precision,
            dispatch: DispatchFormat::Auto,
            recompute: plan.recompute,
            moment_bytes: if precision.is_f32() { 4 } else { 2 },
            tokens: plan.tokens,
        }
    }

    /// Tokens of a micro-batch.
    pub fn chunk_tokens(&self) -> usize {
        self.micro_batch * self.seq_len
    }

    /// Micro-batches of one pipeline in a step.
    pub fn chunks(&self) -> usize {
        self.global_batch / (self.micro_batch * self.axes.pipelines())
    }

    /// Tokens of a step.
    pub fn step_tokens(&self) -> usize {
        self.global_batch * self.seq_len
    }

    /// Bytes of a plain value: activations, gradients between stages.
    pub fn plain_bytes(&self) -> usize {
        if self.precision.is_f32() { 4 } else { 2 }
    }

    /// Bytes of a row of `d` values to an expert and back: FP8 goes with a scale of four bytes for
    /// each 128 values.
    pub fn row_bytes(&self, d: usize) -> (usize, usize) {
        match (self.dispatch, &self.precision) {
            (DispatchFormat::F32, _)
            | (DispatchFormat::Auto, Precision::F32 | Precision::Bf16x3) => (4 * d, 4 * d),
            (DispatchFormat::Bf16, _) | (DispatchFormat::Auto, Precision::Bf16) => (2 * d, 2 * d),
            (DispatchFormat::Fp8, _) | (DispatchFormat::Auto, Precision::Fp8(_)) => {
                (d + 4 * d.div_ceil(128), 2 * d)
            }
        }
    }

    /// Every rule that the workload breaks, each with its key.
    pub fn problems(&self, model: &DeepSeekConfig, cluster: &ClusterConfig) -> Vec<String> {
        let Axes { pipeline, expert, data } = self.axes;
        let mut problems: Vec<String> = [
            ("pipeline", pipeline),
            ("expert", expert),
            ("data", data),
            ("seq_len", self.seq_len),
            ("micro_batch", self.micro_batch),
            ("global_batch", self.global_batch),
        ]
        .into_iter()
        .filter(|(_, size)| !(1..=1 << 24).contains(size))
        .map(|(key, size)| format!("plan.{key} = {size} must be from 1 to {}", 1 << 24))
        .collect();
        if !problems.is_empty() {
            return problems;
        }
        let mut wrong = |problem: String| problems.push(problem);
        let ranks = pipeline.saturating_mul(expert).saturating_mul(data);
        if ranks != cluster.gpus() {
            wrong(format!(
                "plan.pipeline * plan.expert * plan.data = {ranks} ranks, but the cluster has \
                 node.gpus * node.count = {} GPUs",
                cluster.gpus()
            ));
        }
        if expert > 1 && model.moe_layers() + model.moe_mtp_modules() == 0 {
            wrong(format!("plan.expert = {expert}, but the model has no experts"));
        } else if !model.n_routed_experts.is_multiple_of(expert) {
            wrong(format!(
                "plan.expert = {expert} does not divide model.n_routed_experts = {}",
                model.n_routed_experts
            ));
        }
        let gpus = cluster.node.gpus;
        if cluster.node.count > 1 && !expert.is_multiple_of(gpus) && !gpus.is_multiple_of(expert) {
            wrong(format!(
                "plan.expert = {expert} neither fills nodes of node.gpus = {gpus} GPUs nor divides \
                 them"
            ));
        }
        if self.seq_len > model.max_position_embeddings {
            wrong(format!(
                "plan.seq_len = {} is more than model.max_position_embeddings = {}",
                self.seq_len, model.max_position_embeddings
            ));
        }
        if model.n_group.saturating_mul(model.n_routed_experts) > MOST_GROUPED {
            wrong(format!(
                "model.n_group = {} times model.n_routed_experts = {} is more than is worked out, \
                 {MOST_GROUPED}",
                model.n_group, model.n_routed_experts
            ));
        }
        let stages = self.schedule.stages(pipeline);
        if let Err(error) = cut(model, stages, stages / pipeline) {
            wrong(format!("plan.pipeline = {pipeline}: {error}"));
        }
        let shared =
            self.micro_batch.saturating_mul(self.axes.expert.saturating_mul(self.axes.data));
        if !self.global_batch.is_multiple_of(shared) {
            wrong(format!(
                "plan.global_batch = {} is not a multiple of plan.micro_batch * plan.expert * \
                 plan.data = {shared}",
                self.global_batch
            ));
        } else if (self.global_batch / shared).saturating_mul(pipeline) > MOST_CHUNKS {
            wrong(format!(
                "plan.global_batch = {}: {} micro-batches over {pipeline} ranks are more than are \
                 worked out, {MOST_CHUNKS} together",
                self.global_batch,
                self.global_batch / shared
            ));
        } else if let Err(error) = self.schedule.check(pipeline, self.global_batch / shared) {
            wrong(format!(
                "plan.schedule: {error} (plan.global_batch / (plan.micro_batch * plan.expert * \
                 plan.data))"
            ));
        }
        for (key, missing) in [
            (
                "fp8_tflops",
                matches!(self.precision, Precision::Fp8(_)) && cluster.gpu.fp8_tflops.is_none(),
            ),
            ("bf16_tflops", !self.precision.is_f32() && cluster.gpu.bf16_tflops.is_none()),
        ] {
            if missing {
                wrong(format!(
                    "gpu.{key} is missing; plan.precision = \"{}\" needs it",
                    self.precision.name()
                ));
            }
        }
        problems
    }
}
