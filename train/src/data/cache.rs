//! Tokens on disk: a file a stream, written whole or not at all, and checked when it is opened.
//!
//! ```text
//! burn-deepseek tokens 1 CRC-32-OF-THE-NEXT-LINE
//! {"width": 2, "tokens": ..., "crc32": ..., ...}      then blanks up to byte 4096
//! tokens, two or four bytes each, little-endian
//! ```
//! A file's name is a hash of all that decides what is in it, so one that is found is the right
//! one. Whoever writes one holds a lock on it; what is left unfinished and unlocked is cleared away.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn_deepseek::weights::open_regular;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::source::PassedOver;
use super::tokens::{Tokens, Width};

const MAGIC: &str = "burn-deepseek tokens 1 ";
const HEADER_BYTES: usize = 4096;
const PARTIAL: &str = "partial";
const ENDING: &str = "tokens";

/// What is known of a stream beside its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct StreamFacts {
    /// Documents.
    pub(super) documents: usize,
    /// Bytes of their text.
    pub(super) bytes: usize,
    /// Documents rearranged for fill-in-the-middle.
    pub(super) fim_documents: usize,
    /// What was passed over in the whole source.
    pub(super) passed: PassedOver,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    width_bytes: usize,
    tokens: usize,
    crc32: u32,
    facts: StreamFacts,
}

/// What a look into the cache finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The stream.
    Hit(Tokens, StreamFacts),
    /// Nothing of this name.
    Nothing,
    /// A file that is not as it was written; what is wrong with it.
    Damaged(PathBuf, String),
}

/// A folder of token files.
#[derive(Debug, Clone)]
pub(super) struct TokenCache {
    folder: PathBuf,
}

impl TokenCache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{ENDING}"))
    }

    /// Opens a stream and checks all of it.
    pub(super) fn find(&self, key: &str) -> Found {
        let path = self.path(key);
        match open(&path) {
            Ok((tokens, facts)) => Found::Hit(tokens, facts),
            Err(Wrong::Missing) => Found::Nothing,
            Err(Wrong::Other(problem)) => Found::Damaged(path, problem),
        }
    }

    /// Begins a stream. What others left unfinished is cleared away first.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub(super) fn begin(&self, key: &str, width: Width) -> std::io::Result<TokenWriter> {
        fs::create_dir_all(&self.folder)?;
        clear(&self.folder)?;
        let done = self.path(key);
        let partial = self.folder.join(format!("{key}.{}.{PARTIAL}", std::process::id()));
        let file = File::create(&partial)?;
        // Where a file system knows no locks, another start may clear this file away: it is then
        // only not kept.
        let _ = file.try_lock();
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&[b' '; HEADER_BYTES])?;
        let target = Target::File { file, partial, done };
        Ok(TokenWriter {
            target,
            width,
            bytes: Vec::new(),
            tokens: 0,
            sum: crc32fast::Hasher::new(),
        })
    }
}

/// Takes the tokens of a stream.
#[derive(Debug)]
pub(super) struct TokenWriter {
    target: Target,
    width: Width,
    /// The last tokens as bytes; in memory all of them.
    bytes: Vec<u8>,
    tokens: usize,
    sum: crc32fast::Hasher,
}

#[derive(Debug)]
enum Target {
    Memory,
    File { file: BufWriter<File>, partial: PathBuf, done: PathBuf },
}

impl TokenWriter {
    /// One that keeps the tokens in memory.
    pub(super) fn in_memory(width: Width) -> Self {
        let (target, sum) = (Target::Memory, crc32fast::Hasher::new());
        Self { target, width, bytes: Vec::new(), tokens: 0, sum }
    }

    /// Adds tokens.
    ///
    /// # Errors
    /// They cannot be written: a full disk, for instance.
    pub(super) fn push(&mut self, tokens: &[u32]) -> std::io::Result<()> {
        self.tokens += tokens.len();
        let Target::File { file, .. } = &mut self.target else {
            self.width.append(tokens, &mut self.bytes);
            return Ok(());
        };
        self.bytes.clear();
        self.width.append(tokens, &mut self.bytes);
        self.sum.update(&self.bytes);
        file.write_all(&self.bytes)
    }

    /// The stream; a file gets its name now.
    ///
    /// # Errors
    /// As [`TokenWriter::push`].
    pub(super) fn finish(mut self, facts: StreamFacts) -> std::io::Result<Tokens> {
        let (width, tokens) = (self.width, self.tokens);
        let Target::File { file, partial, done } = &mut self.target else {
            return Ok(Tokens::in_memory(std::mem::take(&mut self.bytes), width));
        };
        let crc32 = std::mem::take(&mut self.sum).finalize();
        let header = Header { width_bytes: width.bytes(), tokens, crc32, facts };
        let json = serde_json::to_string(&header)?;
        let head = format!("{MAGIC}{:08x}\n{json}\n", crc32fast::hash(json.as_bytes()));
        file.seek(SeekFrom::Start(0))?;
        file.write_all(head.as_bytes())?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&*partial, &*done)?;
        let (tokens, _) = mapped(done).map_err(|wrong| std::io::Error::other(wrong.to_string()))?;
        self.target = Target::Memory; // nothing is left to clear away
        Ok(tokens)
    }
}

/// What was not finished is not left behind.
impl Drop for TokenWriter {
    fn drop(&mut self) {
        if let Target::File { partial, .. } = &self.target {
            let _ = fs::remove_file(partial);
        }
    }
}

/// Deletes what was left unfinished by processes that were stopped.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == PARTIAL)
            && let Ok(file) = open_regular(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("it is missing")]
    Missing,
    #[error("{0}")]
    Other(String),
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Opens a token file and compares its checksum.
fn open(path: &Path) -> Result<(Tokens, StreamFacts), Wrong> {
    let (tokens, header) = mapped(path)?;
    // Read, not mapped: so the pages do not count as this process's memory.
    let mut file = open_regular(path)?;
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let (mut sum, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => sum.update(&buffer[..read]),
        }
    }
    if sum.finalize() != header.crc32 {
        return Err(Wrong::Other("its checksum differs".to_string()));
    }
    Ok((tokens, header.facts))
}

fn mapped(path: &Path) -> Result<(Tokens, Header), Wrong> {
    let file = open_regular(path)?;
    let mut head = vec![0; HEADER_BYTES];
    (&file).read_exact(&mut head).map_err(|_| Wrong::Other("it is cut short".to_string()))?;
    let header = header(&head).ok_or_else(|| Wrong::Other("its header differs".to_string()))?;
    let width = if header.width_bytes == 2 { Width::Two } else { Width::Four };
    let expected = (header.tokens as u64).checked_mul(width.bytes() as u64);
    let bytes = file.metadata()?.len().saturating_sub(HEADER_BYTES as u64);
    if expected != Some(bytes) {
        let problem = format!("it has {bytes} bytes of tokens instead of {} tokens", header.tokens);
        return Err(Wrong::Other(problem));
    }
    // SAFETY: a file of the cache is written under another name, and under its own it is only ever
    // replaced or deleted as a whole, which leaves this map of it as it is.
    let map = unsafe { Mmap::map(&file) }?;
    let tokens = Tokens::mapped(map, HEADER_BYTES, width, header.tokens)
        .ok_or_else(|| Wrong::Other("it is cut short".to_string()))?;
    Ok((tokens, header))
}

fn header(head: &[u8]) -> Option<Header> {
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    let sum = u32::from_str_radix(lines.next()?.strip_prefix(MAGIC)?, 16).ok()?;
    let json = lines.next()?;
    if crc32fast::hash(json.as_bytes()) != sum {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path) -> (TokenCache, PathBuf) {
        let cache = TokenCache::new(folder.join("tokens"));
        let mut writer = cache.begin("k", Width::Two).unwrap();
        writer.push(&[1, 2]).unwrap();
        writer.push(&[65_535]).unwrap();
        let facts = StreamFacts { documents: 2, bytes: 9, ..StreamFacts::default() };
        let tokens = writer.finish(facts).unwrap();
        assert_eq!(tokens.get(0..9), [1, 2, 65_535]);
        let path = cache.path("k");
        (cache, path)
    }

    #[test]
    fn what_is_written_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, _) = written(folder.path());
        match cache.find("k") {
            Found::Hit(tokens, facts) => {
                assert_eq!(tokens.get(0..3), [1, 2, 65_535]);
                assert_eq!((facts.documents, facts.bytes), (2, 9));
            }
            found => panic!("{found:?}"),
        }
        assert!(matches!(cache.find("other"), Found::Nothing));
    }

    #[test]
    fn every_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = written(folder.path());
        let whole = fs::read(&path).unwrap();
        let problem = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match cache.find("k") {
                Found::Damaged(_, problem) => problem,
                found => panic!("{found:?}"),
            }
        };
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        assert_eq!(problem(&changed(whole.len() - 1)), "its checksum differs");
        assert_eq!(problem(&changed(HEADER_BYTES)), "its checksum differs");
        assert_eq!(problem(&changed(3)), "its header differs");
        let json = whole.iter().position(|&byte| byte == b'{').unwrap();
        assert_eq!(problem(&changed(json + 20)), "its header differs");
        assert_eq!(problem(&whole[..100]), "it is cut short");
        assert!(problem(&whole[..whole.len() - 2]).starts_with("it has 4 bytes of tokens"));
        assert_eq!(problem(b""), "it is cut short");
    }

    #[test]
    fn nothing_unfinished_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TokenCache::new(folder.path().to_path_buf());
        let names = || fs::read_dir(folder.path()).unwrap().count();
        drop(cache.begin("a", Width::Two).unwrap());
        assert_eq!(names(), 0);
        // Of a process that was killed: no lock.
        fs::write(folder.path().join("b.1.partial"), "").unwrap();
        let held = cache.begin("c", Width::Two).unwrap();
        assert_eq!(names(), 1);
        // One that is being written is left alone.
        drop(cache.begin("d", Width::Two).unwrap());
        assert_eq!(names(), 1);
        drop(held);
    }
}
