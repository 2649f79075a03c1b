//! How a command ends: its results as JSON, or one clear line, and an exit code that says whose
//! mistake it was.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::failure::{Blame, Failure, Result};
use crate::stdout::write_stdout;

/// Everything went well.
pub const OK: u8 = 0;
/// The command line, the configuration or the data is wrong.
pub const USAGE: u8 = 2;
/// The run failed: input and output, a corrupt checkpoint, a full disk.
pub const FAILURE: u8 = 3;
/// Stopped by Ctrl-C, as shells say it.
pub const INTERRUPTED: u8 = 130;

/// Ends the program at once, before a command has begun with what could be lost.
pub fn interrupted(json: bool) -> ! {
    let problem = "interrupted before anything was begun";
    // On a terminal the line may hold a drawing of progress.
    let begin = if std::io::stderr().is_terminal() { "\n" } else { "" };
    let _ = writeln!(std::io::stderr(), "{begin}{problem}");
    if json {
        let object = serde_json::json!({ "error": problem, "exit_code": INTERRUPTED });
        let _ = write_stdout(&format!("{object}\n"));
    }
    std::process::exit(i32::from(INTERRUPTED))
}

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

/// The exit code of a failure.
pub fn code_of(failure: &Failure) -> u8 {
    match failure.blame() {
        Blame::User => USAGE,
        Blame::Run => FAILURE,
    }
}

/// The failure and its causes on one line, joined by `: `.
pub fn line_of(failure: &Failure) -> String {
    let mut line = String::new();
    for cause in failure.chain() {
        let text = cause.to_string();
        let text = text
            .lines()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        // Some errors already quote their cause.
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

/// Prints what `result` has to say, on standard output where `json`, and gives its exit code.
pub fn report(result: Result<Outcome>, json: bool) -> ExitCode {
    let (code, object) = match result {
        Ok(outcome) => (if outcome.interrupted { INTERRUPTED } else { OK }, outcome.results),
        Err(failure) => {
            let (code, line) = (code_of(&failure), line_of(&failure));
            // Nobody is left to tell where standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {line}");
            (code, serde_json::json!({ "error": line, "exit_code": code }))
        }
    };
    if json && let Err(failure) = write_stdout(&format!("{object}\n")) {
        let _ = writeln!(std::io::stderr(), "error: {}", line_of(&failure));
        return ExitCode::from(FAILURE);
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Context, UsageError};

    #[test]
    fn mistakes_of_the_user_are_2_and_failures_are_3() {
        let usage = Err::<(), _>(UsageError("no".into())).context("while starting").unwrap_err();
        assert_eq!(code_of(&usage), USAGE);
        let device: Failure = "gpu".parse::<crate::device::DeviceChoice>().unwrap_err().into();
        assert_eq!(code_of(&device), USAGE);
        let disk = Failure::from(std::io::Error::other("disk full")).context("runs/a");
        assert_eq!(code_of(&disk), FAILURE);
    }

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new("bottom\n  of it").context("middle").context("top\n");
        assert_eq!(line_of(&failure), "top: middle: bottom of it");
    }

    #[test]
    fn a_cause_that_is_already_quoted_is_not_said_twice() {
        let failure = Failure::new("disk full").context("a.bin: disk full");
        assert_eq!(line_of(&failure), "a.bin: disk full");
    }
}
