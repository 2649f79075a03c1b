//! Arguments of `generate`: which model continues which prompt, and how.

use std::path::PathBuf;

use burn_deepseek::attention::AttentionForm;
use clap::Args;

use super::values::{parse_device, parse_size, parse_temperature, parse_top_p};
use crate::checkpoint::Weights;
use crate::device::DeviceChoice;

/// Arguments of `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// A run's folder (its newest checkpoint), one checkpoint, or a Hugging Face model's folder.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub checkpoint: PathBuf,
    /// Of a run's folder the checkpoint with the least validation loss instead of the newest.
    #[arg(long)]
    pub best: bool,
    /// Text to continue; may be empty.
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// Tokens to generate at most; also as in 1K.
    #[arg(long, default_value_t = 200, value_parser = parse_size)]
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; higher is more random.
    #[arg(long, default_value_t = 0.0, value_parser = parse_temperature)]
    pub temperature: f64,
    /// Sample among the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0, value_parser = parse_top_p)]
    pub top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The running average of the weights (see `[ema]`) instead of the weights.
    #[arg(long)]
    pub ema: bool,
    /// Draft tokens with the MTP modules and verify them in one pass.
    #[arg(long)]
    pub speculative: bool,
    /// Attend over keys and values of every head, expanded from the latents at each step.
    #[arg(long, conflicts_with = "absorbed")]
    pub naive: bool,
    /// Attend over the latents, kv_b absorbed; without either flag the prompt is expanded and
    /// decoding absorbed.
    #[arg(long)]
    pub absorbed: bool,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Spread the routed experts over devices, the busiest more than once, as a file of
    /// `plan experts --out` says.
    #[arg(long, value_name = "FILE")]
    pub expert_placement: Option<PathBuf>,
    /// A device for each GPU of --expert-placement; the first is the model's own, in place of
    /// --device, and the last serves the GPUs that are left. Without it all are --device.
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', value_parser = parse_device)]
    #[arg(requires = "expert_placement", conflicts_with = "device")]
    pub devices: Vec<DeviceChoice>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

impl GenerateArgs {
    /// Which weights to generate with.
    pub fn weights(&self) -> Weights {
        if self.ema { Weights::Average } else { Weights::Trained }
    }

    /// The form of MLA to decode with.
    pub fn attention_form(&self) -> AttentionForm {
        match (self.naive, self.absorbed) {
            (true, _) => AttentionForm::Expanded,
            (_, true) => AttentionForm::Absorbed,
            _ => AttentionForm::Auto,
        }
    }
}
