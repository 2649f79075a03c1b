//! The commands of `deepseek`: what each does between its arguments and its results.

pub mod bench;
pub mod check;
pub mod eval;
pub mod generate;
pub mod train;

use crate::cli::Command;

/// What a command has to say at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The JSON object that `--json` prints as the last line.
    pub results: serde_json::Value,
    /// Whether Ctrl-C ended it early: exit code 130.
    pub interrupted: bool,
}

impl Outcome {
    /// A command that came to its end.
    pub fn done(results: serde_json::Value) -> Self {
        Self {
            results,
            interrupted: false,
        }
    }
}

/// Runs a command.
///
/// # Errors
/// Whatever stops it; [`exit::code_of`](crate::exit::code_of) says whose mistake it was.
pub fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
