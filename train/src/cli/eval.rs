//! Arguments of `eval`: which checkpoint is measured on which data.

use std::path::PathBuf;

use clap::Args;

use super::values::{parse_device, parse_format, parse_positive, parse_positive_size};
use crate::checkpoint::Weights;
use crate::config::Format;
use crate::device::DeviceChoice;

/// Arguments of `eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// A run's folder (its newest checkpoint), one checkpoint, or a Hugging Face model's folder.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub checkpoint: PathBuf,
    /// Of a run's folder the checkpoint with the least validation loss instead of the newest.
    #[arg(long)]
    pub best: bool,
    /// Files of text, or folders of them, instead of the run's held-out data; a Hugging Face model
    /// needs them.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Make the tokens of the data anew and keep none, instead of taking those that an earlier start
    /// kept.
    #[arg(long)]
    pub no_cache: bool,
    /// Micro-batches to take at most; without it all of the data. Also as in 1K.
    #[arg(long, value_parser = parse_positive)]
    pub batches: Option<u64>,
    /// Tokens a window; without it as many as the run trained on, or at most 2048.
    #[arg(long, value_name = "TOKENS", value_parser = parse_positive_size)]
    pub seq_len: Option<usize>,
    /// Windows a micro-batch; without it the run's, or one.
    #[arg(long, value_name = "WINDOWS", value_parser = parse_positive_size)]
    pub micro_batch: Option<usize>,
    /// The running average of the weights (see `[ema]`) instead of the weights.
    #[arg(long)]
    pub ema: bool,
    /// Write how many tokens chose each expert, for `plan experts`.
    #[arg(long, value_name = "FILE")]
    pub expert_loads: Option<PathBuf>,
    /// Take the experts of every token from a file of `eval --save-routing` instead of choosing
    /// them; gate values are computed as always.
    #[arg(long, value_name = "FILE")]
    pub routing: Option<PathBuf>,
    /// Save which experts every token had.
    #[arg(long, value_name = "FILE")]
    pub save_routing: Option<PathBuf>,
    /// Compute in this format instead of the run's: f32, bf16, fp8.
    #[arg(long, value_parser = parse_format)]
    pub format: Option<Format>,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

impl EvalArgs {
    /// Which weights to measure.
    pub fn weights(&self) -> Weights {
        if self.ema { Weights::Average } else { Weights::Trained }
    }
}
