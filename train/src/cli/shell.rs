//! Arguments of `completions` and `man`: what shells and manuals want of the command line.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Folder to write a page for each command to, made if it is not there; without it the page of
    /// the program itself is printed.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}
