//! Files that others give: opened only where they are regular ones, and read whole only up to a
//! limit.
//!
//! A FIFO has no end until somebody closes it, and a device may have none at all. Either is refused
//! by what it is, before it is opened.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Bytes of a file of settings (`config.json`, a run file, a preset) at most.
pub const SETTINGS_BYTES: u64 = 16 << 20;

/// Something that is there under a name and is no regular file.
#[derive(Debug)]
struct NotAFile(&'static str);

impl fmt::Display for NotAFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}; a regular file is needed", self.0)
    }
}

impl std::error::Error for NotAFile {}

/// A file that is longer than what is read of its kind.
#[derive(Debug)]
struct TooLong {
    most_bytes: u64,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it is longer than {} MiB, the most for a file of its kind",
            self.most_bytes >> 20
        )
    }
}

impl std::error::Error for TooLong {}

/// Opens a file for reading.
///
/// # Errors
///
/// What the system says; a folder, FIFO, socket or device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Opening a FIFO waits for whoever writes to it, so that comes second.
    check(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a file whole.
///
/// # Errors
///
/// As [`open_regular`], and a file of more than `most_bytes` bytes.
pub fn read_regular(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_long = || io::Error::new(ErrorKind::FileTooLarge, TooLong { most_bytes });
    let known_bytes = file.metadata()?.len();
    if known_bytes > most_bytes {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(known_bytes).unwrap_or_default());
    // Files of the system say nothing of their length, and others may grow.
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { Err(too_long()) } else { Ok(bytes) }
}

/// Reads a file of UTF-8 text whole.
///
/// # Errors
///
/// As [`read_regular`], and [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_regular_text(path: &Path, most_bytes: u64) -> io::Result<String> {
    let bytes = read_regular(path, most_bytes)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(ErrorKind::InvalidData, format!("it is not UTF-8 text at byte {at}"))
    })
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    if metadata.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, NotAFile("a folder")));
    }
    Err(io::Error::new(ErrorKind::InvalidInput, NotAFile(kind_of(metadata))))
}

#[cfg(unix)]
fn kind_of(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;

    let kind = metadata.file_type();
    if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn kind_of(_: &Metadata) -> &'static str {
    "neither a file nor a folder"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "caf\u{e9}").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), "caf\u{e9}".as_bytes());
        assert_eq!(read_regular_text(&path, 5).unwrap(), "caf\u{e9}");
        assert_eq!(read_regular(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::fs::write(&path, b"caf\xe9").unwrap();
        let error = read_regular_text(&path, 5).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::InvalidData, "it is not UTF-8 text at byte 3".into())
        );
        let none = read_regular(&folder.path().join("none"), 5).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_refused_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for (path, part) in [
            (folder.path().to_path_buf(), "a folder"),
            (folder.path().join("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
            ("/dev/null".into(), "a device"),
        ] {
            let error = open_regular(&path).unwrap_err().to_string();
            assert_eq!(error, format!("it is {part}; a regular file is needed"));
        }
        // A file of the system has no length.
        assert!(!read_regular("/proc/self/status".as_ref(), 1 << 20).unwrap().is_empty());
        assert!(read_regular("/proc/self/status".as_ref(), 10).is_err());
    }
}
