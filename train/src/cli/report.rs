//! Arguments of `report`: which runs, and where to.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Folders of the runs, or folders with runs in them.
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder for report.md and its pictures; one that is there must be empty.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// File for all of it on one page, which must not be there.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write over what an earlier report has left there.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}
