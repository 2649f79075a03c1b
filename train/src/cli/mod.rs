//! The command line of `deepseek`, its help included.

mod bench;
mod check;
mod compare_precision;
mod dashboard;
mod eval;
mod export;
mod generate;
mod help;
mod inspect;
mod parse;
mod plan;
mod report;
mod runs;
mod shell;
#[cfg(test)]
mod tests;
mod tips;
mod train;
mod values;
mod worker;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::device::{Token, TokenError};

pub use bench::{
    BenchArgs, BenchLinksArgs, BenchModelArgs, BenchOperationArgs, BenchScale, BenchScalingArgs,
    BenchTarget, BenchTrainArgs, ScaleAxis, TimingArgs,
};
pub use check::CheckArgs;
pub use compare_precision::{ComparePrecisionArgs, FixedRouting};
pub use dashboard::DashboardArgs;
pub use eval::EvalArgs;
pub use export::{ExportArgs, ExportDType, ExportScales};
pub use generate::GenerateArgs;
pub use inspect::InspectArgs;
pub use parse::{Refused, parse};
pub use plan::{PlanArgs, PlanClusterArgs, PlanExpertsArgs, PlanScheduleArgs, PlanTarget};
pub use report::ReportArgs;
pub use runs::{
    RecordKind, RunArgs, RunsArchiveArgs, RunsArgs, RunsCompareArgs, RunsDeleteArgs,
    RunsExportArgs, RunsListArgs, RunsNoteArgs, RunsOrder, RunsTagArgs, RunsTarget, RunsWatchArgs,
};
pub use shell::{CompletionsArgs, ManArgs};
pub use train::TrainArgs;
pub use worker::WorkerArgs;

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
    /// Look at what a checkpoint makes of a text, token by token and layer by layer.
    #[command(long_about = help::INSPECT)]
    Inspect(InspectArgs),
    /// Write a model for other programs: transformers, vLLM, sglang.
    #[command(long_about = help::EXPORT)]
    Export(ExportArgs),
    /// Print a configuration resolved, its parameter counts and its memory.
    #[command(long_about = help::CHECK)]
    Check(CheckArgs),
    /// Time training, generation, kernels or an exchange of rows.
    #[command(long_about = help::BENCH, arg_required_else_help = true)]
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
    /// Show runs in a browser.
    #[command(long_about = help::DASHBOARD)]
    Dashboard(DashboardArgs),
    /// List, show, watch, compare, export, label and delete runs.
    #[command(long_about = help::RUNS, arg_required_else_help = true)]
    Runs(RunsArgs),
    /// Write a report on runs: curves, tables, samples, configuration.
    #[command(long_about = help::REPORT)]
    Report(ReportArgs),
    /// Print completions for a shell.
    #[command(long_about = help::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command.
    #[command(long_about = help::MAN)]
    Man(ManArgs),
}

impl Command {
    /// Whether the last line of standard output is to be a JSON object.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Train(args) => args.json,
            Self::Eval(args) => args.json,
            Self::Generate(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Export(args) => args.json,
            Self::Check(args) => args.json,
            Self::Bench(args) => args.target.wants_json(),
            Self::ComparePrecision(args) => args.json,
            Self::Plan(args) => args.target.wants_json(),
            Self::Worker(args) => args.json,
            Self::Dashboard(args) => args.json,
            Self::Runs(args) => args.target.wants_json(),
            Self::Report(args) => args.json,
            Self::Completions(_) | Self::Man(_) => false,
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
