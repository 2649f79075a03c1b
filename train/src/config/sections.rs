//! The sections of a run: training, optimizer, output. What has a default follows the report (4.2).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[train]`: how much of what is trained, and how often the run looks up from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Sequences of one optimizer step; a multiple of `micro_batch`, accumulated.
    pub global_batch: usize,
    /// Optimizer steps; or else `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Trained tokens, rounded down to whole steps; or else `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Seed of the initial weights and of everything random in the run that has no seed of its own.
    #[serde(default)]
    pub seed: u64,
    /// Steps from one evaluation to the next; 0 evaluates at the end only.
    #[serde(default = "default_eval_every")]
    pub eval_every: u64,
    /// Micro-batches of held-out data that an evaluation takes.
    #[serde(default = "default_eval_batches")]
    pub eval_batches: usize,
    /// Steps from one checkpoint to the next; 0 saves at the end only.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept; older ones are deleted.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// Steps from one line of progress to the next.
    #[serde(default = "default_log_every")]
    pub log_every: u64,
    /// Weight of the MTP losses (report, 2.2 and 4.2).
    #[serde(default = "default_mtp_lambda")]
    pub mtp_lambda: f64,
    /// What the balance bias moves by after a step: gamma (report, 2.1.2).
    #[serde(default = "default_bias_update_speed")]
    pub bias_update_speed: f64,
    /// Weight of the sequence-wise balance loss: alpha (report, 2.1.2).
    #[serde(default = "default_seq_aux_alpha")]
    pub seq_aux_alpha: f64,
}

impl TrainConfig {
    /// Tokens of one optimizer step: `global_batch * seq_len`.
    pub fn tokens_per_step(&self) -> u64 {
        (self.global_batch as u64).saturating_mul(self.seq_len as u64)
    }

    /// Micro-batches of one optimizer step: `global_batch / micro_batch`.
    pub fn micro_batches(&self) -> usize {
        self.global_batch / self.micro_batch.max(1)
    }

    /// Optimizer steps of the run, from `steps` or `tokens`; at least 1 in a valid configuration.
    pub fn total_steps(&self) -> u64 {
        self.steps.or_else(|| Some(self.tokens? / self.tokens_per_step().max(1))).unwrap_or(0)
    }
}

/// The course of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Stays at `lr`.
    Constant,
    /// A half cosine from `lr` to `lr_min` over the rest of the run.
    #[default]
    Cosine,
    /// Stays at `lr`, then a half cosine to `lr_min` over the last `decay_fraction` of the run (report, 4.2).
    WarmupStableDecay,
}

/// What AdamW keeps its moments in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentsConfig {
    /// BF16 where the device has it and both decays are fast enough for it, else F32. A run stores which of the two it took.
    #[default]
    Auto,
    /// Two bytes a value (report, 3.3.3).
    Bf16,
    /// Four bytes a value.
    F32,
}

/// `[optimizer]`: AdamW, its learning rate and the clipping of gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Highest learning rate.
    pub lr: f64,
    /// Learning rate at the end of a decay.
    #[serde(default)]
    pub lr_min: f64,
    /// Steps over which the learning rate grows to `lr`.
    #[serde(default)]
    pub warmup_steps: u64,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// The last part of the run over which `warmup-stable-decay` decays.
    #[serde(default = "default_decay_fraction")]
    pub decay_fraction: f64,
    /// Decay of the first moment.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// What keeps AdamW's division from dividing by zero.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Largest global norm of the gradients; 0 does not clip.
    #[serde(default = "default_clip_grad_norm")]
    pub clip_grad_norm: f64,
    /// What the moments are kept in.
    #[serde(default)]
    pub moments: MomentsConfig,
}

impl OptimizerConfig {
    /// The fastest-forgetting of the decays that BF16 rounds away entirely: a moment with a unit of `2^-8` of itself in the last place
    /// does not change by less than half of that.
    const SLOWEST_BF16_DECAY: f64 = 1.0 - 1.0 / 256.0;

    /// Whether moments in BF16 can follow both decays.
    pub fn decays_in_bf16(&self) -> bool {
        self.beta1.max(self.beta2) <= Self::SLOWEST_BF16_DECAY
    }
}

/// `[ema]`: the running average of the weights (report, 3.2.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmaConfig {
    /// What a step leaves of the average; without it none is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Steps from one update of the average to the next.
    pub every: u64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: None, every: 1 }
    }
}

/// `[output]`: where a run goes, and the sample that closes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// Folder that a run gets its own folder in: `dir/name-001`, the first number that is free.
    pub dir: PathBuf,
    /// Name of the run; by default that of its configuration.
    pub name: String,
    /// The run's folder itself, instead of `dir` and `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// What the sample at the end begins with; may be empty.
    pub sample_prompt: String,
    /// Tokens of the sample at the end; 0 for none.
    pub sample_tokens: usize,
    /// Temperature of the sample at the end.
    pub sample_temperature: f64,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("runs"),
            name: "run".into(),
            run_dir: None,
            sample_prompt: String::new(),
            sample_tokens: 200,
            sample_temperature: 0.8,
        }
    }
}

macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)+) => { $(fn $name() -> $type { $value })+ };
}

defaults! {
    default_eval_every: u64 = 100;
    default_eval_batches: usize = 16;
    default_checkpoint_every: u64 = 500;
    default_keep_checkpoints: usize = 2;
    default_log_every: u64 = 10;
    default_mtp_lambda: f64 = 0.3;
    default_bias_update_speed: f64 = 1e-3;
    default_seq_aux_alpha: f64 = 1e-4;
    default_decay_fraction: f64 = 0.3;
    default_beta1: f64 = 0.9;
    default_beta2: f64 = 0.95;
    default_eps: f64 = 1e-8;
    default_weight_decay: f64 = 0.1;
    default_clip_grad_norm: f64 = 1.0;
}
