//! Standard output, where results go.

use std::io::{ErrorKind, Write};

use crate::failure::{Context, Result};

/// Writes to standard output; a reader that has left (`deepseek check | head`) is no error.
///
/// # Errors
/// Standard output cannot be written, on a full disk for instance.
pub fn write_stdout(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output cannot be written"),
    }
}
