//! The commands of `deepseek`: what each does between its arguments and its results.

pub mod bench;
pub mod check;
pub mod compare_precision;
pub mod dashboard;
pub mod eval;
pub mod export;
pub mod generate;
pub mod inspect;
pub mod plan;
pub mod report;
pub mod runs;
pub mod shell;
pub mod train;
pub mod worker;

mod facts;
mod new_folder;
mod preparation;
mod products;
mod routing_files;
mod smoothing;
mod svg;

use std::borrow::Cow;
use std::process::ExitCode;

use burn_deepseek::backend::GemmPath;

use crate::cli::{Command, Refused};
use crate::exit::{self, Outcome};
use crate::failure::{Result, UsageError};
use crate::signals::Signals;
use crate::stdout::write_stderr_line;
use crate::visible::visible;

/// Runs a command; Ctrl-C and SIGTERM end it at once, unless it guards something.
///
/// # Errors
/// Whatever stops it; [`exit::code_of`] says whose mistake it was.
pub fn run(command: Command) -> Result<Outcome> {
    let signals = Signals::listen(command.wants_json())?;
    // Before the threads are there that compute: only then may they use a processor's tiles.
    GemmPath::choice().map_err(|error| UsageError(error.to_string()))?;
    match command {
        Command::Train(args) => train::run(args, &signals),
        Command::Eval(args) => eval::run(args, &signals),
        Command::Generate(args) => generate::run(args, &signals),
        Command::Inspect(args) => inspect::run(&args),
        Command::Export(args) => export::run(args, &signals),
        Command::Check(args) => check::run(args, &signals),
        Command::Bench(args) => bench::run(args, &signals),
        Command::ComparePrecision(args) => compare_precision::run(args, &signals),
        Command::Plan(args) => plan::run(args),
        Command::Worker(args) => worker::run(args, &signals),
        Command::Dashboard(args) => dashboard::run(args, &signals),
        Command::Runs(args) => runs::run(args, &signals),
        Command::Report(args) => report::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    }
}

/// Prints what was asked for of the command line, or what is wrong with it.
pub fn refuse(refused: &Refused) -> ExitCode {
    // What was typed may come from a name of a file. Where nobody reads it there is nobody to tell.
    let text = refused.error.render().to_string();
    match visible(&text) {
        Cow::Borrowed(_) => drop(refused.error.print()),
        Cow::Owned(text) => write_stderr_line(text.trim_end()),
    }
    if refused.is_asked_for() {
        return ExitCode::from(exit::OK);
    }
    ExitCode::from(exit::refuse(&refused.problem, refused.json))
}
