//! How a command ends: its results as JSON, or one clear line, and an exit code that says whose
//! mistake it was.

use std::io::Write;
use std::process::ExitCode;

use burn_deepseek::config::ConfigProblems;
use burn_deepseek::generate::GenerateError;

use crate::checkpoint::CheckpointError;
use crate::commands::Outcome;
use crate::config::ConfigError;
use crate::data::DataError;
use crate::device::{ClusterError, DeviceError, TokenError};
use crate::metrics::LoadsError;
use crate::parallel::PipelineScheduleError;
use crate::parallel::eplb::EplbError;

/// A mistake of the user that no other error type names: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Everything went well.
pub const OK: u8 = 0;
/// The command line, the configuration or the data is wrong.
pub const USAGE: u8 = 2;
/// The run failed: input and output, a corrupt checkpoint, a full disk.
pub const FAILURE: u8 = 3;
/// Stopped by Ctrl-C, as shells say it.
pub const INTERRUPTED: u8 = 130;

/// The exit code of an error: [`USAGE`] where a cause is a mistake of the user, else [`FAILURE`].
pub fn code_of(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<ConfigError>()
            || cause.is::<ConfigProblems>()
            || cause.is::<DataError>()
            || cause
                .downcast_ref()
                .is_some_and(|error| !matches!(error, DeviceError::Worker { .. }))
            || cause.is::<TokenError>()
            || cause.is::<ClusterError>()
            || cause.is::<GenerateError>()
            || cause.is::<PipelineScheduleError>()
            || cause.is::<LoadsError>()
            || cause.is::<EplbError>()
            || matches!(
                cause.downcast_ref(),
                Some(
                    CheckpointError::NotFound { .. }
                        | CheckpointError::NoAverage { .. }
                        | CheckpointError::Format { .. }
                )
            )
    });
    if usage { USAGE } else { FAILURE }
}

/// The error and its causes on one line, joined by `: `.
pub fn line_of(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
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
pub fn report(result: anyhow::Result<Outcome>, json: bool) -> ExitCode {
    let (code, object) = match result {
        Ok(outcome) => (if outcome.interrupted { INTERRUPTED } else { OK }, outcome.results),
        Err(error) => {
            let (code, line) = (code_of(&error), line_of(&error));
            // Nobody is left to tell where standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {line}");
            (code, serde_json::json!({ "error": line, "exit_code": code }))
        }
    };
    if json && let Err(error) = write_stdout(&format!("{object}\n")) {
        let _ = writeln!(std::io::stderr(), "error: {}", line_of(&error));
        return ExitCode::from(FAILURE);
    }
    ExitCode::from(code)
}

/// Writes to standard output; a reader that has left (`deepseek check | head`) is no error.
///
/// # Errors
/// Standard output cannot be written, on a full disk for instance.
pub fn write_stdout(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => anyhow::Context::context(result, "standard output cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn mistakes_of_the_user_are_2_and_failures_are_3() {
        let usage = Err::<(), _>(UsageError("no".into())).context("while starting").unwrap_err();
        assert_eq!(code_of(&usage), USAGE);
        let device: anyhow::Error =
            "gpu".parse::<crate::device::DeviceChoice>().unwrap_err().into();
        assert_eq!(code_of(&device), USAGE);
        let disk = anyhow::Error::from(std::io::Error::other("disk full")).context("runs/a");
        assert_eq!(code_of(&disk), FAILURE);
    }

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow::anyhow!("bottom\n  of it").context("middle").context("top\n");
        assert_eq!(line_of(&error), "top: middle: bottom of it");
    }

    #[test]
    fn a_cause_that_is_already_quoted_is_not_said_twice() {
        let error = anyhow::anyhow!("disk full").context("a.bin: disk full");
        assert_eq!(line_of(&error), "a.bin: disk full");
    }
}
