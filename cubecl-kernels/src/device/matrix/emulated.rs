//! Device code: the matrix instruction in plain code, for tests.
//!
//! The units of a plane hand their registers to each other through shared memory, for a plane here
//! is 32 neighbours of a cube whatever the device calls one.

use super::fragment::{A_WORDS, B_WORDS, HELD, Left, PLANE, Right, c_column, c_row};
use cubecl::prelude::*;

/// Words that a unit hands over.
pub(super) const WORDS: u32 = A_WORDS + B_WORDS;
/// Pairs along the depth.
const PAIRS: u32 = 8;

/// The FP32 of the lower half of a word.
#[cube]
pub(super) fn low(word: u32) -> f32 {
    f32::reinterpret(word << 16u32)
}

/// The FP32 of the upper half of a word.
#[cube]
pub(super) fn high(word: u32) -> f32 {
    f32::reinterpret(word & 0xFFFF_0000u32)
}

/// What [`multiply_add`](super::fragment::multiply_add) does, in the order of the depth. Two
/// barriers of the cube.
#[cube]
pub(super) fn multiply_add(
    left: Left,
    right: Right,
    sums: &mut Array<f32>,
    first: u32,
    words: &mut Shared<[u32]>,
) {
    // What was handed over before has been read.
    sync_cube();
    let own = UNIT_POS * WORDS;
    words[own as usize] = left.word0;
    words[(own + 1u32) as usize] = left.word1;
    words[(own + 2u32) as usize] = left.word2;
    words[(own + 3u32) as usize] = left.word3;
    words[(own + 4u32) as usize] = right.word0;
    words[(own + 5u32) as usize] = right.word1;
    sync_cube();
    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS - lane;
    #[unroll]
    for h in 0..HELD {
        let row = c_row(lane, h);
        let column = c_column(lane, h);
        let mut sum = sums[(first + h) as usize];
        for p in 0..PAIRS {
            // The unit and the register that hold pair `p` of the row, and of the column.
            let a_unit = plane + (row % 8u32) * 4u32 + p % 4u32;
            let b_unit = plane + column * 4u32 + p % 4u32;
            let a = words[(a_unit * WORDS + row / 8u32 + 2u32 * (p / 4u32)) as usize];
            let b = words[(b_unit * WORDS + A_WORDS + p / 4u32) as usize];
            sum = fma(low(a), low(b), sum);
            sum = fma(high(a), high(b), sum);
        }
        sums[(first + h) as usize] = sum;
    }
}

/// The half of word `at` that entry `odd` is, in the lower half of a word.
#[cube]
pub(super) fn half_word(shared: &Shared<[u32]>, at: u32, odd: u32) -> u32 {
    (shared[at as usize] >> (16u32 * odd)) & 0xFFFFu32
}
