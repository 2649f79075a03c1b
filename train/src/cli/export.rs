//! Arguments of `export`: which model is written where, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::parse_bytes;
use crate::checkpoint::Weights;

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// A run's folder (its newest checkpoint), one checkpoint, or a Hugging Face model's folder.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub checkpoint: PathBuf,
    /// Of a run's folder the checkpoint with the least validation loss instead of the newest.
    #[arg(long)]
    pub best: bool,
    /// Folder to make; one that is there must be empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Type of the weights. With fp8 embedding, head, norms and routers are bf16.
    #[arg(long, value_enum, default_value_t = ExportDType::Bf16)]
    pub dtype: ExportDType,
    /// Scales of fp8: any f32, or powers of two; without it as the model has them, or f32.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub scale_format: Option<ExportScales>,
    /// The running average of the weights (see `[ema]`) instead of the weights.
    #[arg(long)]
    pub ema: bool,
    /// Most bytes of weights in one file, as in 500MB or 5GiB.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_bytes)]
    pub max_shard_size: u64,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Type of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportDType {
    /// 32 bits: nothing of a run's weights is lost.
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with more digits, up to 65504.
    F16,
    /// 8 bits with a scale for each block of 128 x 128.
    Fp8,
}

/// Format of FP8 scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportScales {
    /// Each block's largest magnitude over 448.
    F32,
    /// The power of two at or above that.
    Ue8m0,
}

impl ExportArgs {
    /// Which weights to write.
    pub fn weights(&self) -> Weights {
        if self.ema { Weights::Average } else { Weights::Trained }
    }
}
