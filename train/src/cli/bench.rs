//! Arguments of `bench`: what is timed, how often and where.

use clap::{Args, ValueEnum};

use super::values::parse_device;
use crate::device::DeviceChoice;

/// What `bench` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchTarget {
    /// Whole training steps: forward, backward, optimizer.
    Train,
    /// Prefill of 512 tokens and decoding of 64.
    Generate,
    /// FP8 casts and products, each beside Burn's own.
    Kernels,
    /// Rows to experts on other ranks and back, each step beside a copy of as many bytes.
    Dispatch,
}

impl BenchTarget {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Generate => "generate",
            Self::Kernels => "kernels",
            Self::Dispatch => "dispatch",
        }
    }

    /// Whether it times single operations over shapes of their own, not a model's.
    pub fn is_of_kernels(self) -> bool {
        matches!(self, Self::Kernels | Self::Dispatch)
    }
}

/// How large the shapes of `bench kernels` and `bench dispatch` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchScale {
    /// DeepSeek-V3's own, with 4096 rows or tokens.
    Gpu,
    /// A quarter of their width and depth, with 512 rows or tokens.
    Cpu,
}

impl BenchScale {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        }
    }
}

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to time.
    pub target: BenchTarget,
    /// Repetitions that count; without it 5, of kernels and dispatch 15.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: Option<u32>,
    /// Repetitions before those.
    #[arg(long, default_value_t = 2)]
    pub warmup: u32,
    /// Set one value over the setting, as TOML; repeatable. What is timed then compares with
    /// nothing else.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Size of the kernels' shapes; without it what suits the device.
    #[arg(long)]
    pub scale: Option<BenchScale>,
    /// Take only the kernels or steps whose name contains this, as in "fprop 1024x1024x1024" or
    /// "pack fp8".
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}
