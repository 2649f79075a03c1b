//! Arguments of `plan`: what can be worked out on paper, before anything runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{parse_size, parse_time};
use super::{ConfigArgs, help};
use crate::config::embedded::DEFAULT_CLUSTER;
use crate::parallel::PipelineScheduleKind;

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// What to plan.
    #[command(subcommand)]
    pub target: PlanTarget,
}

/// What can be planned; each has a command line of its own.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanTarget {
    /// Draw a pipeline's schedule: who does what when, idle time, activations.
    #[command(long_about = help::PLAN_SCHEDULE)]
    Schedule(PlanScheduleArgs),
    /// Reckon memory, traffic, time and GPU hours of a run on a cluster.
    #[command(long_about = help::PLAN_CLUSTER)]
    Cluster(PlanClusterArgs),
    /// Place experts on GPUs, the busiest more than once, by the loads that were measured.
    #[command(long_about = help::PLAN_EXPERTS)]
    Experts(PlanExpertsArgs),
}

impl PlanTarget {
    /// Whether the last line of standard output is to be a JSON object.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Schedule(args) => args.json,
            Self::Cluster(args) => args.json,
            Self::Experts(args) => args.json,
        }
    }
}

/// Arguments of `plan schedule`.
#[derive(Clone, Debug, Args)]
pub struct PlanScheduleArgs {
    /// The schedule: dualpipe, dualpipev, 1f1b, zb1p.
    #[arg(long, default_value_t = PipelineScheduleKind::DualPipe)]
    pub kind: PipelineScheduleKind,
    /// Ranks of the pipeline.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub ranks: usize,
    /// Micro-batches of a step; of dualpipe those of both directions together.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub chunks: usize,
    /// Time of a forward chunk, F.
    #[arg(long, value_name = "TIME", default_value_t = 1.0, value_parser = parse_time)]
    pub forward: f64,
    /// Time of the part of a backward chunk that gives the gradient of its input. A whole backward
    /// chunk B takes this and --weight.
    #[arg(long, value_name = "TIME", default_value_t = 1.0, value_parser = parse_time)]
    pub backward_input: f64,
    /// Time of a chunk's weight gradients, W.
    #[arg(long, value_name = "TIME", default_value_t = 1.0, value_parser = parse_time)]
    pub weight: f64,
    /// Time of a forward and a backward chunk overlapped, F&B; without it that of one after the
    /// other.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub overlapped: Option<f64>,
    /// Time that a message takes from one rank to the next.
    #[arg(long, value_name = "TIME", default_value_t = 0.0, value_parser = parse_time)]
    pub communication: f64,
    /// Columns of the timeline in the terminal; without it those that the terminal has, or 80.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..))]
    pub width: Option<u16>,
    /// Draw the timeline as an SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the timeline for Perfetto or chrome://tracing; a unit of time is a millisecond there.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan cluster`.
#[derive(Clone, Debug, Args)]
pub struct PlanClusterArgs {
    /// A run instead of a model alone; `--set` lays values over it and over the cluster's file,
    /// whose sections are gpu, node, link, rates, plan.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A model alone: the name of a preset, or the path of a model file. Without it and --config:
    /// deepseek-v3-671b.
    #[arg(long, value_name = "NAME|PATH", conflicts_with = "config")]
    pub preset: Option<String>,
    /// The cluster's file (TOML), or the name of a built-in one: h800-2048, gpu-8, h100-1,
    /// cpu-2, two-machines.
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_CLUSTER)]
    pub cluster: String,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan experts`.
#[derive(Clone, Debug, Args)]
pub struct PlanExpertsArgs {
    /// A run's folder (the loads of its last evaluation), or a file that `eval --expert-loads`
    /// wrote.
    #[arg(long, value_name = "RUN_DIR|FILE")]
    pub loads: PathBuf,
    /// Places for the experts of a layer, on all GPUs together.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub replicas: usize,
    /// GPUs that share the experts of a layer.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub gpus: usize,
    /// Nodes that these GPUs are in.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_size)]
    pub nodes: usize,
    /// Groups of experts that are to stay on one node, where nodes divide their number; without it
    /// those of the model, where that is known, else 1.
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub groups: Option<usize>,
    /// Part replicas of one expert that the placement has on one GPU, by swaps within a node,
    /// wherever they can be parted.
    #[arg(long)]
    pub distinct: bool,
    /// Write the results, maps and all, for `generate --expert-placement`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}
