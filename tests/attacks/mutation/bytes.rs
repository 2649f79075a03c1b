//! Mutations that know nothing of what the bytes mean.

use rand::RngExt;

use super::Draw;

/// Bytes that mean something to many formats.
const TELLING: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'[', b'\n', 0x1b, b'-'];

/// One to four edits.
pub fn mutated(seed: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..draw.random_range(1..=4) {
        edit(&mut bytes, other, draw);
    }
    bytes
}

fn edit(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    let at = place(bytes.len(), draw);
    let span = draw.random_range(1..=16).min(bytes.len() - at);
    match draw.random_range(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << draw.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = telling(draw),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + span)),
        4 => {
            let inserted: Vec<u8> = (0..draw.random_range(1..9)).map(|_| telling(draw)).collect();
            bytes.splice(at..at, inserted);
        }
        5 => {
            let twice = bytes[at..at + span].to_vec();
            bytes.splice(at..at, twice);
        }
        6 if !other.is_empty() => {
            let from = place(other.len(), draw);
            let end = (from + draw.random_range(1..=64)).min(other.len());
            bytes.splice(at..at + span, other[from..end].iter().copied());
        }
        // A number of a binary format: its largest, or its smallest.
        _ => {
            let value = [0_u8, 0x7f, 0xff][draw.random_range(0..3)];
            let width = [2, 4, 8][draw.random_range(0..3)].min(bytes.len() - at);
            bytes[at..at + width].fill(value);
        }
    }
}

/// A place, more often near the beginning or the end, where formats keep what they say of
/// themselves.
fn place(len: usize, draw: &mut Draw) -> usize {
    let near = draw.random_range(0..=len.min(64));
    match draw.random_range(0..4) {
        0 => near,
        1 => len - near,
        _ => draw.random_range(0..=len),
    }
}

fn telling(draw: &mut Draw) -> u8 {
    if draw.random() { TELLING[draw.random_range(0..TELLING.len())] } else { draw.random() }
}
