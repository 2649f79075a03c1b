//! Reads JSON lines, and arrays of JSON, as a document a line or element.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::record::{Text, text_of};
use super::{BadLines, Part, PassedOver, Reading, Sink};
use crate::data::error::DataError;

/// Bytes of a line or an element at most. What is compressed may hold a thousand times as many as
/// there are of it, and each is in memory at once.
const MOST_BYTES: u64 = 64 << 20;

/// A content of which no more than so many bytes are read before `left` is filled up again.
struct Bounded<'a> {
    content: &'a mut dyn BufRead,
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| {
            let problem = format!("an element is longer than {} MiB", MOST_BYTES >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, problem)
        })?);
        Ok(read)
    }
}

/// Hands over the documents of JSON lines. Blank lines are passed over.
pub(super) fn read_lines(
    path: &Path,
    content: &mut dyn BufRead,
    reading: &Reading,
    passed: &mut PassedOver,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let (mut line, mut number, mut offset) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let mut bounded = (&mut *content).take(MOST_BYTES);
        let bytes = bounded.read_until(b'\n', &mut line).map_err(|e| DataError::read(path, e))?;
        if bytes == 0 {
            return Ok(());
        }
        number += 1;
        if bytes as u64 == MOST_BYTES && !line.ends_with(b"\n") {
            let message = format!(
                "line {number} is longer than {} MiB; a document a line is needed",
                MOST_BYTES >> 20
            );
            return Err(DataError::Foreign { path: path.to_path_buf(), message });
        }
        let begin = offset;
        offset += bytes;
        let text = match std::str::from_utf8(&line) {
            Ok(text) => text,
            Err(_) if reading.bad_lines == BadLines::Skip => {
                passed.lines += 1;
                continue;
            }
            Err(error) => {
                let offset = begin + error.valid_up_to();
                let (path, what) = (path.to_path_buf(), "invalid UTF-8");
                return Err(DataError::Binary { path, offset, what });
            }
        };
        let text = if begin == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        if text.trim().is_empty() {
            continue;
        }
        let document = serde_json::from_str(text)
            .map_err(|error| format!("not valid JSON: {error}"))
            .and_then(|value: Value| match value {
                Value::String(_) => Err("a string where an object is needed".to_string()),
                value => text_of(value, reading),
            });
        hand_over(document, path, || format!("line {number}"), reading, passed, sink)?;
    }
}

/// Hands over the documents of a JSON array: of its strings, or of its objects.
pub(super) fn read_array(
    path: &Path,
    content: &mut dyn BufRead,
    reading: &Reading,
    passed: &mut PassedOver,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let left = Cell::new(MOST_BYTES);
    let mut elements = Elements { path, reading, passed, sink, left: &left, failure: None };
    let mut json = serde_json::Deserializer::from_reader(Bounded { content, left: &left });
    let read = json.deserialize_seq(&mut elements).and_then(|()| json.end());
    match (elements.failure, read) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(DataError::read(path, error.into())),
        (None, Err(error)) => Err(DataError::Record {
            path: path.to_path_buf(),
            place: format!("line {}", error.line()),
            message: format!("not valid JSON: {error}"),
        }),
    }
}

/// Takes the elements of an array one by one.
struct Elements<'a, 'b> {
    path: &'a Path,
    reading: &'a Reading,
    passed: &'a mut PassedOver,
    sink: &'a mut Sink<'b>,
    /// Bytes that the next element may still have.
    left: &'a Cell<u64>,
    /// What stopped the reading, where it is not the JSON.
    failure: Option<DataError>,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let mut number = 0_usize;
        while let Some(value) = array.next_element::<Value>()? {
            number += 1;
            self.left.set(MOST_BYTES);
            let handed = hand_over(
                text_of(value, self.reading),
                self.path,
                || format!("element {number}"),
                self.reading,
                self.passed,
                self.sink,
            );
            if let Err(failure) = handed {
                self.failure = Some(failure);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Hands over a document, passes over one that is empty, and does as it should with a bad one.
pub(super) fn hand_over(
    document: Result<Text, String>,
    path: &Path,
    place: impl FnOnce() -> String,
    reading: &Reading,
    passed: &mut PassedOver,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    match document {
        Ok(Text { text, .. }) if text.is_empty() => passed.documents += 1,
        Ok(Text { text, special }) => sink(Part { text: &text, ends: true, special })?,
        Err(_) if reading.bad_lines == BadLines::Skip => passed.lines += 1,
        Err(message) => {
            let (path, place) = (path.to_path_buf(), place());
            return Err(DataError::Record { path, place, message });
        }
    }
    Ok(())
}
