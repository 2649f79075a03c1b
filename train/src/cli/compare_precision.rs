//! Arguments of `compare-precision`: which run is trained in which precisions.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ConfigArgs;
use super::values::{parse_device, parse_positive};
use crate::device::DeviceChoice;

/// Which runs beside the baseline take its choice of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FixedRouting {
    /// All of them.
    Only,
    /// A second one of each.
    Beside,
}

/// Arguments of `compare-precision`.
#[derive(Clone, Debug, Args)]
pub struct ComparePrecisionArgs {
    /// The configuration; without --config: tiny-text, for 2,000,000 tokens.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Files of text, or folders of them, to train on, instead of the configuration's data.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Make the tokens of the data anew and keep none, instead of taking those that an earlier start
    /// kept.
    #[arg(long)]
    pub no_cache: bool,
    /// Tokens to train in each run, rounded down to whole steps; also as in 40K.
    #[arg(long, value_parser = parse_positive)]
    pub tokens: Option<u64>,
    /// What to compare; the first is the baseline. Known: see above.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "f32,fp8,fp8-14bit,fp8-tensor,fp8-block-gradients"
    )]
    pub runs: Vec<String>,
    /// Replay the baseline's choice of experts in the other runs: only, or beside a run each that
    /// chooses for itself.
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "only")]
    pub fixed_routing: Option<FixedRouting>,
    /// Train every run so many times, with the seed of the weights (with train.init_from that of
    /// the data) one higher each time, and average the losses: what is left is less of a single
    /// run's noise.
    #[arg(long, default_value_t = 1, value_parser = parse_positive)]
    pub seeds: u64,
    /// Folder for the table, the plot and a folder of metrics a run; it must not hold a comparison
    /// already.
    #[arg(long, value_name = "PATH", default_value = "runs/compare-precision")]
    pub out: PathBuf,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}
