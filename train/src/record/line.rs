//! The lines of a record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nullable;

/// A line. Numbers stand flat, one column each; what is a row of experts or of layers is an array.
/// A number that is not finite is written as null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "most lines of a record are the largest, steps")]
pub enum Line {
    /// What an optimizer step measured.
    Step(StepLine),
    /// The measure of the held-out windows after a step.
    Evaluation(EvaluationLine),
    /// Text of the model after a step.
    Sample(SampleLine),
    /// Something that somebody should look at.
    Alert(AlertLine),
    /// What the machine had to give at the time.
    System(SystemLine),
}

impl Line {
    /// Where in the run the line was written.
    pub fn stamp(&self) -> &Stamp {
        match self {
            Self::Step(StepLine { stamp, .. })
            | Self::Evaluation(EvaluationLine { stamp, .. })
            | Self::Sample(SampleLine { stamp, .. })
            | Self::Alert(AlertLine { stamp, .. })
            | Self::System(SystemLine { stamp, .. }) => stamp,
        }
    }
}

/// Where in a run a line was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stamp {
    /// Version of the record's lines.
    pub version: u32,
    /// The clock, in UTC, as RFC 3339 writes it.
    pub time: String,
    /// Seconds of training steps over all sessions of the run (evaluation and saving not counted).
    pub elapsed_seconds: f64,
    /// Optimizer steps made; the first step has 1.
    pub step: u64,
    /// Sequences trained on.
    pub samples: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// The experts of the MoE layers, MTP modules after the main model's layers; empty without MoE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Experts {
    /// Index of each MoE layer.
    pub layers: Vec<usize>,
    /// Of each layer the tokens of its busiest expert over the mean, less 1 (MaxVio).
    pub layer_violation: Vec<f64>,
    /// Of each layer the tokens that chose each expert.
    pub expert_loads: Vec<Vec<u64>>,
    /// The largest violation of any layer; null without MoE.
    pub max_violation: Option<f64>,
    /// Experts of all layers that no token chose.
    pub dead_experts: u64,
}

/// Norms of the gradients before clipping by part of the model; their squares add up to that of the
/// global norm.
/// A part that the model has not is null, and so is all of it but every `metrics.every` steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GradNorms {
    /// Norm of the gradients of the embedding.
    pub grad_norm_embedding: Option<f64>,
    /// Norm of the gradients of attention.
    pub grad_norm_attention: Option<f64>,
    /// Norm of the gradients of the routers, without the balance bias.
    pub grad_norm_router: Option<f64>,
    /// Norm of the gradients of the routed experts.
    pub grad_norm_experts: Option<f64>,
    /// Norm of the gradients of dense layers and shared experts.
    pub grad_norm_mlp: Option<f64>,
    /// Norm of the gradients of the RMSNorms of the main model outside of attention.
    pub grad_norm_norms: Option<f64>,
    /// Norm of the gradients of the MTP modules.
    pub grad_norm_mtp: Option<f64>,
    /// Norm of the gradients of the output head, where it is not the embedding.
    pub grad_norm_head: Option<f64>,
}

/// Norms of the parameters after the update by part of the model.
/// A part that the model has not is null, and so is all of it but every `metrics.every` steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ParamNorms {
    /// Norm of the parameters of the embedding.
    pub param_norm_embedding: Option<f64>,
    /// Norm of the parameters of attention.
    pub param_norm_attention: Option<f64>,
    /// Norm of the parameters of the routers, without the balance bias.
    pub param_norm_router: Option<f64>,
    /// Norm of the parameters of the routed experts.
    pub param_norm_experts: Option<f64>,
    /// Norm of the parameters of dense layers and shared experts.
    pub param_norm_mlp: Option<f64>,
    /// Norm of the parameters of the RMSNorms of the main model outside of attention.
    pub param_norm_norms: Option<f64>,
    /// Norm of the parameters of the MTP modules.
    pub param_norm_mtp: Option<f64>,
    /// Norm of the parameters of the output head, where it is not the embedding.
    pub param_norm_head: Option<f64>,
}

/// What the casts of a step to FP8 did, by what was cast; null but every `metrics.every` steps, and
/// where nothing is cast. Of inputs and gradients every fourth row is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fp8Casts {
    /// Of inputs of linears the share of values that a cast clipped.
    pub fp8_activations_saturated: Option<f64>,
    /// Of inputs of linears the share of values that were not zero and became zero.
    pub fp8_activations_underflowed: Option<f64>,
    /// Of inputs of linears the smallest scale of a tile.
    pub fp8_activations_scale_min: Option<f64>,
    /// Of inputs of linears the largest scale of a tile.
    pub fp8_activations_scale_max: Option<f64>,
    /// Of weights the share of values that a cast clipped.
    pub fp8_weights_saturated: Option<f64>,
    /// Of weights the share of values that were not zero and became zero.
    pub fp8_weights_underflowed: Option<f64>,
    /// Of weights the smallest scale of a tile.
    pub fp8_weights_scale_min: Option<f64>,
    /// Of weights the largest scale of a tile.
    pub fp8_weights_scale_max: Option<f64>,
    /// Of gradients of linears' outputs the share of values that a cast clipped.
    pub fp8_gradients_saturated: Option<f64>,
    /// Of gradients of linears' outputs the share of values that were not zero and became zero.
    pub fp8_gradients_underflowed: Option<f64>,
    /// Of gradients of linears' outputs the smallest scale of a tile.
    pub fp8_gradients_scale_min: Option<f64>,
    /// Of gradients of linears' outputs the largest scale of a tile.
    pub fp8_gradients_scale_max: Option<f64>,
}

/// What an optimizer step measured over its global batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepLine {
    /// Where in the run.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Mean cross entropy of the next token, nats a token.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub loss: f64,
    /// Exponential of `loss`.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub perplexity: f64,
    /// `loss` in bits a byte of the training text.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub bits_per_byte: f64,
    /// Mean of `mtp_losses`; null without MTP.
    pub mtp_loss: Option<f64>,
    /// Mean cross entropy of each MTP module, nats a token; MTP 1 first.
    #[serde(deserialize_with = "nullable::numbers")]
    #[schemars(with = "Vec<Option<f64>>")]
    pub mtp_losses: Vec<f64>,
    /// Sequence-wise balance loss at alpha = 1, summed over layers.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub balance_loss: f64,
    /// What was differentiated: `loss` + lambda * `mtp_loss` + alpha * `balance_loss`.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub total_loss: f64,
    /// Global norm of the gradients before clipping.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub grad_norm: f64,
    /// Norms of the gradients by part of the model.
    #[serde(flatten)]
    pub grad_norms: GradNorms,
    /// Global norm of the parameters after the update; null but every `metrics.every` steps.
    pub param_norm: Option<f64>,
    /// Norms of the parameters by part of the model.
    #[serde(flatten)]
    pub param_norms: ParamNorms,
    /// Learning rate of the step.
    pub lr: f64,
    /// Sequences of the step.
    pub global_batch: u64,
    /// Tokens of the step.
    pub batch_tokens: u64,
    /// gamma: what the balance biases moved by.
    pub bias_update_speed: f64,
    /// alpha: weight of the sequence-wise balance loss.
    pub seq_aux_alpha: f64,
    /// lambda: weight of the MTP losses.
    pub mtp_lambda: f64,
    /// Tokens of the step over its seconds.
    pub tokens_per_second: f64,
    /// Seconds of the step.
    pub step_seconds: f64,
    /// Seconds of it in which batches were waited for.
    pub data_seconds: f64,
    /// Seconds of it in forward and backward passes, with the exchange between ranks.
    pub compute_seconds: f64,
    /// Seconds of these in forward passes; over ranks their mean.
    pub forward_seconds: f64,
    /// Seconds of these in backward passes; over ranks their mean.
    pub backward_seconds: f64,
    /// Seconds of these in which rows of experts were waited for, mean over ranks; null where no
    /// ranks share experts.
    pub exchange_seconds: Option<f64>,
    /// Seconds of those in which the same rank computed another micro-batch, mean over ranks.
    pub exchange_hidden_seconds: Option<f64>,
    /// Seconds of it in the update of the weights.
    pub update_seconds: f64,
    /// Seconds of it for the running average of the weights; 0 without one.
    pub average_seconds: f64,
    /// Seconds that saving took since the step before; 0 where nothing was saved.
    pub saving_seconds: f64,
    /// The experts.
    #[serde(flatten)]
    pub experts: Experts,
    /// Of each MoE layer the entropy of the router's scores, normalized to a sum of 1, in nats; mean
    /// over tokens. Empty but every `metrics.every` steps.
    #[serde(deserialize_with = "nullable::numbers")]
    #[schemars(with = "Vec<Option<f64>>")]
    pub gate_entropy: Vec<f64>,
    /// What FP8's casts did to values.
    #[serde(flatten)]
    pub fp8: Fp8Casts,
    /// Of each rank the seconds in which it computed, in the passes of the step; empty without
    /// ranks, and but every `metrics.every` steps.
    pub rank_busy_seconds: Vec<f64>,
    /// Of each rank the seconds of these passes in which it waited for messages with nothing to
    /// compute.
    pub rank_waiting_seconds: Vec<f64>,
    /// Of each rank the bytes of tensors that it sent to others in the step.
    pub rank_sent_bytes: Vec<u64>,
    /// Bytes that went between ranks of a node; null where no ranks share experts.
    pub exchange_fast_bytes: Option<u64>,
    /// Bytes that went between nodes.
    pub exchange_slow_bytes: Option<u64>,
    /// Bytes between ranks of a node that a direct route would have sent.
    pub exchange_direct_fast_bytes: Option<u64>,
    /// Bytes between nodes that a direct route would have sent.
    pub exchange_direct_slow_bytes: Option<u64>,
}

/// The measure of the held-out windows after a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvaluationLine {
    /// Where in the run.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Mean cross entropy of the next token, nats a token.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub valid_loss: f64,
    /// Exponential of `valid_loss`.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub valid_perplexity: f64,
    /// `valid_loss` in bits a byte of the held-out text.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub valid_bits_per_byte: f64,
    /// Mean of `valid_mtp_losses`; null without MTP.
    pub valid_mtp_loss: Option<f64>,
    /// Mean cross entropy of each MTP module, nats a token; MTP 1 first.
    #[serde(deserialize_with = "nullable::numbers")]
    #[schemars(with = "Vec<Option<f64>>")]
    pub valid_mtp_losses: Vec<f64>,
    /// Tokens that were predicted.
    pub valid_tokens: u64,
    /// Seconds that it took.
    pub evaluation_seconds: f64,
    /// The experts.
    #[serde(flatten)]
    pub experts: Experts,
    /// Of each MoE layer the smallest balance bias.
    pub bias_min: Vec<f64>,
    /// Of each MoE layer the largest balance bias.
    pub bias_max: Vec<f64>,
    /// Of each MoE layer the mean over experts of how far the balance bias has moved since the
    /// evaluation before, up or down; empty in the first.
    #[serde(deserialize_with = "nullable::numbers")]
    #[schemars(with = "Vec<Option<f64>>")]
    pub bias_drift: Vec<f64>,
    /// Of each MoE layer the balance bias of each expert.
    pub expert_biases: Vec<Vec<f32>>,
}

/// Text of the model after a step, always from the same prompt and seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SampleLine {
    /// Where in the run.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// What it begins with (`output.sample_prompt`).
    pub prompt: String,
    /// Prompt and what follows.
    pub text: String,
    /// Temperature that it was drawn at.
    pub temperature: f64,
    /// Share of the MTP modules' drafts that the main model agreed with, in a greedy text after the
    /// same prompt; null without MTP.
    pub mtp_acceptance: Option<f64>,
}

/// How bad something is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    /// Worth knowing.
    #[default]
    Info,
    /// Worth looking at.
    Warning,
    /// The run is of little use as it is.
    Error,
}

impl AlertLevel {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that somebody should look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertLine {
    /// Where in the run.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// How bad it is.
    pub level: AlertLevel,
    /// Name of the rule, a key of `[alerts]`.
    pub rule: String,
    /// What was seen, in a sentence.
    pub message: String,
    /// The number that was looked at.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub value: f64,
    /// What it was compared with.
    #[serde(deserialize_with = "nullable::number")]
    #[schemars(with = "Option<f64>")]
    pub threshold: f64,
}

/// What the machine had to give at the time; null what cannot be known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemLine {
    /// Where in the run.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Bytes of memory that the process had.
    pub resident_bytes: Option<u64>,
    /// Bytes of memory that were left to be had.
    pub available_bytes: Option<u64>,
    /// Processor time of the process over the clock's since the line before: 1 is one core.
    pub cpu_cores: Option<f64>,
    /// Bytes of memory that the run's device had in use.
    pub device_bytes: Option<u64>,
    /// Bytes left on the disk of the run's folder.
    pub disk_free_bytes: Option<u64>,
}
