//! Device code of attention forward: a block of query rows of one head a unit, keys block by block,
//! the softmax kept running.
//!
//! The units of a plane take the same rows of different heads, so that they see as many keys.
//!
//! # Rejected
//! - Scores in shared memory, the rows of a cube's units side by side: two barriers a block of keys,
//!   each of which costs a software renderer what is in its registers.
//! - A matrix of scores for some query rows at a time: half as many loads there, and traffic that a
//!   device with caches of its own has no room for.

use crate::device::tile::{
    ByRow, EACH, Lines, Loads, Tile, add_dots, by_row, lines, mix_into, moved, zero_tile,
};
use cubecl::prelude::*;

/// Below every score; masked ones take it.
pub(super) const LOWEST: f32 = -3.0e38;

/// The sizes of an attention; widths are counted in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Sizes {
    pub(super) batch: u32,
    pub(super) queries: u32,
    pub(super) keys: u32,
    pub(super) heads: u32,
    pub(super) nope: u32,
    pub(super) rope: u32,
    pub(super) v: u32,
}

/// A block of lines of one head of one sequence.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Block {
    pub(super) sequence: u32,
    pub(super) head: u32,
    /// First row of it.
    pub(super) first: u32,
}

/// The block of a unit: heads first, then blocks.
#[cube]
pub(super) fn block_of(unit: u32, sizes: Sizes) -> Block {
    let heads = sizes.batch * sizes.heads;
    let own = unit % heads;
    Block { sequence: own / sizes.heads, head: own % sizes.heads, first: unit / heads * EACH }
}

/// Rows of `q` (or of its gradient) from `first` on.
#[cube]
pub(super) fn query_lines(block: Block, first: u32, sizes: Sizes) -> Lines {
    let width = sizes.nope + sizes.rope;
    let base = (block.sequence * sizes.queries * sizes.heads + block.head) * width;
    lines(base, first, sizes.queries, sizes.heads * width)
}

/// Rows of `kv` from `first` on: a key's part without rotation, then its value.
#[cube]
pub(super) fn key_lines(block: Block, first: u32, sizes: Sizes) -> Lines {
    let width = sizes.nope + sizes.v;
    let base = (block.sequence * sizes.keys * sizes.heads + block.head) * width;
    lines(base, first, sizes.keys, sizes.heads * width)
}

/// Rows of `k_rope` from `first` on, which all heads share.
#[cube]
pub(super) fn rope_lines(block: Block, first: u32, sizes: Sizes) -> Lines {
    lines(block.sequence * sizes.keys * sizes.rope, first, sizes.keys, sizes.rope)
}

/// Rows of the output from `first` on.
#[cube]
pub(super) fn out_lines(block: Block, first: u32, sizes: Sizes) -> Lines {
    let base = (block.sequence * sizes.queries * sizes.heads + block.head) * sizes.v;
    lines(base, first, sizes.queries, sizes.heads * sizes.v)
}

/// Where the first query row of a head lies in what has one number a row, `[batch, heads, queries]`.
#[cube]
pub(super) fn row_base(block: Block, sizes: Sizes) -> u32 {
    (block.sequence * sizes.heads + block.head) * sizes.queries
}

#[cube]
pub(super) fn smaller(a: u32, b: u32) -> u32 {
    select(a < b, a, b)
}

/// Scores of a block of queries and a block of keys, not scaled.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn scores<N: Size>(
    q: &[Vector<f32, N>],
    q_lines: &Lines,
    kv: &[Vector<f32, N>],
    kv_lines: &Lines,
    k_rope: &[Vector<f32, N>],
    k_rope_lines: &Lines,
    sizes: Sizes,
    #[comptime] width: u32,
) -> Tile {
    let loads = comptime!(Loads::depths(width));
    let (nope, rope) = (sizes.nope * width, sizes.rope * width);
    let mut tile = zero_tile();
    add_dots(q, q_lines, 0u32, kv, kv_lines, 0u32, nope, &mut tile, loads);
    let turned = moved(q_lines, sizes.nope);
    add_dots(q, &turned, 0u32, k_rope, k_rope_lines, 0u32, rope, &mut tile, loads);
    tile
}

/// Attention's output and the log of each row's sum of exponentials.
///
/// # Shapes
/// `q` `[batch, queries, heads, nope + rope]`, `kv` `[batch, keys, heads, nope + v]`, `k_rope`
/// `[batch, keys, rope]`, `out` `[batch, queries, heads, v]`, all in vectors of `width`; `lse`
/// `[batch, heads, queries]`; `units` blocks of [`EACH`] query rows.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn attend<N: Size>(
    q: &[Vector<f32, N>],
    kv: &[Vector<f32, N>],
    k_rope: &[Vector<f32, N>],
    out: &mut [Vector<f32, N>],
    lse: &mut [f32],
    sizes: Sizes,
    scale: f32,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let block = block_of(unit, sizes);
        let q_lines = query_lines(block, block.first, sizes);
        let out_lines = out_lines(block, block.first, sizes);
        let mut largest = by_row(LOWEST.runtime());
        let mut sum = by_row(0.0f32);
        let mut shrink = by_row(0.0f32);
        let count = smaller(sizes.queries - block.first, EACH);
        // The position of the first row: it sees the keys up to there.
        let position = sizes.keys - sizes.queries + block.first;
        for step in 0..(position + count).div_ceil(EACH) {
            let key = step * EACH;
            let kv_lines = key_lines(block, key, sizes);
            let k_rope_lines = rope_lines(block, key, sizes);
            let mut tile = scores(q, &q_lines, kv, &kv_lines, k_rope, &k_rope_lines, sizes, width);
            softmax(&mut tile, &mut largest, &mut sum, &mut shrink, position, key, scale);
            let values = moved(&kv_lines, sizes.nope);
            let fresh = step == 0u32;
            mix_into(&tile, &shrink, kv, &values, out, &out_lines, sizes.v, count, fresh, width);
        }
        let base = row_base(block, sizes) + block.first;
        #[unroll]
        for i in 0..EACH {
            let total = sum.of[i as usize];
            shrink.of[i as usize] = 1.0f32 / total;
            if i < count {
                lse[(base + i) as usize] = largest.of[i as usize] + total.ln();
            }
        }
        for d in 0..sizes.v {
            #[unroll]
            for i in 0..EACH {
                if i < count {
                    let place = (out_lines.at[i as usize] + d) as usize;
                    let before = out[place];
                    let mut result = Vector::<f32, N>::zero();
                    #[unroll]
                    for s in 0..width as usize {
                        result.insert(s, before.extract(s) * shrink.of[i as usize]);
                    }
                    out[place] = result;
                }
            }
        }
    }
}

/// Scores become `exp(scale score - largest so far)`, zero where masked; sums and `shrink`, the
/// factor of what was summed before, go along.
#[cube]
fn softmax(
    tile: &mut Tile,
    largest: &mut ByRow,
    sum: &mut ByRow,
    shrink: &mut ByRow,
    position: u32,
    key: u32,
    scale: f32,
) {
    #[unroll]
    for i in 0..EACH {
        let before = largest.of[i as usize];
        let mut now = before;
        #[unroll]
        for j in 0..EACH {
            let e = comptime!((i * EACH + j) as usize);
            let score = select(key + j <= position + i, tile.sums[e] * scale, LOWEST.runtime());
            tile.sums[e] = score;
            now = select(score > now, score, now);
        }
        let factor = (before - now).exp();
        let mut total = sum.of[i as usize] * factor;
        #[unroll]
        for j in 0..EACH {
            let e = comptime!((i * EACH + j) as usize);
            let weight = select(key + j <= position + i, (tile.sums[e] - now).exp(), 0.0f32);
            tile.sums[e] = weight;
            total += weight;
        }
        largest.of[i as usize] = now;
        sum.of[i as usize] = total;
        shrink.of[i as usize] = factor;
    }
}
