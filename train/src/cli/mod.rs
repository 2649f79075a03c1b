//! The command line of `deepseek`, its help included.

mod help;
mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use burn_deepseek::attention::AttentionForm;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::checkpoint::Weights;
use crate::config::ConfigRequest;
use crate::device::{DeviceChoice, DeviceError, Token, TokenError};
use crate::schedule::parse_count;

pub use plan::{PlanArgs, PlanClusterArgs, PlanExpertsArgs, PlanScheduleArgs, PlanTarget};

/// Train, watch, evaluate and sample DeepSeek-V3 models.
#[derive(Debug, Parser)]
#[command(name = "deepseek", version, propagate_version = true, arg_required_else_help = true)]
#[command(long_about = help::DEEPSEEK)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model, or go on training one.
    #[command(long_about = help::TRAIN)]
    Train(TrainArgs),
    /// Measure a checkpoint's loss on held-out or other data.
    #[command(long_about = help::EVAL)]
    Eval(EvalArgs),
    /// Continue a prompt with a trained model.
    #[command(long_about = help::GENERATE)]
    Generate(GenerateArgs),
    /// Print a configuration resolved, its parameter counts and its memory.
    #[command(long_about = help::CHECK)]
    Check(CheckArgs),
    /// Time training, generation, kernels or an exchange of rows.
    #[command(long_about = help::BENCH)]
    Bench(BenchArgs),
    /// Train the same run in several precisions and compare their losses.
    #[command(long_about = help::COMPARE_PRECISION)]
    ComparePrecision(ComparePrecisionArgs),
    /// Work out on paper what a run would be like.
    #[command(long_about = help::PLAN, arg_required_else_help = true)]
    Plan(PlanArgs),
    /// Lend this machine's devices to trainings of other processes and machines.
    #[command(long_about = help::WORKER)]
    Worker(WorkerArgs),
}

impl Command {
    /// Whether the last line of standard output is to be a JSON object.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Train(args) => args.json,
            Self::Eval(args) => args.json,
            Self::Generate(args) => args.json,
            Self::Check(args) => args.json,
            Self::Bench(args) => args.json,
            Self::ComparePrecision(args) => args.json,
            Self::Plan(args) => args.target.wants_json(),
            Self::Worker(args) => args.json,
        }
    }
}

/// Which configuration, and what is laid over it.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Run file (TOML), or the name of a built-in one: quickstart, tiny-text, bench, deepseek-v3,
    /// deepseek-v3-32k, deepseek-v3-128k. Without it: quickstart.
    #[arg(long, value_name = "PATH|NAME")]
    pub config: Option<String>,
    /// Set one value over the configuration, as TOML; repeatable. `none` removes an optional value.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Where the token is that workers ask for. (Not on the command line itself, which every user of a
/// machine can read.)
#[derive(Clone, Debug, Default, Args)]
pub struct TokenArgs {
    /// File whose first line is the token of the workers.
    #[arg(long, value_name = "PATH", conflicts_with = "token_env")]
    pub token_file: Option<PathBuf>,
    /// Environment variable that holds the token of the workers.
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
}

impl TokenArgs {
    /// The token, where one is named.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is empty.
    pub fn token(&self) -> Result<Option<Token>, TokenError> {
        Token::from_either(self.token_file.as_deref(), self.token_env.as_deref())
    }
}

/// Arguments of `worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Where to listen; port 0 takes a free one and says which. Anything but this machine's own
    /// loopback takes a token.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    pub listen: String,
    /// The devices to lend, all of one kind: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm;
    /// `cuda:0,cuda:1` are two.
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', default_value = "auto", value_parser = parse_device)]
    pub device: Vec<DeviceChoice>,
    /// The token to ask for.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Print a JSON object with the address on standard output when listening, and one of results
    /// as the last line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Text files, JSONL files or folders of them to train on, instead of the configuration's data.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu, `ws://host:3000` that of a `deepseek worker`.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// A device for each rank of section `parallel`, in the order of the ranks; the last serves the
    /// ranks that are left. Without it all ranks share --device.
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', value_parser = parse_device)]
    pub devices: Vec<DeviceChoice>,
    /// File that names the workers on whose devices the ranks are, instead of --devices: see
    /// docs/distributed.md.
    #[arg(long, value_name = "FILE", conflicts_with = "devices")]
    pub cluster: Option<PathBuf>,
    /// The token that workers ask for.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Write the timeline of the last step of a run over several ranks, for Perfetto or
    /// chrome://tracing.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Go on from the newest checkpoint of a run's folder, or from one checkpoint; without a value,
    /// from the newest run.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Folder of this run, instead of a new one under output.dir.
    #[arg(long, value_name = "PATH")]
    pub run_dir: Option<PathBuf>,
    /// Optimizer steps to train, instead of the configuration's budget.
    #[arg(long, conflicts_with = "tokens", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Tokens to train, rounded down to whole steps, instead of the configuration's budget; also as
    /// in 1.5M.
    #[arg(long, value_parser = parse_tokens)]
    pub tokens: Option<u64>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
    /// Plain lines of progress even on a terminal, instead of the dashboard.
    #[arg(long)]
    pub plain: bool,
}

impl TrainArgs {
    /// What the arguments say of the configuration.
    pub fn config_request(&self) -> ConfigRequest {
        ConfigRequest {
            config: self.config.config.clone(),
            set: self.config.set.clone(),
            data: self.data.clone(),
            steps: self.steps,
            tokens: self.tokens,
            run_dir: self.run_dir.clone(),
        }
    }
}

/// Arguments of `eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// A run's folder (its newest checkpoint) or one checkpoint.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Text files, JSONL files or folders of them, instead of the run's held-out data.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Micro-batches to take at most; without it all of the data.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub batches: Option<u64>,
    /// The running average of the weights (see `[ema]`) instead of the weights.
    #[arg(long)]
    pub ema: bool,
    /// Write how many tokens chose each expert, for `plan experts`.
    #[arg(long, value_name = "FILE")]
    pub expert_loads: Option<PathBuf>,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// A run's folder (its newest checkpoint), one checkpoint, or a Hugging Face model's folder.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub checkpoint: PathBuf,
    /// Text to continue; may be empty.
    #[arg(long, default_value = "")]
    pub prompt: String,
    /// Tokens to generate at most.
    #[arg(long, default_value_t = 200)]
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
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', value_parser = parse_device, requires = "expert_placement", conflicts_with = "device")]
    pub devices: Vec<DeviceChoice>,
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

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A model alone: the name of a preset, or the path of a model file.
    #[arg(long, value_name = "NAME|PATH", conflicts_with_all = ["config", "hugging_face"])]
    pub preset: Option<String>,
    /// A model alone: a Hugging Face config.json, or the folder that it is in.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub hugging_face: Option<PathBuf>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

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

/// Arguments of `compare-precision`.
#[derive(Clone, Debug, Args)]
pub struct ComparePrecisionArgs {
    /// The configuration; without --config: tiny-text, for 2,000,000 tokens.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Text files, JSONL files or folders of them to train on, instead of the configuration's data.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Tokens to train in each run, rounded down to whole steps.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens: Option<u64>,
    /// What to compare; the first is the baseline. Known: see above.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "f32,fp8,fp8-14bit,fp8-tensor,fp8-block-gradients"
    )]
    pub runs: Vec<String>,
    /// Train every run so many times, with the seed of the weights (with train.init_from that of
    /// the data) one higher each time, and average the losses: what is left is less of a single
    /// run's noise.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
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

fn parse_device(text: &str) -> Result<DeviceChoice, DeviceError> {
    text.parse()
}

fn parse_tokens(text: &str) -> Result<u64, String> {
    parse_count(text).and_then(|tokens| {
        if tokens > 0 { Ok(tokens) } else { Err("it must be at least 1".into()) }
    })
}

fn parse_temperature(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number >= 0.0, "a number of at least 0")
}

fn parse_top_p(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number > 0.0 && number <= 1.0, "a number above 0 and at most 1")
}

fn parse_number(text: &str, right: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && right(number) => Ok(number),
        _ => Err(format!("it must be {expected}")),
    }
}
