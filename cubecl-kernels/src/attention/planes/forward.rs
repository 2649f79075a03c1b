//! Device code of attention forward: a block of query rows of one head a plane, keys block by
//! block, the softmax kept running.

use super::place::{Groups, Strip, block_of, keys, mixed, outs, part, queries, ropes, words_of};
use crate::attention::kernel::{LOWEST, Sizes, row_base, smaller};
use crate::device::plane_mix::{
    MIX_EACH, MIX_WORDS, add_plane_mix, plane_largest, plane_total, write_mix, zero_mix,
};
use crate::device::plane_tile::{
    Entries, PAIR, PlaneTile, add_plane_dots, column_lines, column_of, row_lines, zero_sums,
};
use cubecl::prelude::*;

/// Adds the products of lines of `a` from `row` on and of `b` from `column` on, over `width` words.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_products(
    a: &[u64],
    a_strip: Strip,
    row: u32,
    b: &[u64],
    b_strip: Strip,
    column: u32,
    width: u32,
    sums: &mut Entries,
    #[comptime] tile: PlaneTile,
) {
    let a_lines = row_lines(a_strip.base, row, a_strip.end, a_strip.step, tile);
    let b_lines = column_lines(b_strip.base, column, b_strip.end, b_strip.step, tile);
    add_plane_dots(a, &a_lines, 0u32, b, &b_lines, 0u32, width * PAIR, sums, tile);
}

/// A number a row.
#[cube]
fn by_row(x: f32, #[comptime] tile: PlaneTile) -> Entries {
    let mut of = Array::<f32>::new(comptime!(tile.rows as usize));
    #[unroll]
    for i in 0..comptime!(tile.rows as usize) {
        of[i] = x;
    }
    Entries { of }
}

/// As [`attend`](crate::attention::kernel::attend), a block of rows a plane.
///
/// # Shapes
/// Those of [`attend`](crate::attention::kernel::attend), in words; `planes` blocks.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn attend_planes(
    q: &[u64],
    kv: &[u64],
    k_rope: &[u64],
    out: &mut [u64],
    lse: &mut [f32],
    sizes: Sizes,
    scale: f32,
    planes: u32,
    #[comptime] groups: Groups,
    #[comptime] tile: PlaneTile,
) {
    let plane = ABSOLUTE_POS as u32 / crate::device::plane_tile::LANES;
    if plane < planes {
        let block = block_of(plane, sizes, tile);
        let first = block.first;
        let (queries, keys, ropes) =
            (queries(block, sizes), keys(block, sizes), ropes(block, sizes));
        let turned = part(queries, sizes.nope);
        let values = part(keys, sizes.nope);
        let mut largest = by_row(LOWEST.runtime(), tile);
        let mut total = by_row(0.0f32, tile);
        let mut mix = zero_mix(groups.v, tile);
        let count = smaller(sizes.queries - first, comptime!(tile.rows));
        let position = sizes.keys - sizes.queries + first;
        for step in 0..(position + count).div_ceil(comptime!(tile.columns())) {
            let key = step * comptime!(tile.columns());
            let mut sums = zero_sums(tile);
            add_products(q, queries, first, kv, keys, key, sizes.nope, &mut sums, tile);
            add_products(q, turned, first, k_rope, ropes, key, sizes.rope, &mut sums, tile);
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                let row = i as usize;
                let before = largest.of[row];
                let mut now = before;
                #[unroll]
                for j in 0..comptime!(tile.each) {
                    let e = comptime!((i * tile.each + j) as usize);
                    let own = column_of(key, comptime!(j / PAIR)) + comptime!(j % PAIR);
                    let score = select(own <= position + i, sums.of[e] * scale, LOWEST.runtime());
                    sums.of[e] = score;
                    now = select(score > now, score, now);
                }
                now = plane_largest(now);
                let factor = (before - now).exp();
                let mut sum = total.of[row] * factor;
                #[unroll]
                for j in 0..comptime!(tile.each) {
                    let e = comptime!((i * tile.each + j) as usize);
                    let own = column_of(key, comptime!(j / PAIR)) + comptime!(j % PAIR);
                    let weight = select(own <= position + i, (sums.of[e] - now).exp(), 0.0f32);
                    sums.of[e] = weight;
                    sum += weight;
                }
                largest.of[row] = now;
                total.of[row] = sum;
                #[unroll]
                for c in 0..comptime!(groups.v * MIX_EACH) {
                    let e = comptime!((i * groups.v * MIX_EACH + c) as usize);
                    mix.of[e] *= factor;
                }
            }
            #[unroll]
            for group in 0..comptime!(groups.v) {
                let rows = mixed(values, key, sizes.v, group);
                add_plane_mix(&sums, kv, rows, &mut mix, group, groups.v, tile);
            }
        }
        let outs = outs(block, sizes);
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            if i < count {
                let sum = plane_total(total.of[i as usize]);
                if UNIT_POS_PLANE == 0u32 {
                    let place = (row_base(block, sizes) + first + i) as usize;
                    lse[place] = largest.of[i as usize] + sum.ln();
                }
                #[unroll]
                for group in 0..comptime!(groups.v) {
                    let at = outs.base + (first + i) * outs.step + comptime!(group * MIX_WORDS);
                    let words = words_of(sizes.v, group);
                    write_mix(&mix, 1.0f32 / sum, out, at, words, i, group, groups.v);
                }
            }
        }
    }
}
