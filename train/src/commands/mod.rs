//! The commands of `deepseek`: what each does between its arguments and its results.

pub mod bench;
pub mod check;
pub mod compare_precision;
pub mod eval;
pub mod generate;
pub mod plan;
pub mod train;
pub mod worker;

mod digits;
mod model_folder;
mod preparation;
mod svg;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
        Command::ComparePrecision(args) => compare_precision::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Worker(args) => worker::run(args),
    }
}

/// Whether a command has begun with what would be lost if it ended at once.
#[derive(Clone, Debug, Default)]
struct Begun(Arc<AtomicBool>);

impl Begun {
    /// From now on a signal asks the command to stop.
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// As [`stop_on_signals`] from [`Begun::set`] on; before, where nothing can be lost, a signal ends
/// the program at once.
fn stop_at_once_or_on_signals(
    interrupter: &Interrupter,
    notice: &'static str,
    json: bool,
) -> Result<Begun> {
    let begun = Begun::default();
    let (interrupter, begun_too) = (interrupter.clone(), begun.clone());
    ctrlc::set_handler(move || {
        if !begun.0.load(Ordering::Acquire) {
            crate::exit::interrupted(json);
        }
        stop(&interrupter, notice);
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(begun_too)
}

/// Ctrl-C and SIGTERM ask `interrupter` to stop, and `notice` is printed; a second one ends the
/// program at once.
fn stop_on_signals(interrupter: &Interrupter, notice: &'static str) -> Result<()> {
    let interrupter = interrupter.clone();
    ctrlc::set_handler(move || stop(&interrupter, notice)).context("cannot listen for Ctrl-C")
}

fn stop(interrupter: &Interrupter, notice: &str) {
    if interrupter.should_stop() {
        std::process::exit(i32::from(crate::exit::INTERRUPTED));
    }
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{notice}");
    interrupter.stop(Some("interrupted by a signal"));
}
