//! Arguments of `bench`: what is timed, how often and where.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{parse_device, parse_positive, parse_positive_size, parse_size};
use super::{ConfigArgs, help};
use crate::device::DeviceChoice;

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to time.
    #[command(subcommand)]
    pub target: BenchTarget,
}

/// What `bench` times; each has a command line of its own.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchTarget {
    /// Time whole training steps: forward, backward, optimizer.
    #[command(long_about = help::BENCH_TRAIN)]
    Train(BenchTrainArgs),
    /// Time training steps of growing length, experts, depth, width, micro-batch and ranks.
    #[command(long_about = help::BENCH_SCALE)]
    Scale(BenchScalingArgs),
    /// Time prefill of 512 tokens and decoding of 64.
    #[command(long_about = help::BENCH_GENERATE)]
    Generate(BenchModelArgs),
    /// Time FP8 casts and products, each beside Burn's own.
    #[command(long_about = help::BENCH_KERNELS)]
    Kernels(BenchOperationArgs),
    /// Time rows to experts on other ranks and back, each step beside a copy of as many bytes.
    #[command(long_about = help::BENCH_DISPATCH)]
    Dispatch(BenchOperationArgs),
    /// Time the way between ranks, as threads or processes, and what `plan cluster` needs of a
    /// machine.
    #[command(long_about = help::BENCH_LINKS)]
    Links(BenchLinksArgs),
}

impl BenchTarget {
    /// Whether the last line of standard output is to be a JSON object.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Train(args) => args.model.timing.json,
            Self::Generate(args) => args.timing.json,
            Self::Scale(args) => args.timing.json,
            Self::Kernels(args) | Self::Dispatch(args) => args.timing.json,
            Self::Links(args) => args.timing.json,
        }
    }
}

/// How often something is timed, where, and how that is told.
#[derive(Clone, Debug, Args)]
pub struct TimingArgs {
    /// Repetitions that count; without it 5, of kernels, dispatch and links 15, of scale 3.
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub reps: Option<u64>,
    /// Repetitions before those.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_size)]
    pub warmup: usize,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench train` and `bench generate`.
#[derive(Clone, Debug, Args)]
pub struct BenchModelArgs {
    /// Set one value over the setting, as TOML; repeatable. What is timed then compares with
    /// nothing else.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Compose every operation of Burn's own: what the fused ones are compared with, in F32.
    #[arg(long)]
    pub composed: bool,
    /// How often and where.
    #[command(flatten)]
    pub timing: TimingArgs,
}

/// Arguments of `bench train`.
#[derive(Clone, Debug, Args)]
pub struct BenchTrainArgs {
    /// What is timed, how often and where.
    #[command(flatten)]
    pub model: BenchModelArgs,
    /// Time the same with this value too, step by step in turn, and say the ratio; repeatable,
    /// each for one value.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub beside: Vec<String>,
}

/// Arguments of `bench links`.
#[derive(Clone, Debug, Args)]
pub struct BenchLinksArgs {
    /// The run whose rows, layers and precision are measured; its `[parallel]` is left alone.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ranks on threads; where mpirun or srun has started several processes, each of those is one.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_positive_size)]
    pub ranks: usize,
    /// Consecutive ranks that count as a node; without it those of one machine.
    #[arg(long, value_name = "N", value_parser = parse_positive_size)]
    pub ranks_per_node: Option<usize>,
    /// Write what was measured as a cluster's file, for `plan cluster`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How often and where.
    #[command(flatten)]
    pub timing: TimingArgs,
}

/// What grows along a table of `bench scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScaleAxis {
    /// Sequences of 256 to 8192 tokens, as many tokens a step.
    Seq,
    /// One sequence of 256 to 8192 tokens.
    SeqOne,
    /// 8 to 256 routed experts, as many of them a token.
    Experts,
    /// 2 to 32 layers.
    Depth,
    /// A hidden size of 128 to 1024, all else of a layer in proportion.
    Width,
    /// 1 to 16 sequences at once, as many a step.
    MicroBatch,
    /// Two ranks, as a pipeline and with shared experts, beside one device.
    Ranks,
}

impl ScaleAxis {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::SeqOne => "seq-one",
            Self::Experts => "experts",
            Self::Depth => "depth",
            Self::Width => "width",
            Self::MicroBatch => "micro-batch",
            Self::Ranks => "ranks",
        }
    }
}

/// Arguments of `bench scale`.
#[derive(Clone, Debug, Args)]
pub struct BenchScalingArgs {
    /// What grows, separated by commas; without it everything.
    #[arg(long = "axis", value_name = "AXIS,..", value_delimiter = ',', num_args = 1)]
    pub axis: Vec<ScaleAxis>,
    /// The largest value of every axis; those above are left out.
    #[arg(long, value_name = "N", value_parser = parse_positive_size)]
    pub max: Option<usize>,
    /// Set one value over the setting, as TOML; repeatable. What an axis sets goes above it.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// How often and where.
    #[command(flatten)]
    pub timing: TimingArgs,
}

impl BenchScalingArgs {
    /// The axes, each once.
    pub fn axes(&self) -> Vec<ScaleAxis> {
        let asked = |axis: &ScaleAxis| self.axis.is_empty() || self.axis.contains(axis);
        ScaleAxis::value_variants().iter().copied().filter(asked).collect()
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

/// Arguments of `bench kernels` and `bench dispatch`.
#[derive(Clone, Debug, Args)]
pub struct BenchOperationArgs {
    /// Size of the shapes; without it what suits the device.
    #[arg(long)]
    pub scale: Option<BenchScale>,
    /// Take only the kernels or steps whose name contains this, as in "fprop 1024x1024x1024" or
    /// "pack fp8".
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// How often and where.
    #[command(flatten)]
    pub timing: TimingArgs,
}
