//! Arguments of `check`: which configuration or model is looked at.

use std::path::PathBuf;

use clap::Args;

use super::ConfigArgs;

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
    /// A folder with a model: whether it holds what it says, without loading it.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "preset", "hugging_face", "set"])]
    pub checkpoint: Option<PathBuf>,
    /// With --checkpoint: read every value too, for NaN and blocks of zeros; of a run's checkpoint
    /// every file, for its checksum.
    #[arg(long, requires = "checkpoint")]
    pub deep: bool,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}
