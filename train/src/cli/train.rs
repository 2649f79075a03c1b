//! Arguments of `train`: what is trained, where, and for how long.

use std::path::PathBuf;

use clap::Args;

use super::values::{parse_device, parse_positive};
use super::{ConfigArgs, TokenArgs};
use crate::config::ConfigRequest;
use crate::device::DeviceChoice;

/// Arguments of `train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Files of text, or folders of them, to train on, instead of the configuration's data.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Make the tokens of the data anew and keep none, instead of taking those that an earlier start
    /// kept.
    #[arg(long)]
    pub no_cache: bool,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu, `ws://host:3000` that of a `deepseek worker`.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// A device for each rank of section `parallel`, in the order of the ranks; the last serves the
    /// ranks that are left. Without it all ranks share --device.
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', value_parser = parse_device)]
    pub devices: Vec<DeviceChoice>,
    /// File that names the workers on whose devices the ranks are, instead of --devices: see
    /// docs/src/distributed.md.
    #[arg(long, value_name = "FILE", conflicts_with = "devices")]
    pub cluster: Option<PathBuf>,
    /// The token that workers ask for.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Write the timeline of the last step of a run over several ranks, for Perfetto or
    /// chrome://tracing.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Take the experts of every token from a file of `train --save-routing` instead of choosing
    /// them; gate values are computed as always.
    #[arg(long, value_name = "FILE")]
    pub routing: Option<PathBuf>,
    /// Save which experts every token had, in training and in evaluations; a run that is resumed
    /// goes on with its file.
    #[arg(long, value_name = "FILE")]
    pub save_routing: Option<PathBuf>,
    /// Go on from the newest checkpoint of a run's folder, or from one checkpoint; without a value,
    /// from the newest run.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Go on with --resume where the text is not what it was when the checkpoint was saved.
    #[arg(long, requires = "resume")]
    pub allow_changed_data: bool,
    /// Folder of this run, instead of a new one under output.dir.
    #[arg(long, value_name = "PATH")]
    pub run_dir: Option<PathBuf>,
    /// Optimizer steps to train, instead of the configuration's budget; also as in 2K.
    #[arg(long, conflicts_with = "tokens", value_parser = parse_positive)]
    pub steps: Option<u64>,
    /// Tokens to train, rounded down to whole steps, instead of the configuration's budget; also as
    /// in 1.5M.
    #[arg(long, value_parser = parse_positive)]
    pub tokens: Option<u64>,
    /// Train even where the estimate says that memory does not suffice.
    #[arg(long)]
    pub allow_oversize: bool,
    /// Show the run, and others beside it, in a browser while it is trained, at 127.0.0.1:6007 or
    /// another address; see `deepseek dashboard`.
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1)]
    #[arg(default_missing_value = "127.0.0.1:6007")]
    pub dashboard: Option<String>,
    /// File whose first line is the token that the dashboard asks for.
    #[arg(long, value_name = "PATH", requires = "dashboard")]
    #[arg(conflicts_with = "dashboard_token_env")]
    pub dashboard_token_file: Option<PathBuf>,
    /// Environment variable that holds the token that the dashboard asks for.
    #[arg(long, value_name = "NAME", requires = "dashboard")]
    pub dashboard_token_env: Option<String>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
    /// Plain lines of progress even on a terminal, instead of the view.
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
