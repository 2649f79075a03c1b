//! Standard output, where results go, and standard error, where remarks and failures go.
//!
//! **Invariant.** What is written here cannot make a terminal do anything: whatever others wrote in
//! it is [made visible](crate::visible). Only drawings of this program's own go out as they are.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::failure::{Context, Result};
use crate::visible::{visible, visible_json, visible_prose};

/// Writes a report to standard output; a reader that has left (`deepseek check | head`) is no
/// error.
///
/// # Errors
/// Standard output cannot be written, on a full disk for instance.
pub fn write_stdout(text: &str) -> Result<()> {
    write_drawing(&visible(text))
}

/// Writes a line of JSON to standard output.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_json(object: &serde_json::Value) -> Result<()> {
    write_drawing(&visible_json(&format!("{object}\n")))
}

/// Writes text that a model made: into a file or a pipe every byte of it, for it is what was asked
/// for; on a terminal with its control characters made visible.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_generated(text: &str) -> Result<()> {
    if std::io::stdout().is_terminal() {
        write_drawing(&visible_prose(text))
    } else {
        write_drawing(text)
    }
}

/// Writes what is this program's own to the last byte, colours included.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_drawing(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}

/// Back to the start of a terminal's line, and nothing behind it.
pub const ERASE: &str = "\r\x1b[K";

/// Draws progress on standard error; that nobody can read it is no reason to stop.
pub fn write_progress(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a line to standard error. Where that is closed there is nobody to tell.
pub fn write_stderr_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(text));
}
