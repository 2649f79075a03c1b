//! Mutations of what is inside of a format that would refuse them otherwise: its lengths and sums
//! are made right again, most of the time.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::RngExt;

use super::{Draw, bytes, text};

/// Bytes of the length of a safetensors header.
const LENGTH_BYTES: usize = 8;

/// A safetensors file of which the header, its length or any byte is mutated.
pub fn header(seed: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    if draw.random_ratio(1, 8) {
        return bytes::mutated(seed, other, draw);
    }
    let (json, data) = parts(seed);
    let json = text::mutated(json, parts(other).0, draw);
    let claimed = match draw.random_range(0..12) {
        0 => draw.random(),
        1 => draw.random_range(0..1 << 32),
        _ => json.len() as u64,
    };
    [&claimed.to_le_bytes()[..], &json, data].concat()
}

/// The header and what follows it.
fn parts(file: &[u8]) -> (&[u8], &[u8]) {
    let length = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)) as usize;
    file.get(LENGTH_BYTES..).unwrap_or_default().split_at_checked(length).unwrap_or_default()
}

/// Compressed lines, mutated before or after.
pub fn gzip(seed: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    if draw.random() {
        return bytes::mutated(seed, other, draw);
    }
    let mut content = Vec::new();
    GzDecoder::new(seed).read_to_end(&mut content).expect("a seed is whole");
    let content = text::mutated(&content, &content, draw);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&content).and_then(|()| encoder.finish()).expect("memory takes it")
}

/// Compressed lines, mutated before or after.
pub fn zstandard(seed: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    if draw.random() {
        return bytes::mutated(seed, other, draw);
    }
    let content = zstd::decode_all(seed).expect("a seed is whole");
    let content = text::mutated(&content, &content, draw);
    zstd::encode_all(&content[..], 1).expect("memory takes it")
}
