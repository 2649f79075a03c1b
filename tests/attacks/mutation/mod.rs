//! From valid inputs to inputs that are nearly so: what decides an input is the seed of the
//! campaign, its kind and its number.

mod bytes;
mod container;
mod text;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What the mutations draw from.
pub type Draw = ChaCha8Rng;

/// How inputs of a kind are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// TOML, JSON, lines of them, arguments: tokens.
    Text,
    /// Anything.
    Bytes,
    /// A JSON header behind its length, and bytes: safetensors.
    Header,
    /// Compressed text.
    Gzip,
    /// Compressed text.
    Zstandard,
}

/// The generator of an input.
pub fn draw_of(seed: u64, kind: &str, index: u64) -> Draw {
    let name = kind.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Draw::seed_from_u64(
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name ^ index.wrapping_mul(0xbf58_476d_1ce4_e5b9),
    )
}

/// An input: one of the seeds with something done to it.
pub fn mutated(form: Form, seeds: &[Vec<u8>], draw: &mut Draw) -> Vec<u8> {
    let seed = seeds.choose(draw).expect("every kind has seeds");
    let other = seeds.choose(draw).expect("every kind has seeds");
    match form {
        Form::Bytes => bytes::mutated(seed, other, draw),
        Form::Text if draw.random_ratio(1, 5) => bytes::mutated(seed, other, draw),
        Form::Text => text::mutated(seed, other, draw),
        Form::Header => container::header(seed, other, draw),
        Form::Gzip => container::gzip(seed, other, draw),
        Form::Zstandard => container::zstandard(seed, other, draw),
    }
}
