//! Device code of attention backward by planes: a block of query rows a plane for `dq`, a block of
//! keys a plane for `dkv` and `dk_rope`.

use super::forward::add_products;
use super::place::{Groups, block_of, keys, mixed, outs, part, queries, ropes, words_of};
use crate::attention::gradient::score_gradient;
use crate::attention::kernel::{Sizes, row_base, smaller};
use crate::device::plane_mix::{MIX_WORDS, add_plane_mix, write_mix, zero_mix};
use crate::device::plane_tile::{Entries, LANES, PAIR, PlaneTile, at_most, column_of, zero_sums};
use cubecl::prelude::*;

/// `dq`.
///
/// # Shapes
/// Those of [`query_gradient`](crate::attention::gradient::query_gradient), in words; `planes`
/// blocks of query rows.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn query_gradient_planes(
    q: &[u64],
    kv: &[u64],
    k_rope: &[u64],
    dout: &[u64],
    statistics: &[f32],
    dq: &mut [u64],
    sizes: Sizes,
    scale: f32,
    planes: u32,
    #[comptime] groups: Groups,
    #[comptime] tile: PlaneTile,
) {
    let plane = ABSOLUTE_POS as u32 / LANES;
    if plane < planes {
        let block = block_of(plane, sizes, tile);
        let first = block.first;
        let (queries, keys) = (queries(block, sizes), keys(block, sizes));
        let (ropes, outs) = (ropes(block, sizes), outs(block, sizes));
        let turned = part(queries, sizes.nope);
        let values = part(keys, sizes.nope);
        let all = comptime!(groups.nope + groups.rope);
        let mut mix = zero_mix(all, tile);
        let mut lse = Array::<f32>::new(comptime!((tile.rows / LANES) as usize));
        let mut delta = Array::<f32>::new(comptime!((tile.rows / LANES) as usize));
        #[unroll]
        for t in 0..comptime!(tile.rows / LANES) {
            let row = at_most(first + t * LANES + UNIT_POS_PLANE, sizes.queries - 1u32);
            let place = 2u32 * (row_base(block, sizes) + row);
            lse[t as usize] = statistics[place as usize];
            delta[t as usize] = statistics[(place + 1u32) as usize];
        }
        let count = smaller(sizes.queries - first, comptime!(tile.rows));
        let position = sizes.keys - sizes.queries + first;
        for step in 0..(position + count).div_ceil(comptime!(tile.columns())) {
            let key = step * comptime!(tile.columns());
            let mut ds = zero_sums(tile);
            add_products(q, queries, first, kv, keys, key, sizes.nope, &mut ds, tile);
            add_products(q, turned, first, k_rope, ropes, key, sizes.rope, &mut ds, tile);
            let mut dp = zero_sums(tile);
            add_products(dout, outs, first, kv, values, key, sizes.v, &mut dp, tile);
            #[unroll]
            for i in 0..comptime!(tile.rows) {
                let lse =
                    plane_broadcast(lse[comptime!((i / LANES) as usize)], comptime!(i % LANES));
                let delta =
                    plane_broadcast(delta[comptime!((i / LANES) as usize)], comptime!(i % LANES));
                #[unroll]
                for j in 0..comptime!(tile.each) {
                    let e = comptime!((i * tile.each + j) as usize);
                    let own = column_of(key, comptime!(j / PAIR)) + comptime!(j % PAIR);
                    let visible = own <= position + i;
                    let (_, gradient) =
                        score_gradient(ds.of[e], dp.of[e], lse, delta, scale, visible);
                    ds.of[e] = gradient;
                }
            }
            #[unroll]
            for group in 0..comptime!(groups.nope) {
                let rows = mixed(keys, key, sizes.nope, group);
                add_plane_mix(&ds, kv, rows, &mut mix, group, all, tile);
            }
            #[unroll]
            for group in 0..comptime!(groups.rope) {
                let rows = mixed(ropes, key, sizes.rope, group);
                let place = comptime!(groups.nope + group);
                add_plane_mix(&ds, k_rope, rows, &mut mix, place, all, tile);
            }
        }
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            if i < count {
                let at = queries.base + (first + i) * queries.step;
                write_parts(&mix, dq, at, sizes.nope, i, 0u32, groups.nope, all);
                let at = at + sizes.nope;
                write_parts(&mix, dq, at, sizes.rope, i, groups.nope, groups.rope, all);
            }
        }
    }
}

/// Writes `count` groups of row `i` from number `from` on, which are `width` words, at `at`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn write_parts(
    mix: &Entries,
    out: &mut [u64],
    at: u32,
    width: u32,
    #[comptime] i: u32,
    #[comptime] from: u32,
    #[comptime] count: u32,
    #[comptime] all: u32,
) {
    #[unroll]
    for group in 0..count {
        let at = at + comptime!(group * MIX_WORDS);
        let words = words_of(width, group);
        write_mix(mix, 1.0f32, out, at, words, i, comptime!(from + group), all);
    }
}

/// `dkv`, and each head's part of `dk_rope`.
///
/// # Shapes
/// Those of [`key_gradient`](crate::attention::gradient::key_gradient), in words; `planes` blocks
/// of keys.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn key_gradient_planes(
    q: &[u64],
    kv: &[u64],
    k_rope: &[u64],
    dout: &[u64],
    statistics: &[f32],
    dkv: &mut [u64],
    rope_parts: &mut [u64],
    sizes: Sizes,
    scale: f32,
    planes: u32,
    #[comptime] groups: Groups,
    #[comptime] tile: PlaneTile,
) {
    let plane = ABSOLUTE_POS as u32 / LANES;
    if plane < planes {
        let block = block_of(plane, sizes, tile);
        let first = block.first;
        let (queries, keys) = (queries(block, sizes), keys(block, sizes));
        let (ropes, outs) = (ropes(block, sizes), outs(block, sizes));
        let turned = part(queries, sizes.nope);
        let values = part(keys, sizes.nope);
        let all = comptime!(groups.v + groups.nope + groups.rope);
        let mut mix = zero_mix(all, tile);
        // Keys before the first query's position are seen by every query.
        let prefix = sizes.keys - sizes.queries;
        let columns = comptime!(tile.columns());
        let start = select(first > prefix, (first - prefix) / columns, 0u32);
        for step in start..sizes.queries.div_ceil(columns) {
            let query = step * columns;
            let mut p = zero_sums(tile);
            add_products(kv, keys, first, q, queries, query, sizes.nope, &mut p, tile);
            add_products(k_rope, ropes, first, q, turned, query, sizes.rope, &mut p, tile);
            let mut ds = zero_sums(tile);
            add_products(kv, values, first, dout, outs, query, sizes.v, &mut ds, tile);
            #[unroll]
            for j in 0..comptime!(tile.each) {
                let own = column_of(query, comptime!(j / PAIR)) + comptime!(j % PAIR);
                let row = at_most(own, sizes.queries - 1u32);
                let place = 2u32 * (row_base(block, sizes) + row);
                let lse = statistics[place as usize];
                let delta = statistics[(place + 1u32) as usize];
                #[unroll]
                for i in 0..comptime!(tile.rows) {
                    let e = comptime!((i * tile.each + j) as usize);
                    let visible = own < sizes.queries && first + i <= prefix + own;
                    let (weight, gradient) =
                        score_gradient(p.of[e], ds.of[e], lse, delta, scale, visible);
                    p.of[e] = weight;
                    ds.of[e] = gradient;
                }
            }
            #[unroll]
            for group in 0..comptime!(groups.v) {
                let rows = mixed(outs, query, sizes.v, group);
                add_plane_mix(&p, dout, rows, &mut mix, group, all, tile);
            }
            #[unroll]
            for group in 0..comptime!(groups.nope) {
                let rows = mixed(queries, query, sizes.nope, group);
                let place = comptime!(groups.v + group);
                add_plane_mix(&ds, q, rows, &mut mix, place, all, tile);
            }
            #[unroll]
            for group in 0..comptime!(groups.rope) {
                let rows = mixed(turned, query, sizes.rope, group);
                let place = comptime!(groups.v + groups.nope + group);
                add_plane_mix(&ds, q, rows, &mut mix, place, all, tile);
            }
        }
        let count = smaller(sizes.keys - first, comptime!(tile.rows));
        let parts = (block.sequence * sizes.keys * sizes.heads + block.head) * sizes.rope;
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            if i < count {
                let key = first + i;
                let at = keys.base + key * keys.step;
                let (v, nope) = (groups.v, groups.nope);
                write_parts(&mix, dkv, at + sizes.nope, sizes.v, i, 0u32, v, all);
                write_parts(&mix, dkv, at, sizes.nope, i, v, nope, all);
                let at = parts + key * sizes.heads * sizes.rope;
                let from = comptime!(groups.v + groups.nope);
                write_parts(&mix, rope_parts, at, sizes.rope, i, from, groups.rope, all);
            }
        }
    }
}
