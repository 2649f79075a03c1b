//! The commands of `deepseek`: what each does between its arguments and its results.

pub mod bench;
pub mod check;
pub mod compare_precision;
pub mod eval;
pub mod export;
pub mod generate;
pub mod plan;
pub mod train;
pub mod worker;

mod digits;
mod model_folder;
mod source;
mod svg;

use std::io::Write;

use burn_train::Interrupter;

use crate::cli::Command;
use crate::exit::Outcome;
use crate::failure::{Context, Result};

/// Runs a command.
///
/// # Errors
/// Whatever stops it; [`exit::code_of`](crate::exit::code_of) says whose mistake it was.
pub fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Export(args) => export::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
        Command::ComparePrecision(args) => compare_precision::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Worker(args) => worker::run(args),
    }
}

/// Ctrl-C and SIGTERM ask `interrupter` to stop, and `notice` is printed; a second one ends the
/// program at once.
fn stop_on_signals(interrupter: &Interrupter, notice: &'static str) -> Result<()> {
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
