//! The sections of a run: training, optimizer, output. What has a default follows the report (4.2).

use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::schedule::{Length, parse_count};

/// `[train]`: how much of what is trained, and how often the run looks up from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Optimizer steps, also as in `"2K"`; or else `tokens`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "steps_as_written"
    )]
    pub steps: Option<u64>,
    /// Trained tokens, rounded down to whole steps, also as in `"1.5M"`; or else `steps`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "tokens_as_written"
    )]
    pub tokens: Option<u64>,
    /// What the weights begin with instead of a random draw: a run's folder, one checkpoint, or a
    /// Hugging Face folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// Seed of the initial weights and of everything random in the run that has no seed of its own.
    #[serde(default)]
    pub seed: u64,
    /// Steps from one evaluation to the next; 0 evaluates at the end only.
    #[serde(default = "default_eval_every", deserialize_with = "count_as_written")]
    pub eval_every: u64,
    /// Micro-batches of held-out data that an evaluation takes.
    #[serde(default = "default_eval_batches")]
    pub eval_batches: usize,
    /// Steps from one checkpoint to the next; 0 saves at the end only.
    #[serde(default = "default_checkpoint_every", deserialize_with = "count_as_written")]
    pub checkpoint_every: u64,
    /// Checkpoints that are kept; older ones are deleted.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// Whether the checkpoint of the least validation loss is kept besides, and saved after an
    /// evaluation that is the best so far.
    #[serde(default)]
    pub keep_best: bool,
    /// Steps from one line of progress to the next.
    #[serde(default = "default_log_every", deserialize_with = "count_as_written")]
    pub log_every: u64,
}

impl TrainConfig {
    /// How long the run is; none where the configuration does not say it, or says it twice.
    pub fn length(&self) -> Option<Length> {
        match (self.steps, self.tokens) {
            (Some(steps), None) => Some(Length::Steps(steps)),
            (None, Some(tokens)) => Some(Length::Tokens(tokens)),
            _ => None,
        }
    }
}

/// A number of tokens as a number or as text.
pub(super) fn tokens_as_written<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    counted(deserializer, "tokens").map(Some)
}

fn steps_as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    counted(deserializer, "steps").map(Some)
}

fn count_as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    counted(deserializer, "steps")
}

/// A count as a number or as text.
fn counted<'de, D: Deserializer<'de>>(deserializer: D, what: &str) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    let expected = |written: &dyn std::fmt::Display| {
        D::Error::custom(format!("{written} must be a number of {what}, as in 1000 or \"1.5M\""))
    };
    match Written::deserialize(deserializer) {
        Ok(Written::Number(number)) => u64::try_from(number).map_err(|_| expected(&number)),
        Ok(Written::Text(text)) => parse_count(&text).map_err(D::Error::custom),
        Err(_) => Err(expected(&"this")),
    }
}

/// What AdamW keeps its moments in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentsConfig {
    /// BF16 where the device has it and both decays are fast enough for it, else F32. A run stores
    /// which of the two it took.
    #[default]
    Auto,
    /// Two bytes a value (report, 3.3.3).
    Bf16,
    /// Four bytes a value.
    F32,
}

/// `[optimizer]`: AdamW and the clipping of gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// What keeps AdamW's division from dividing by zero.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global norm of the gradients; 0 does not clip.
    pub clip_grad_norm: f64,
    /// What the moments are kept in.
    pub moments: MomentsConfig,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip_grad_norm: 1.0,
            moments: MomentsConfig::Auto,
        }
    }
}

impl OptimizerConfig {
    /// The fastest-forgetting of the decays that BF16 rounds away entirely: a moment with a unit of
    /// `2^-8` of itself in the last place does not change by less than half of that.
    const SLOWEST_BF16_DECAY: f64 = 1.0 - 1.0 / 256.0;

    /// Bytes of a value of a moment, on a device that has BF16.
    pub fn moment_bytes(&self) -> u64 {
        match self.moments {
            MomentsConfig::F32 => 4,
            MomentsConfig::Auto if !self.decays_in_bf16() => 4,
            MomentsConfig::Auto | MomentsConfig::Bf16 => 2,
        }
    }

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
    /// Whether the run writes TensorBoard's event files, too.
    pub tensorboard: bool,
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
            tensorboard: false,
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
}
