//! How a command ends: its results as JSON, or one clear line, and an exit code that says whose
//! mistake it was.

use crate::failure::{Blame, Failure, Result, blamed, line_of};
use crate::stdout::{write_json, write_stderr_line};

/// Everything went well.
pub const OK: u8 = 0;
/// What was given is wrong: the command line, settings, or a file, wherever it is met.
pub const USAGE: u8 = 2;
/// Something failed while it ran, and what was given was right: a full disk, a device, a worker, a
/// training that diverged.
pub const FAILURE: u8 = 3;
/// Stopped by Ctrl-C, as shells say it.
pub const INTERRUPTED: u8 = 130;

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

/// Something that was looked at is at fault: the command did its work, and its results say what it
/// found.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct FaultFound {
    /// What is at fault, on one line.
    pub line: String,
    /// The JSON object that `--json` prints as the last line, beside the error.
    pub results: serde_json::Value,
}

blamed!(User: FaultFound);

/// The exit code of a failure.
pub fn code_of(failure: &Failure) -> u8 {
    match failure.blame() {
        Blame::User => USAGE,
        Blame::Run => FAILURE,
    }
}

/// Prints what `result` has to say, on standard output where `json`, and gives its exit code.
pub fn report(result: Result<Outcome>, json: bool) -> u8 {
    let (code, object) = match result {
        Ok(outcome) => (if outcome.interrupted { INTERRUPTED } else { OK }, outcome.results),
        Err(failure) => {
            let (code, line) = (code_of(&failure), line_of(&failure));
            write_stderr_line(&format!("error: {line}"));
            let found = failure.downcast_ref::<FaultFound>();
            let mut object = found.map_or_else(|| serde_json::json!({}), |f| f.results.clone());
            object["error"] = line.into();
            object["exit_code"] = code.into();
            (code, object)
        }
    };
    if json { tell(&object, code) } else { code }
}

/// The exit code of a command line that is wrong, which is told already; with `json` to programs
/// too.
pub fn refuse(problem: &str, json: bool) -> u8 {
    let object = serde_json::json!({ "error": problem, "exit_code": USAGE });
    if json { tell(&object, USAGE) } else { USAGE }
}

/// Prints an object on standard output; the exit code is then `code`.
fn tell(object: &serde_json::Value, code: u8) -> u8 {
    if let Err(failure) = write_json(object) {
        write_stderr_line(&format!("error: {}", line_of(&failure)));
        return FAILURE;
    }
    code
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
    fn a_list_in_a_failure_keeps_its_lines() {
        let failure = Failure::new("2 are wrong:\n  - a\n  - b").context("folder");
        assert_eq!(line_of(&failure), "folder: 2 are wrong:\n  - a\n  - b");
    }

    #[test]
    fn a_cause_that_is_already_quoted_is_not_said_twice() {
        let failure = Failure::new("disk full").context("a.bin: disk full");
        assert_eq!(line_of(&failure), "a.bin: disk full");
    }
}
