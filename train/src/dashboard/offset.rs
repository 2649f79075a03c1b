//! A place in a record that a page has read up to, as it is told and given back.
//!
//! It carries a digest of the bytes before it, so that a record which was cut and has grown again
//! is not taken for the one that was read, by this process or by one that was started since.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::str::FromStr;

/// Bytes before a place that tell it from others: mostly the whole last line, with its time.
const TAIL: u64 = 4096;

/// A place in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset {
    /// Bytes before it.
    pub bytes: u64,
    digest: u32,
}

impl Offset {
    /// The place after some bytes that end in `tail`.
    pub fn after(bytes: u64, tail: &[u8]) -> Self {
        let tail = &tail[tail.len().saturating_sub(TAIL as usize)..];
        let digest = blake3::hash(tail);
        let [a, b, c, d, ..] = *digest.as_bytes();
        Self { bytes, digest: if bytes == 0 { 0 } else { u32::from_be_bytes([a, b, c, d]) } }
    }

    /// Whether a file has, before this place, what it had when the place was told.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_in(self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.bytes {
            return Ok(false);
        }
        Ok(Self::after(self.bytes, &tail_before(file, self.bytes)?) == self)
    }
}

/// The bytes before a place of a file that tell it from others.
///
/// # Errors
/// The file cannot be read.
pub(super) fn tail_before(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let begin = bytes.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.take(bytes - begin).read_to_end(&mut tail)?;
    Ok(tail)
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.bytes, self.digest)
    }
}

impl FromStr for Offset {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (bytes, digest) = text.split_once('-').ok_or(())?;
        let bytes = bytes.parse().map_err(|_| ())?;
        let digest = u32::from_str_radix(digest, 16).map_err(|_| ())?;
        Ok(Self { bytes, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_again_and_another_history_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let text: Vec<u8> = (0..9000_u32).map(|n| ((n * n) >> 3) as u8).collect();
        std::fs::write(&path, &text).unwrap();
        for bytes in [0, 1, 4095, 4096, 4097, 9000] {
            let offset = Offset::after(bytes as u64, &text[..bytes]);
            assert_eq!(offset.to_string().parse(), Ok(offset));
            assert!(offset.is_in(&mut File::open(&path).unwrap()).unwrap(), "{bytes}");
        }
        let offset = Offset::after(5000, &text[..5000]);
        std::fs::write(&path, [&text[..2000], &[7], &text[2001..]].concat()).unwrap();
        assert!(!offset.is_in(&mut File::open(&path).unwrap()).unwrap());
        std::fs::write(&path, &text[..4999]).unwrap();
        assert!(!offset.is_in(&mut File::open(&path).unwrap()).unwrap());
        for text in ["", "1", "-", "1-zz", "x-00000000", "-1-00000000"] {
            assert!(text.parse::<Offset>().is_err(), "{text}");
        }
    }
}
