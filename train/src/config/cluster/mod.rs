//! A cluster's file: its hardware, what is attained of it, what is planned for it, and where its
//! workers are. `deepseek plan cluster` reckons with it, `deepseek train --cluster` computes on the
//! workers.

mod resolve;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::precision::Format;
use super::sections::tokens_as_written;
use crate::parallel::PipelineScheduleKind;

pub use resolve::{cluster_key_like, resolve_cluster};

/// A cluster, complete and validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// One GPU (or whatever a rank computes on).
    pub gpu: GpuConfig,
    /// What shares the fast link.
    pub node: NodeConfig,
    /// The links.
    pub link: LinksConfig,
    /// What is attained of all that.
    pub rates: RatesConfig,
    /// What is planned where no run says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanConfig>,
    /// Runs that are known, to compare plans with.
    #[serde(default)]
    pub reference: Vec<ReferenceConfig>,
    /// Where the devices of the cluster are lent, for `train --cluster`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worker: Vec<WorkerConfig>,
}

/// `[gpu]`: one device by its data sheet. A TFLOP/s is 10^12, a GB 10^9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuConfig {
    /// What it is called.
    pub name: String,
    /// Memory of the device in GiB.
    pub memory_gib: f64,
    /// Bandwidth of its memory in GB/s, reads and writes together.
    pub memory_gb_per_s: f64,
    /// Peak of FP8 products, dense; without it FP8 cannot be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8_tflops: Option<f64>,
    /// Peak of BF16 products, dense; without it neither BF16 nor FP8 can be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_tflops: Option<f64>,
    /// Peak of FP32 products.
    pub f32_tflops: f64,
    /// Microseconds that a layer costs a micro-batch beside its work, in each of F, B and W: calls,
    /// launches, threads that wait for each other. Small models spend their time here.
    #[serde(default)]
    pub layer_us: f64,
}

/// `[node]`: GPUs that share the fast link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// GPUs of a node.
    pub gpus: usize,
    /// Nodes.
    pub count: usize,
}

/// `[link]`: what GPUs are joined by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksConfig {
    /// Inside a node.
    pub fast: LinkConfig,
    /// Between nodes; needed where there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<LinkConfig>,
}

/// `[link.fast]` and `[link.slow]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// GB/s of one GPU in one direction.
    pub gb_per_s: f64,
    /// Microseconds that a message takes beside its bytes.
    #[serde(default)]
    pub latency_us: f64,
}

/// `[rates]`: what is attained, as fractions of the peaks of `[gpu]` and `[link]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesConfig {
    /// What they rest on, said with the plan where somebody has to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// Products of linears in FP8.
    #[serde(default = "one")]
    pub linear_fp8: f64,
    /// Products of linears in BF16.
    #[serde(default = "one")]
    pub linear_bf16: f64,
    /// Products of linears in FP32, routers included.
    pub linear_f32: f64,
    /// Attention, forward.
    pub attention_forward: f64,
    /// Attention, backward, its scores computed again.
    pub attention_backward: f64,
    /// The memory's bandwidth in what is not a product.
    pub memory: f64,
    /// The link inside a node.
    pub link_fast: f64,
    /// The link between nodes.
    #[serde(default = "one")]
    pub link_slow: f64,
    /// Rows of the rank whose experts have most, over the mean: at least 1.
    #[serde(default = "one")]
    pub expert_load: f64,
    /// Share of the time in which the run goes on.
    #[serde(default = "one")]
    pub goodput: f64,
}

/// `[plan]`: how a run is spread over the cluster, and what a step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// Ranks of a pipeline.
    pub pipeline: usize,
    /// Pipelines that share the experts of their layers.
    pub expert: usize,
    /// Copies of all that.
    pub data: usize,
    /// The schedule of a pipeline.
    pub schedule: PipelineScheduleKind,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences of a micro-batch.
    pub micro_batch: usize,
    /// Sequences of a step.
    pub global_batch: usize,
    /// What the linears compute in.
    pub precision: Format,
    /// Whether RMSNorms, MLA up-projections and SwiGLU are computed again in backward.
    pub recompute: bool,
    /// Tokens of the whole run, also as in `"14.8T"`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "tokens_as_written"
    )]
    pub tokens: Option<u64>,
}

/// `[[reference]]`: what a run is known to have taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Parameters of its model, MTP modules not counted: which model it is.
    pub parameters: u64,
    /// Tokens that it was trained on.
    #[serde(deserialize_with = "tokens_as_written")]
    pub tokens: Option<u64>,
    /// GPUs times hours.
    pub gpu_hours: f64,
}

/// `[[worker]]`: a machine that lends its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// `ws://host:port`, as every other worker too can reach it.
    pub address: String,
    /// How many of its devices to take.
    #[serde(default = "one_device")]
    pub devices: usize,
    /// File whose first line is the worker's token; a relative path begins at the folder of the
    /// cluster's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Environment variable that holds the worker's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
}

fn one_device() -> usize {
    1
}

fn one() -> f64 {
    1.0
}

impl ClusterConfig {
    /// The sections of a cluster's file: those of no run.
    pub(crate) const SECTIONS: [&'static str; 7] =
        ["gpu", "node", "link", "rates", "plan", "reference", "worker"];

    /// GPUs of all nodes.
    pub fn gpus(&self) -> usize {
        self.node.gpus.saturating_mul(self.node.count)
    }
}

impl RatesConfig {
    /// All but `expert_load`, by key.
    pub fn fractions(&self) -> [(&'static str, f64); 9] {
        [
            ("rates.linear_fp8", self.linear_fp8),
            ("rates.linear_bf16", self.linear_bf16),
            ("rates.linear_f32", self.linear_f32),
            ("rates.attention_forward", self.attention_forward),
            ("rates.attention_backward", self.attention_backward),
            ("rates.memory", self.memory),
            ("rates.link_fast", self.link_fast),
            ("rates.link_slow", self.link_slow),
            ("rates.goodput", self.goodput),
        ]
    }
}
