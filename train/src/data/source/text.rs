//! Reads UTF-8 text as one document, handed over in parts.

use std::io::BufRead;
use std::path::Path;

use super::{Part, Sink};
use crate::data::error::DataError;

/// A byte order mark at a text's start is not text.
const MARK: &str = "\u{feff}";

/// Hands over a text.
pub(super) fn read(
    path: &Path,
    content: &mut dyn BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let mut rest = Vec::new();
    let mut offset = 0;
    let mut empty = true;
    loop {
        let more = content.fill_buf().map_err(|e| DataError::read(path, e))?;
        let (ended, taken) = (more.is_empty(), more.len());
        rest.extend_from_slice(more);
        content.consume(taken);
        let valid = match std::str::from_utf8(&rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = str::from_utf8(&rest[..valid]).unwrap_or_default();
        let binary = |at, what| {
            let offset = offset + at;
            Err(DataError::Binary { path: path.to_path_buf(), offset, what })
        };
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return binary(at, "a NUL byte");
        }
        // A character that is cut off by the end of what was read has at most three bytes so far.
        let cut_off = !ended
            && std::str::from_utf8(&rest[valid..]).is_err_and(|error| error.error_len().is_none());
        if valid < rest.len() && !cut_off {
            return binary(valid, "invalid UTF-8");
        }
        let shown = if offset == 0 { text.strip_prefix(MARK).unwrap_or(text) } else { text };
        if !shown.is_empty() {
            empty = false;
            sink(Part { text: shown, ends: false, special: false })?;
        }
        offset += valid;
        rest.drain(..valid);
        if ended {
            break;
        }
    }
    if empty { Ok(()) } else { sink(Part { text: "", ends: true, special: false }) }
}
