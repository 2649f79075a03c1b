//! Reading a file of saved routings: all of it is verified when it is opened, and choices are read
//! as windows come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn_deepseek::routing::GivenChoices;
use burn_deepseek::weights::open_regular;

use super::chunk::{Chunk, HEAD_BYTES, Head, Phase, Place};
use super::error::RoutingFileError;
use super::shape::{Header, MadeBy, RoutingShape};
use super::{MAGIC, VERSION};
use crate::data::Window;

/// Bytes of a header at most.
const MOST_HEADER_BYTES: u32 = 1 << 20;
/// Bytes that are verified at a time.
const BLOCK_BYTES: usize = 1 << 16;

/// What windows of a chunk are found by: the phase, the step of an evaluation, and the number of
/// the first. (Samples of a training are numbered through all of its steps.)
type Key = (Phase, u64, u64);

/// A file of saved routings.
#[derive(Debug)]
pub struct SavedRouting {
    path: PathBuf,
    file: File,
    shape: RoutingShape,
    chunks: BTreeMap<Key, (u64, Head)>,
    /// The chunk that was read last.
    last: Option<(Key, Chunk)>,
}

/// The chunks of a file as they lie in it.
pub(super) struct Scan {
    pub header: Header,
    /// Where each begins, and its head.
    pub chunks: Vec<(u64, Head)>,
    /// Where the last whole chunk ends.
    pub end: u64,
    /// Why what follows that is no chunk; none at the end of the file.
    pub torn: Option<String>,
}

impl Scan {
    /// Walks a file and verifies every checksum in it.
    pub fn of(path: &Path, file: &File) -> Result<Self, RoutingFileError> {
        let reading = RoutingFileError::reading(path);
        let mut input = BufReader::with_capacity(BLOCK_BYTES, file);
        input.seek(SeekFrom::Start(0)).map_err(&reading)?;
        let (header, mut end) = header(path, &mut input)?;
        let (mut chunks, mut torn) = (Vec::new(), None);
        loop {
            let mut head = [0; HEAD_BYTES];
            match read_up_to(&mut input, &mut head).map_err(&reading)? {
                0 => break,
                HEAD_BYTES => (),
                _ => {
                    torn = Some("the file ends inside a chunk".to_string());
                    break;
                }
            }
            let damaged = |problem: &str| RoutingFileError::Damaged {
                path: path.into(),
                at: end,
                problem: problem.into(),
            };
            let head =
                Head::from_bytes(&head).ok_or_else(|| damaged("the head of a chunk is wrong"))?;
            if head.unpacked_bytes(&header.shape).is_none() {
                return Err(damaged("a chunk whose sizes are impossible"));
            }
            let payload_crc32 = match crc32_of(&mut input, head.stored).map_err(&reading)? {
                Some(crc32) => crc32,
                None => {
                    torn = Some("the file ends inside a chunk".to_string());
                    break;
                }
            };
            if payload_crc32 != head.payload_crc32 {
                return Err(damaged("a chunk whose checksum is another"));
            }
            chunks.push((end, head));
            end += HEAD_BYTES as u64 + u64::from(head.stored);
        }
        Ok(Self { header, chunks, end, torn })
    }
}

/// Reads what stands before the chunks, and where that ends.
fn header(path: &Path, input: &mut impl Read) -> Result<(Header, u64), RoutingFileError> {
    let reading = RoutingFileError::reading(path);
    let not_one = |problem: &str| RoutingFileError::NotOne {
        path: path.into(),
        problem: problem.to_string(),
    };
    let mut start = [0; 20];
    if read_up_to(input, &mut start).map_err(&reading)? < start.len() || start[..8] != *MAGIC {
        return Err(not_one("it does not begin as one"));
    }
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| start[at + i]));
    let (version, bytes, crc32) = (number(8), number(12), number(16));
    if version != VERSION {
        return Err(RoutingFileError::Version { path: path.into(), version });
    }
    if bytes > MOST_HEADER_BYTES {
        return Err(not_one("its header is too long"));
    }
    let mut text = vec![0; bytes as usize];
    if read_up_to(input, &mut text).map_err(&reading)? < text.len()
        || crc32fast::hash(&text) != crc32
    {
        return Err(not_one("its header is damaged"));
    }
    let header: Header =
        serde_json::from_slice(&text).map_err(|error| not_one(&error.to_string()))?;
    Ok((header, start.len() as u64 + u64::from(bytes)))
}

/// Fills a buffer as far as the input goes.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The checksum of the next bytes; none where there are not so many.
fn crc32_of(input: &mut impl Read, bytes: u32) -> std::io::Result<Option<u32>> {
    let mut hasher = crc32fast::Hasher::new();
    let mut left = bytes as usize;
    let mut block = [0; BLOCK_BYTES];
    while left > 0 {
        let wanted = left.min(block.len());
        let got = read_up_to(input, &mut block[..wanted])?;
        hasher.update(&block[..got]);
        if got < wanted {
            return Ok(None);
        }
        left -= got;
    }
    Ok(Some(hasher.finalize()))
}

impl Header {
    /// Checks that the file is one that `made_by` saved of a model of this shape.
    pub fn check(
        &self,
        path: &Path,
        shape: &RoutingShape,
        made_by: MadeBy,
    ) -> Result<(), RoutingFileError> {
        let path = path.to_path_buf();
        if self.made_by != made_by {
            let (made_by, wanted) = (self.made_by, made_by);
            return Err(RoutingFileError::OtherCommand { path, made_by, wanted });
        }
        if self.shape != *shape {
            let (theirs, ours) = (self.shape.clone(), shape.clone());
            return Err(RoutingFileError::OtherModel { path, theirs, ours });
        }
        Ok(())
    }
}

impl SavedRouting {
    /// Opens a file that `made_by` saved of a model of this shape, and verifies all of it.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no such file, is damaged, or is of something else.
    pub fn open(
        path: &Path,
        shape: &RoutingShape,
        made_by: MadeBy,
    ) -> Result<Self, RoutingFileError> {
        let file = open_regular(path).map_err(RoutingFileError::reading(path))?;
        let Scan { header, chunks, end, torn } = Scan::of(path, &file)?;
        let path = path.to_path_buf();
        header.check(&path, shape, made_by)?;
        if let Some(problem) = torn {
            return Err(RoutingFileError::Damaged { path, at: end, problem });
        }
        let chunks = chunks.into_iter().map(|(at, head)| (key(head.place, head.first), (at, head)));
        Ok(Self { path, file, shape: shape.clone(), chunks: chunks.collect(), last: None })
    }

    /// Checks that the samples from `first` on, `count` of them, are there.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check_samples(&self, first: u64, count: u64) -> Result<(), RoutingFileError> {
        let mut next = first;
        let end = first.saturating_add(count);
        while next < end {
            let Some((_, (_, head))) = self.chunk_of(Phase::Training, 0, next) else {
                return Err(self.missing(Place::training(0), format!("sample {next}")));
            };
            next = head.first + u64::from(head.windows);
        }
        Ok(())
    }

    /// The choices of windows that are seen together, of `seq_len` tokens each that a model sees,
    /// with the MTP modules or without.
    ///
    /// # Errors
    ///
    /// A window that is not there, or was saved of other tokens; a file that cannot be read any
    /// more.
    pub fn choices(
        &mut self,
        place: Place,
        windows: &[Window],
        seq_len: usize,
        mtp: bool,
    ) -> Result<GivenChoices, RoutingFileError> {
        let layers = self.shape.layers_run(seq_len, mtp);
        let shape = self.shape.clone();
        let mut choices = BTreeMap::new();
        for window in windows {
            let named = place.window(window.sample).to_string();
            let (path, here) = (self.path.clone(), seq_len);
            let chunk = self.chunk(place, window.sample)?;
            let (head, index) = (chunk.head, (window.sample - chunk.head.first) as usize);
            if head.seq_len as usize != seq_len {
                let saved = head.seq_len as usize;
                return Err(RoutingFileError::OtherLength { path, window: named, saved, here });
            }
            if !chunk.has_tokens(index, window) {
                return Err(RoutingFileError::OtherTokens { path, window: named });
            }
            if let Some(&layer) = shape.layers[..layers].get(head.layers as usize) {
                return Err(RoutingFileError::MissingLayer { path, window: named, layer });
            }
            chunk.choices(&shape, index, layers, &mut choices);
        }
        // The checksums hold, so this would be a file that was made to look like one.
        GivenChoices::new(shape.chosen, shape.experts, choices).map_err(|error| {
            RoutingFileError::NotOne { path: self.path.clone(), problem: error.to_string() }
        })
    }

    /// The chunk that has a window, unpacked.
    fn chunk(&mut self, place: Place, number: u64) -> Result<&Chunk, RoutingFileError> {
        let step = key(place, 0).1;
        let found = self.chunk_of(place.phase, step, number);
        let Some((key, (at, head))) = found else {
            return Err(self.missing(place, place.window(number).to_string()));
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            let mut payload = vec![0; head.stored as usize];
            self.file
                .seek(SeekFrom::Start(at + HEAD_BYTES as u64))
                .and_then(|_| self.file.read_exact(&mut payload))
                .map_err(RoutingFileError::reading(&self.path))?;
            let chunk = Chunk::unpack(&self.shape, head, &payload).map_err(|problem| {
                RoutingFileError::Damaged { path: self.path.clone(), at, problem }
            })?;
            self.last = Some((key, chunk));
        }
        let (_, chunk) = self.last.as_ref().expect("invariant: it has just been put there");
        Ok(chunk)
    }

    fn chunk_of(&self, phase: Phase, step: u64, number: u64) -> Option<(Key, (u64, Head))> {
        let before = self.chunks.range((phase, step, 0)..=(phase, step, number)).next_back();
        let (key, chunk) = before.map(|(key, chunk)| (*key, *chunk))?;
        (number - chunk.1.first < u64::from(chunk.1.windows)).then_some((key, chunk))
    }

    fn missing(&self, place: Place, wanted: String) -> RoutingFileError {
        let of_phase = |(_, head): &&(u64, Head)| head.place.phase == place.phase;
        let heads = || self.chunks.values().filter(of_phase).map(|(_, head)| head);
        let has = match (place.phase, heads().next(), heads().next_back()) {
            (Phase::Training, Some(first), Some(last)) => format!(
                "samples {} to {} (steps {} to {})",
                first.first,
                last.first + u64::from(last.windows) - 1,
                first.place.step,
                last.place.step
            ),
            (Phase::Evaluation, Some(first), Some(last)) if first.place.step > 0 => format!(
                "evaluations after steps {} to {}, of {} windows",
                first.place.step,
                last.place.step,
                last.first + u64::from(last.windows)
            ),
            (Phase::Evaluation, Some(_), Some(last)) => {
                format!("windows 0 to {}", last.first + u64::from(last.windows) - 1)
            }
            _ => "none of the kind".into(),
        };
        RoutingFileError::Missing { path: self.path.clone(), wanted, has }
    }
}

fn key(place: Place, first: u64) -> Key {
    match place.phase {
        Phase::Training => (place.phase, 0, first),
        Phase::Evaluation => (place.phase, place.step, first),
    }
}
