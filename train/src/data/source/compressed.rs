//! Opens a file, through gzip or Zstandard where its content says so.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use burn_deepseek::weights::open_regular;

use crate::data::error::DataError;

const GZIP: [u8; 2] = [0x1F, 0x8B];
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// How much of a content is looked at to tell what it is.
const BEGIN_BYTES: u64 = 1 << 16;
const BUFFER_BYTES: usize = 1 << 18;

/// A file's content, decompressed.
pub(super) struct Opened<'a> {
    /// Where the content begins: its first bytes.
    pub(super) begin: Vec<u8>,
    /// Whether they are all.
    pub(super) whole: bool,
    /// What it was compressed with.
    pub(super) compression: Option<&'static str>,
    /// The content from its first byte on.
    pub(super) content: Box<dyn BufRead + 'a>,
}

/// Opens a file; `read` counts the bytes that are read of it.
///
/// # Errors
/// [`DataError`] where it is missing, empty, unreadable, or not compressed as its name says.
pub(super) fn open<'a>(path: &Path, read: &'a AtomicU64) -> Result<Opened<'a>, DataError> {
    let failed = |e| DataError::read(path, e);
    let file = open_regular(path).map_err(failed)?;
    let mut file = BufReader::with_capacity(BUFFER_BYTES, Counted { file, read });
    let magic = file.fill_buf().map_err(failed)?;
    if magic.is_empty() {
        return Err(DataError::Empty { path: path.to_path_buf() });
    }
    let compression = match magic {
        magic if magic.starts_with(&GZIP) => Some("gzip"),
        magic if magic.starts_with(&ZSTD) => Some("Zstandard"),
        _ => None,
    };
    let named = match path.extension().map(|ending| ending.to_ascii_lowercase()) {
        Some(ending) if ending == "gz" => Some("gzip"),
        Some(ending) if ending == "zst" => Some("Zstandard"),
        _ => None,
    };
    if let Some(named) = named
        && compression != Some(named)
    {
        let message = format!("its name says {named}, but its content is not; rename it");
        return Err(DataError::Foreign { path: path.to_path_buf(), message });
    }
    let mut content: Box<dyn BufRead + 'a> = match compression {
        Some("gzip") => Box::new(buffered(flate2::bufread::MultiGzDecoder::new(file))),
        Some(_) => Box::new(buffered(zstd::Decoder::with_buffer(file).map_err(failed)?)),
        None => Box::new(file),
    };
    let mut begin = Vec::new();
    content.by_ref().take(BEGIN_BYTES).read_to_end(&mut begin).map_err(failed)?;
    let whole = (begin.len() as u64) < BEGIN_BYTES;
    let content = Box::new(Cursor::new(begin.clone()).chain(content));
    Ok(Opened { begin, whole, compression, content })
}

fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

struct Counted<'a> {
    file: File,
    read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
