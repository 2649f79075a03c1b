//! Arguments of `runs`: which runs, and what is done with them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::help;

/// Arguments of `runs`.
#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    /// What to do with runs.
    #[command(subcommand)]
    pub target: RunsTarget,
}

/// What is done with runs.
#[derive(Clone, Debug, Subcommand)]
pub enum RunsTarget {
    /// List runs: how far each is, its losses, speed, alerts and tags.
    #[command(long_about = help::RUNS_LIST)]
    List(RunsListArgs),
    /// Show what is known of a run, without loading its model.
    #[command(long_about = help::RUNS_SHOW)]
    Show(RunArgs),
    /// Watch a run as it is trained, in the terminal; a run that has ended as it was.
    #[command(long_about = help::RUNS_WATCH)]
    Watch(RunsWatchArgs),
    /// Lay runs beside each other: in what they differ, and what came of it.
    #[command(long_about = help::RUNS_COMPARE)]
    Compare(RunsCompareArgs),
    /// Write a run's record for other programs: as CSV, as Parquet, for TensorBoard.
    #[command(long_about = help::RUNS_EXPORT)]
    Export(RunsExportArgs),
    /// Add tags to a run, or take them away.
    #[command(long_about = help::RUNS_TAG)]
    Tag(RunsTagArgs),
    /// Write a note on a run; an empty one removes it.
    #[command(long_about = help::RUNS_NOTE)]
    Note(RunsNoteArgs),
    /// Leave a run out of lists.
    #[command(long_about = help::RUNS_ARCHIVE)]
    Archive(RunsArchiveArgs),
    /// Delete a run's folder with all that is in it.
    #[command(long_about = help::RUNS_DELETE)]
    Delete(RunsDeleteArgs),
}

impl RunsTarget {
    /// Whether the last line of standard output is to be a JSON object.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.json,
            Self::Show(args) => args.json,
            Self::Watch(args) => args.run.json,
            Self::Compare(args) => args.json,
            Self::Export(args) => args.run.json,
            Self::Tag(args) => args.run.json,
            Self::Note(args) => args.run.json,
            Self::Archive(args) => args.run.json,
            Self::Delete(args) => args.run.json,
        }
    }
}

/// A run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Folder of the run.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Print the results as a JSON object on the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RunsOrder {
    /// The names of the folders.
    #[default]
    Name,
    /// The last line of the record, the newest first.
    Newest,
    /// The last validation loss, the least first.
    Valid,
    /// The speed of the last step, the fastest first.
    Speed,
}

/// Arguments of `runs list`.
#[derive(Clone, Debug, Args)]
pub struct RunsListArgs {
    /// Folders to look for runs in, and below.
    #[arg(value_name = "FOLDER", default_value = "runs")]
    pub folders: Vec<PathBuf>,
    /// Only runs with this tag; repeatable.
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// What they are sorted by.
    #[arg(long, value_enum, value_name = "ORDER", default_value_t)]
    pub sort: RunsOrder,
    /// With the archived ones.
    #[arg(long)]
    pub all: bool,
    /// Print the results as a JSON object on the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `runs watch`.
#[derive(Clone, Debug, Args)]
pub struct RunsWatchArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Plain lines of progress even on a terminal, until the run is no longer trained.
    #[arg(long)]
    pub plain: bool,
}

/// Arguments of `runs compare`.
#[derive(Clone, Debug, Args)]
pub struct RunsCompareArgs {
    /// Folders of the runs, or folders with runs in them.
    #[arg(value_name = "FOLDER", required = true)]
    pub folders: Vec<PathBuf>,
    /// Print the results as a JSON object on the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

/// Which lines of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecordKind {
    /// Optimizer steps.
    #[default]
    Step,
    /// Measures of the held-out windows.
    Evaluation,
    /// Text of the model.
    Sample,
    /// Alerts.
    Alert,
    /// What the machine had to give.
    System,
}

/// Arguments of `runs export`.
#[derive(Clone, Debug, Args)]
pub struct RunsExportArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// File to write, which must not be there; its name ends in .csv or .parquet.
    #[arg(long, value_name = "FILE", required_unless_present = "tensorboard")]
    pub out: Option<PathBuf>,
    /// Which lines go to --out.
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub kind: RecordKind,
    /// Folder for TensorBoard's event files; one that is there must be empty.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "kind"])]
    pub tensorboard: Option<PathBuf>,
}

/// Arguments of `runs tag`.
#[derive(Clone, Debug, Args)]
pub struct RunsTagArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Tags: words without spaces.
    #[arg(value_name = "TAG", required = true)]
    pub tags: Vec<String>,
    /// Take them away instead.
    #[arg(long)]
    pub remove: bool,
}

/// Arguments of `runs note`.
#[derive(Clone, Debug, Args)]
pub struct RunsNoteArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The note.
    #[arg(value_name = "TEXT")]
    pub text: String,
}

/// Arguments of `runs archive`.
#[derive(Clone, Debug, Args)]
pub struct RunsArchiveArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Have lists show it again.
    #[arg(long)]
    pub undo: bool,
}

/// Arguments of `runs delete`.
#[derive(Clone, Debug, Args)]
pub struct RunsDeleteArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Yes, delete it; without this the command only says what it would delete.
    #[arg(long)]
    pub yes: bool,
}
