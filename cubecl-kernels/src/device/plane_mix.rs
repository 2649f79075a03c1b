//! Device code: sums over the columns of a plane's tile, which are dealt out to its units.

use super::plane_tile::{Entries, LANES, PAIR, PlaneTile, at_most, pack, unpack};
use cubecl::prelude::*;

/// Words of each row that a plane sums, two a unit, and the numbers of a unit.
pub(crate) const MIX_WORDS: u32 = 2 * LANES;
pub(crate) const MIX_EACH: u32 = 4;

/// The largest of the units' numbers, for every unit.
#[cube]
pub(crate) fn plane_largest(x: f32) -> f32 {
    let mut largest = x;
    #[unroll]
    for step in 0..3u32 {
        let other = plane_shuffle(largest, UNIT_POS_PLANE ^ comptime!(1u32 << step));
        largest = select(other > largest, other, largest);
    }
    largest
}

/// The sum of the units' numbers, the same for every unit.
#[cube]
pub(crate) fn plane_total(x: f32) -> f32 {
    let mut total = x;
    #[unroll]
    for step in 0..3u32 {
        total += plane_shuffle(total, UNIT_POS_PLANE ^ comptime!(1u32 << step));
    }
    total
}

/// The rows of a matrix that are mixed: the columns of a tile, and where their words are.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct Mixed {
    /// Where row 0 begins, and how far apart rows are, in words.
    pub(crate) base: u32,
    pub(crate) step: u32,
    /// The row of the tile's first column, and the end of the rows.
    pub(crate) first: u32,
    pub(crate) end: u32,
    /// Words of a row, at most [`MIX_WORDS`].
    pub(crate) words: u32,
}

/// `sums[i, d] += sum over the tile's columns j of weights[i, j] x[j, d]`, unit after unit; the
/// sums of row `i` of a unit are those from `MIX_EACH (i groups + group)` on.
#[cube]
pub(crate) fn add_plane_mix(
    weights: &Entries,
    x: &[u64],
    rows: Mixed,
    sums: &mut Entries,
    #[comptime] group: u32,
    #[comptime] groups: u32,
    #[comptime] tile: PlaneTile,
) {
    for lane in 0..LANES {
        #[unroll]
        for j in 0..comptime!(tile.each) {
            let row =
                rows.first + (comptime!(j / PAIR * LANES) + lane) * PAIR + comptime!(j % PAIR);
            let at = rows.base + at_most(row, rows.end - 1u32) * rows.step;
            let last = rows.words - 1u32;
            let (a, b) = unpack(x[(at + at_most(UNIT_POS_PLANE, last)) as usize]);
            let (c, d) = unpack(x[(at + at_most(LANES + UNIT_POS_PLANE, last)) as usize]);
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                let weight =
                    plane_shuffle(weights.of[comptime!((i * tile.each + j) as usize)], lane);
                let e = comptime!(((i * groups + group) * MIX_EACH) as usize);
                sums.of[e] = fma(weight, a, sums.of[e]);
                sums.of[comptime!(e + 1)] = fma(weight, b, sums.of[comptime!(e + 1)]);
                sums.of[comptime!(e + 2)] = fma(weight, c, sums.of[comptime!(e + 2)]);
                sums.of[comptime!(e + 3)] = fma(weight, d, sums.of[comptime!(e + 3)]);
            }
        }
    }
}

/// Sums of zero for [`add_plane_mix`].
#[cube]
pub(crate) fn zero_mix(#[comptime] groups: u32, #[comptime] tile: PlaneTile) -> Entries {
    let mut of = Array::<f32>::new(comptime!((tile.rows * groups * MIX_EACH) as usize));
    #[unroll]
    for e in 0..comptime!((tile.rows * groups * MIX_EACH) as usize) {
        of[e] = 0.0f32;
    }
    Entries { of }
}

/// Writes the sums of row `i` times `factor` to the `words` of `out` from `at` on.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn write_mix(
    sums: &Entries,
    factor: f32,
    out: &mut [u64],
    at: u32,
    words: u32,
    #[comptime] i: u32,
    #[comptime] group: u32,
    #[comptime] groups: u32,
) {
    #[unroll]
    for w in 0..PAIR {
        let word = w * LANES + UNIT_POS_PLANE;
        if word < words {
            let e = comptime!(((i * groups + group) * MIX_EACH + w * PAIR) as usize);
            out[(at + word) as usize] =
                pack(sums.of[e] * factor, sums.of[comptime!(e + 1)] * factor);
        }
    }
}
