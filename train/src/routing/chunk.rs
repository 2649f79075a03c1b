//! A chunk of a file of saved routings: the windows of one micro-batch.

use std::collections::BTreeMap;
use std::fmt;

use burn_deepseek::routing::LayerRecord;

use super::shape::RoutingShape;
use crate::data::Window;

/// Bytes in front of a chunk's payload.
pub(super) const HEAD_BYTES: usize = 44;
/// Bytes of the hash of a window's tokens.
const HASH_BYTES: usize = 8;
/// How hard the experts are packed: more takes longer and gains little.
const LEVEL: i32 = 3;
/// Bytes of a chunk at most, unpacked: what claims to be more is damaged.
const MOST_BYTES: u64 = 1 << 30;

/// What windows are seen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// To be trained on.
    Training,
    /// To be measured on.
    Evaluation,
}

/// Where in the course of a command windows are seen. They are written in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The step, from 1, that trains on them, or that an evaluation follows; 0 of a command that
    /// makes none.
    pub step: u64,
    /// What they are seen for.
    pub phase: Phase,
}

impl Place {
    /// In the training step `step`, from 1.
    pub fn training(step: u64) -> Self {
        Self { step, phase: Phase::Training }
    }

    /// In the evaluation after step `step`, 0 where there is no training.
    pub fn evaluation(step: u64) -> Self {
        Self { step, phase: Phase::Evaluation }
    }

    /// What a window's number is to be called.
    pub(super) fn window(self, number: u64) -> Named {
        Named { place: self, number }
    }
}

/// A window in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    place: Place,
    number: u64,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: Place { step, phase }, number } = self;
        match (phase, step) {
            (Phase::Training, _) => write!(f, "sample {number} (step {step})"),
            (Phase::Evaluation, 0) => write!(f, "window {number}"),
            (Phase::Evaluation, _) => {
                write!(f, "window {number} of the evaluation after step {step}")
            }
        }
    }
}

/// What stands in front of a chunk's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub place: Place,
    /// Number of the first window; the others follow it.
    pub first: u64,
    pub windows: u32,
    pub seq_len: u32,
    /// MoE layers that ran, the first ones of the shape's.
    pub layers: u32,
    /// Bytes of the payload.
    pub stored: u32,
    /// CRC-32 of the payload.
    pub payload_crc32: u32,
}

impl Head {
    /// The bytes in front of the payload: a CRC-32 of the rest of them, then the rest.
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend([0; 4]);
        bytes.extend(u32::from(self.place.phase == Phase::Evaluation).to_le_bytes());
        bytes.extend(self.place.step.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        for number in [self.windows, self.seq_len, self.layers, self.stored, self.payload_crc32] {
            bytes.extend(number.to_le_bytes());
        }
        let crc32 = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc32.to_le_bytes());
        bytes.try_into().expect("invariant: a head has its length")
    }

    /// What the bytes say, where they are a head.
    pub fn from_bytes(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let u64_at =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        let phase = match u32_at(4) {
            0 => Phase::Training,
            1 => Phase::Evaluation,
            _ => return None,
        };
        (u32_at(0) == crc32fast::hash(&bytes[4..])).then(|| Self {
            place: Place { step: u64_at(8), phase },
            first: u64_at(16),
            windows: u32_at(24),
            seq_len: u32_at(28),
            layers: u32_at(32),
            stored: u32_at(36),
            payload_crc32: u32_at(40),
        })
    }

    /// Bytes of the payload unpacked, where a model of the shape can have such a chunk.
    pub fn unpacked_bytes(&self, shape: &RoutingShape) -> Option<usize> {
        let layers = self.layers as usize;
        let window = shape
            .numbers(layers, self.seq_len as usize)
            .checked_mul(shape.width() as u64)?
            .checked_add(HASH_BYTES as u64)?;
        let bytes = window.checked_mul(u64::from(self.windows))?;
        let possible = layers <= shape.layers.len() && bytes <= MOST_BYTES;
        possible.then_some(bytes as usize)
    }
}

/// A chunk unpacked.
#[derive(Debug)]
pub(super) struct Chunk {
    pub head: Head,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Packs what the routers chose for windows that follow one another, of `seq_len` tokens each
    /// that a model sees; none where there is no window.
    pub fn pack(
        shape: &RoutingShape,
        place: Place,
        windows: &[Window],
        seq_len: usize,
        records: &[LayerRecord],
    ) -> std::io::Result<Option<(Head, Vec<u8>)>> {
        let Some(window) = windows.first() else { return Ok(None) };
        let mut bytes: Vec<u8> = windows.iter().flat_map(hash).collect();
        for record in records {
            // What the routers of this model chose is below its number of experts.
            match shape.width() {
                1 => bytes.extend(record.chosen.iter().map(|&expert| expert as u8)),
                _ => bytes
                    .extend(record.chosen.iter().flat_map(|&expert| (expert as u16).to_le_bytes())),
            }
        }
        let packed = zstd::bulk::compress(&bytes, LEVEL)?;
        let head = Head {
            place,
            first: window.sample,
            windows: windows.len() as u32,
            seq_len: seq_len as u32,
            layers: records.len() as u32,
            stored: packed.len() as u32,
            payload_crc32: crc32fast::hash(&packed),
        };
        assert_eq!(
            head.unpacked_bytes(shape),
            Some(bytes.len()),
            "invariant: every layer of the model told of all its tokens"
        );
        Ok(Some((head, packed)))
    }

    /// Unpacks a payload.
    pub fn unpack(shape: &RoutingShape, head: Head, payload: &[u8]) -> Result<Self, String> {
        if crc32fast::hash(payload) != head.payload_crc32 {
            return Err("its checksum is another".into());
        }
        let expected = head.unpacked_bytes(shape).ok_or("its sizes are impossible")?;
        let bytes = zstd::bulk::decompress(payload, expected).map_err(|error| error.to_string())?;
        if bytes.len() != expected {
            return Err(format!("{} bytes instead of {expected}", bytes.len()));
        }
        Ok(Self { head, bytes })
    }

    /// Whether one of the chunk's windows has these tokens.
    pub fn has_tokens(&self, index: usize, window: &Window) -> bool {
        self.bytes[HASH_BYTES * index..][..HASH_BYTES] == hash(window)
    }

    /// Adds one window's choices to those of the layers that ran here.
    pub fn choices(
        &self,
        shape: &RoutingShape,
        index: usize,
        layers: usize,
        into: &mut BTreeMap<usize, Vec<u32>>,
    ) {
        let (windows, width) = (self.head.windows as usize, shape.width());
        let mut at = HASH_BYTES * windows;
        for &layer in shape.layers.iter().take(layers) {
            let numbers = shape.tokens_of(layer, self.head.seq_len as usize) * shape.chosen;
            let bytes = &self.bytes[at + index * numbers * width..][..numbers * width];
            let chosen = into.entry(layer).or_default();
            match width {
                1 => chosen.extend(bytes.iter().copied().map(u32::from)),
                _ => chosen.extend(
                    bytes
                        .chunks_exact(2)
                        .map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))),
                ),
            }
            at += windows * numbers * width;
        }
    }
}

/// The beginning of the BLAKE3 of a window's tokens.
fn hash(window: &Window) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for token in &window.tokens {
        hasher.update(&token.to_le_bytes());
    }
    let mut first = [0; HASH_BYTES];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..HASH_BYTES]);
    first
}
