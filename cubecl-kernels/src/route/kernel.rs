//! Device code: the choice of each token, and a counting sort of the slots by expert.
//!
//! # Rejected
//! - A cube a token, whose units each count how many experts beat theirs: 256 units go through 256
//!   keys twice and wait for each other, where one unit goes through them once; a software renderer
//!   runs a barrier as a switch between coroutines.
//! - Rows by atomic counters: their order within an expert would be chance.
//! - A radix sort of slots: with at most some hundred experts, a unit for each of them and each run of
//!   slots reads every slot once an expert, and every unit of a cube reads the same one.

// A condition that is decided when the kernel is compiled stays outside one that a unit decides.
#![allow(clippy::collapsible_if)]

use crate::definition::{CODES_A_WORD, GroupScore, TILE};
use crate::device::codec::INFINITY_BITS;
use cubecl::prelude::*;

/// The key of NaN, below that of every number; 0 is no key.
const NAN_KEY: u32 = 1;
/// The keys of minus and plus infinity.
const LEAST_KEY: u32 = !0xFF80_0000;
/// Slots of a run, which a unit goes through.
pub(super) const RUN: u32 = 256;
/// Rows that share a word of transposed codes, and a scale.
const WORD: u32 = CODES_A_WORD as u32;
const BLOCK: u32 = TILE as u32;

/// What a choice is made by, fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Choice {
    pub(super) top_k: u32,
    pub(super) groups: u32,
    pub(super) kept_groups: u32,
    pub(super) group_score: GroupScore,
    /// Whether scores have a bias.
    pub(super) biased: bool,
}

/// Keys and indices of the best so far, from the best to the worst; key 0 where there is none.
#[derive(CubeType)]
struct Best {
    keys: Array<u32>,
    indices: Array<u32>,
}

/// A number that orders FP32 numbers as they are, both zeros alike, and puts NaN behind them all.
#[cube]
fn key(bits: u32) -> u32 {
    let magnitude = bits & 0x7FFF_FFFFu32;
    let negative = bits >> 31u32 == 1u32 && magnitude != 0u32;
    let number = select(negative, !bits, magnitude | 0x8000_0000u32);
    select(magnitude > INFINITY_BITS, NAN_KEY.runtime(), number)
}

/// The bits of the number that a key is of.
#[cube]
fn bits_of(key: u32) -> u32 {
    select(key >> 31u32 == 1u32, key & 0x7FFF_FFFFu32, !key)
}

/// The key of `score + bias`, without a sum where one of them is no finite number.
#[cube]
fn biased_key(score: u32, bias: u32) -> u32 {
    let infinite_score = (score & 0x7FFF_FFFFu32) >= INFINITY_BITS;
    let infinite_bias = (bias & 0x7FFF_FFFFu32) >= INFINITY_BITS;
    let finite = !infinite_score && !infinite_bias;
    let sum = u32::reinterpret(
        f32::reinterpret(select(finite, score, 0u32))
            + f32::reinterpret(select(finite, bias, 0u32)),
    );
    let nan = (score & 0x7FFF_FFFFu32) > INFINITY_BITS
        || (bias & 0x7FFF_FFFFu32) > INFINITY_BITS
        || (infinite_score && infinite_bias && score != bias);
    let sum = select(finite, sum, select(infinite_score, score, bias));
    select(nan, NAN_KEY.runtime(), key(sum))
}

#[cube]
fn best(#[comptime] count: u32) -> Best {
    let mut keys = Array::<u32>::new(comptime!(count as usize));
    let mut indices = Array::<u32>::new(comptime!(count as usize));
    #[unroll]
    for i in 0..count as usize {
        keys[i] = 0u32;
        indices[i] = 0u32;
    }
    Best { keys, indices }
}

/// Puts an index where its key belongs, behind those of equal keys, which came before it.
#[cube]
fn insert(best: &mut Best, key: u32, index: u32, #[comptime] count: u32) {
    #[unroll]
    for i in 0..count {
        let place = comptime!((count - 1 - i) as usize);
        let held_key = best.keys[place];
        let held_index = best.indices[place];
        let beats = key > held_key;
        if comptime!(i > 0) {
            // What is beaten makes room; the last one has none.
            let next = comptime!((count - i) as usize);
            best.keys[next] = select(beats, held_key, best.keys[next]);
            best.indices[next] = select(beats, held_index, best.indices[next]);
        }
        best.keys[place] = select(beats, key, held_key);
        best.indices[place] = select(beats, index, held_index);
    }
}

/// The key of the score of a group whose two best numbers have these keys.
#[cube]
fn group_key(first: u32, second: u32, #[comptime] two: bool) -> u32 {
    if comptime!(two) { biased_key(bits_of(first), bits_of(second)) } else { first }
}

/// The experts of each token in ascending order, a token a unit.
///
/// # Shapes
/// As bits: `scores` `[tokens, experts]`, `bias` `[experts]`; `choices` `[tokens, top_k]`.
#[cube(launch_unchecked)]
pub(super) fn choose(
    scores: &[u32],
    bias: &[u32],
    choices: &mut [u32],
    tokens: u32,
    experts: u32,
    #[comptime] choice: Choice,
) {
    let token = ABSOLUTE_POS as u32;
    if token < tokens {
        let start = token * experts;
        let limited = comptime!(choice.kept_groups < choice.groups);
        let groups = comptime!(if limited { choice.groups } else { 1 });
        let size = experts / groups;
        let mut kept = best(comptime!(if limited { choice.kept_groups } else { 1 }));
        if comptime!(limited) {
            let two = comptime!(matches!(choice.group_score, GroupScore::BestTwo));
            for group in 0..groups {
                let mut first = LEAST_KEY.runtime();
                let mut second = LEAST_KEY.runtime();
                for e in group * size..(group + 1u32) * size {
                    let key = key_of(scores, bias, start, e, choice.biased);
                    let is_first = key > first;
                    second = select(is_first, first, select(key > second, key, second));
                    first = select(is_first, key, first);
                }
                // A group of one expert has that one's score.
                let of_two = group_key(first, second, two);
                let key = select(size > 1u32, of_two, first);
                insert(&mut kept, key, group, comptime!(choice.kept_groups));
            }
        }
        let mut chosen = best(comptime!(choice.top_k));
        for group in 0..groups {
            let mut open = true.runtime();
            if comptime!(limited) {
                open = false.runtime();
                #[unroll]
                for i in 0..choice.kept_groups as usize {
                    open = open || kept.indices[i] == group;
                }
            }
            for e in group * size..(group + 1u32) * size {
                let own = key_of(scores, bias, start, e, choice.biased);
                let key = select(open, own, LEAST_KEY.runtime());
                insert(&mut chosen, key, e, comptime!(choice.top_k));
            }
        }
        // In ascending order: an expert's place is the number of those before it.
        #[unroll]
        for i in 0..choice.top_k as usize {
            let mut place = 0u32;
            #[unroll]
            for j in 0..choice.top_k as usize {
                place += select(chosen.indices[j] < chosen.indices[i], 1u32, 0u32);
            }
            choices[(token * choice.top_k + place) as usize] = chosen.indices[i];
        }
    }
}

#[cube]
fn key_of(scores: &[u32], bias: &[u32], start: u32, e: u32, #[comptime] biased: bool) -> u32 {
    let score = scores[(start + e) as usize];
    if comptime!(biased) { biased_key(score, bias[e as usize]) } else { key(score) }
}

/// How many slots of each run of `length` slots each expert has, a run and expert a unit.
///
/// # Shapes
/// `choices` `[slots]`; `counts` `[runs, experts]`, `total` numbers.
#[cube(launch_unchecked)]
pub(super) fn count_runs(
    choices: &[u32],
    counts: &mut [u32],
    total: u32,
    slots: u32,
    experts: u32,
    length: u32,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let expert = place % experts;
        let first = place / experts * length;
        let mut count = 0u32;
        for slot in first..smaller(first + length, slots) {
            count += select(choices[slot as usize] == expert, 1u32, 0u32);
        }
        counts[place as usize] = count;
    }
}

/// Makes of the counts of each run the rows of the expert in the runs before it, and their sum; an
/// expert a unit.
///
/// # Shapes
/// `counts` `[runs, experts]`; `loads` `[experts]`.
#[cube(launch_unchecked)]
pub(super) fn sum_runs(counts: &mut [u32], loads: &mut [u32], runs: u32, experts: u32) {
    let expert = ABSOLUTE_POS as u32;
    if expert < experts {
        let mut sum = 0u32;
        for run in 0..runs {
            let place = (run * experts + expert) as usize;
            let own = counts[place];
            counts[place] = sum;
            sum += own;
        }
        loads[expert as usize] = sum;
    }
}

/// Where each expert's rows, and their words and tiles once they are transposed, begin; a bound a
/// unit.
///
/// # Shapes
/// `loads` `[experts]`; `table` `[3, experts + 1]`: offsets, first words, first tiles.
#[cube(launch_unchecked)]
pub(super) fn bounds(loads: &[u32], table: &mut [u32], experts: u32) {
    let expert = ABSOLUTE_POS as u32;
    let stride = experts + 1u32;
    if expert < stride {
        let mut rows = 0u32;
        let mut words = 0u32;
        let mut tiles = 0u32;
        for before in 0..expert {
            let own = loads[before as usize];
            rows += own;
            words += own.div_ceil(WORD);
            tiles += own.div_ceil(BLOCK);
        }
        table[expert as usize] = rows;
        table[(stride + expert) as usize] = words;
        table[(2u32 * stride + expert) as usize] = tiles;
    }
}

/// The row of each slot and the token and slot of each row, a run and expert a unit.
///
/// # Shapes
/// `choices` `[slots]`, `before` and `table` as [`sum_runs`] and [`bounds`] leave them;
/// `row_of_slot`, `token_of_row`, `slot_of_row` `[slots]`; `total` runs and experts.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn scatter(
    choices: &[u32],
    before: &[u32],
    table: &[u32],
    row_of_slot: &mut [u32],
    token_of_row: &mut [u32],
    slot_of_row: &mut [u32],
    total: u32,
    slots: u32,
    experts: u32,
    top_k: u32,
    #[comptime] length: u32,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let expert = place % experts;
        let first = place / experts * length;
        let mut row = table[expert as usize] + before[place as usize];
        for slot in first..smaller(first + length, slots) {
            if choices[slot as usize] == expert {
                row_of_slot[slot as usize] = row;
                token_of_row[row as usize] = slot / top_k;
                slot_of_row[row as usize] = slot;
                row += 1u32;
            }
        }
    }
}

#[cube]
fn smaller(a: u32, b: u32) -> u32 {
    select(a < b, a, b)
}
