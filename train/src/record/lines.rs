//! The lines of a record as bytes, none of them longer than a line can be.

use std::io::{self, BufRead, Read};

/// The longest line that is read: 256 experts in each of 61 layers take some 200 KB.
pub(super) const LONGEST_LINE: u64 = 64 << 20;

/// Goes through lines; of one that is longer than any of a record no more than that is held.
#[derive(Debug)]
pub struct RawLines<R> {
    reader: R,
    bytes: Vec<u8>,
    /// Bytes of a line at most, with its end.
    longest: u64,
}

/// A line as it is in a file.
#[derive(Clone, Copy, Debug)]
pub struct RawLine<'a> {
    /// What it has, without its end; only the beginning of one that is too long.
    pub bytes: &'a [u8],
    /// Bytes that it takes in the file, with its end where it has one.
    pub length: u64,
    /// Whether it has an end.
    pub is_ended: bool,
    /// Whether it is longer than any of a record.
    pub is_too_long: bool,
}

impl RawLine<'_> {
    /// Its text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn text(&self) -> Result<&str, String> {
        if self.is_too_long {
            return Err("is longer than any of a record".into());
        }
        std::str::from_utf8(self.bytes).map_err(|_| "is not UTF-8".into())
    }
}

impl<R: BufRead> RawLines<R> {
    /// The lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self::up_to(LONGEST_LINE, reader)
    }

    /// The lines of `reader`, of which one has so many bytes at most, its end among them.
    pub(crate) fn up_to(longest: u64, reader: R) -> Self {
        Self { reader, bytes: Vec::new(), longest }
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.bytes.clear();
        let reader = &mut self.reader;
        let mut length =
            reader.by_ref().take(self.longest).read_until(b'\n', &mut self.bytes)? as u64;
        if length == 0 {
            return Ok(None);
        }
        let (mut is_ended, mut is_too_long) = (self.bytes.last() == Some(&b'\n'), false);
        if is_ended {
            self.bytes.pop();
        } else if length == self.longest {
            let (rest, end) = skip_line(reader)?;
            length += rest;
            (is_ended, is_too_long) = (end, rest > 0);
        }
        Ok(Some(RawLine { bytes: &self.bytes, length, is_ended, is_too_long }))
    }
}

/// Passes over the rest of a line: its bytes, and whether its end was among them.
fn skip_line(reader: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let (count, found) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(count);
        skipped += count as u64;
        if found || count == 0 {
            return Ok((skipped, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, length, whether it is ended and whether it is too long.
    fn lines(text: &str, buffer: usize) -> Vec<(String, u64, bool, bool)> {
        let mut lines = RawLines::up_to(6, io::BufReader::with_capacity(buffer, text.as_bytes()));
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let text = String::from_utf8(line.bytes.to_vec()).unwrap();
            found.push((text, line.length, line.is_ended, line.is_too_long));
        }
        found
    }

    #[test]
    fn lines_are_told_with_what_they_take() {
        for buffer in [1, 3, 100] {
            let line = |text: &str, length, ended, long| (text.to_string(), length, ended, long);
            assert_eq!(lines("", buffer), []);
            assert_eq!(
                lines("a\n\n12345\nb", buffer),
                [
                    line("a", 2, true, false),
                    line("", 1, true, false),
                    line("12345", 6, true, false),
                    line("b", 1, false, false)
                ]
            );
            assert_eq!(lines("123456", buffer), [line("123456", 6, false, false)]);
            assert_eq!(
                lines("123456\n1234567890\nc\n", buffer),
                [
                    line("123456", 7, true, true),
                    line("123456", 11, true, true),
                    line("c", 2, true, false)
                ]
            );
            assert_eq!(lines("12345678", buffer), [line("123456", 8, false, true)]);
        }
    }
}
