//! The commands of `deepseek`: what each does between its arguments and its results.

pub mod bench;
pub mod check;
pub mod compare_precision;
pub mod eval;
pub mod generate;
pub mod plan;
pub mod train;
pub mod worker;

mod svg;

use std::io::Write;

use anyhow::Context;
use burn_train::Interrupter;

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
        Self { results, interrupted: false }
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
        Command::ComparePrecision(args) => compare_precision::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Worker(args) => worker::run(args),
    }
}

/// Ctrl-C and SIGTERM ask `interrupter` to stop, and `notice` is printed; a second one ends the
/// program at once.
fn stop_on_signals(interrupter: &Interrupter, notice: &'static str) -> anyhow::Result<()> {
    let interrupter = interrupter.clone();
    ctrlc::set_handler(move || {
        if interrupter.should_stop() {
            std::process::exit(i32::from(crate::exit::INTERRUPTED));
        }
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{notice}");
        interrupter.stop(Some("interrupted by a signal"));
    })
    .context("cannot listen for Ctrl-C")
}
