//! Device code of attention backward: probabilities again from the log of their sums, a block of
//! query rows a unit for `dq`, a block of keys a unit for `dk` and `dv`, so that nothing is added
//! to by two units.

use super::kernel::{
    Sizes, block_of, key_lines, out_lines, query_lines, rope_lines, row_base, scores, smaller,
};
use crate::device::tile::{EACH, Loads, add_dots, by_row, lines, mix_into, moved, zero_tile};
use cubecl::prelude::*;

/// What backward needs of each query row: the log of its sum of exponentials, and
/// `delta = dout . out`; a row of a head a unit.
///
/// # Shapes
/// `out`, `dout` `[batch, queries, heads, v]` in vectors of `width`, `lse`
/// `[batch, heads, queries]`; `statistics` `[batch, heads, queries, 2]`.
#[cube(launch_unchecked)]
pub(super) fn row_statistics<N: Size>(
    out: &[Vector<f32, N>],
    dout: &[Vector<f32, N>],
    lse: &[f32],
    statistics: &mut [f32],
    sizes: Sizes,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let row = unit % sizes.queries;
        let head = unit / sizes.queries % sizes.heads;
        let sequence = unit / sizes.queries / sizes.heads;
        let at = ((sequence * sizes.queries + row) * sizes.heads + head) * sizes.v;
        let mut delta = 0.0f32;
        for d in 0..sizes.v {
            let value = out[(at + d) as usize];
            let above = dout[(at + d) as usize];
            #[unroll]
            for s in 0..width as usize {
                delta = fma(value.extract(s), above.extract(s), delta);
            }
        }
        statistics[(2u32 * unit) as usize] = lse[unit as usize];
        statistics[(2u32 * unit + 1u32) as usize] = delta;
    }
}

/// `p` and `ds = scale p (dp - delta)` of one score, zero where it is masked.
#[cube]
pub(super) fn score_gradient(
    score: f32,
    dp: f32,
    lse: f32,
    delta: f32,
    scale: f32,
    visible: bool,
) -> (f32, f32) {
    let p = select(visible, (score * scale - lse).exp(), 0.0f32);
    (p, p * (dp - delta) * scale)
}

/// `dq`.
///
/// # Shapes
/// Those of [`attend`](super::kernel::attend), `dout` as its `out`, `statistics` as
/// [`row_statistics`] has them, `dq` as `q`; `units` blocks of [`EACH`] query rows.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn query_gradient<N: Size>(
    q: &[Vector<f32, N>],
    kv: &[Vector<f32, N>],
    k_rope: &[Vector<f32, N>],
    dout: &[Vector<f32, N>],
    statistics: &[f32],
    dq: &mut [Vector<f32, N>],
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
        let rows = lines(2u32 * row_base(block, sizes), block.first, sizes.queries, 2u32);
        let ones = by_row(1.0f32);
        let count = smaller(sizes.queries - block.first, EACH);
        let position = sizes.keys - sizes.queries + block.first;
        for step in 0..(position + count).div_ceil(EACH) {
            let key = step * EACH;
            let kv_lines = key_lines(block, key, sizes);
            let k_rope_lines = rope_lines(block, key, sizes);
            let mut ds = scores(q, &q_lines, kv, &kv_lines, k_rope, &k_rope_lines, sizes, width);
            let values = moved(&kv_lines, sizes.nope);
            let loads = comptime!(Loads::depths(width));
            let v = sizes.v * width;
            let mut dp = zero_tile();
            add_dots(dout, &out_lines, 0u32, kv, &values, 0u32, v, &mut dp, loads);
            #[unroll]
            for i in 0..EACH {
                let row = rows.at[i as usize];
                let lse = statistics[row as usize];
                let delta = statistics[(row + 1u32) as usize];
                #[unroll]
                for j in 0..EACH {
                    let e = comptime!((i * EACH + j) as usize);
                    let visible = key + j <= position + i;
                    let (_, gradient) =
                        score_gradient(ds.sums[e], dp.sums[e], lse, delta, scale, visible);
                    ds.sums[e] = gradient;
                }
            }
            let fresh = step == 0u32;
            let turned = moved(&q_lines, sizes.nope);
            let (nope, rope) = (sizes.nope, sizes.rope);
            mix_into(&ds, &ones, kv, &kv_lines, dq, &q_lines, nope, count, fresh, width);
            mix_into(&ds, &ones, k_rope, &k_rope_lines, dq, &turned, rope, count, fresh, width);
        }
    }
}

/// `dkv`, and each head's part of `dk_rope`.
///
/// # Shapes
/// Those of [`query_gradient`]; `dkv` as `kv`, `rope_parts` `[batch, keys, heads, rope]`; `units`
/// blocks of [`EACH`] keys. There is at least one query.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn key_gradient<N: Size>(
    q: &[Vector<f32, N>],
    kv: &[Vector<f32, N>],
    k_rope: &[Vector<f32, N>],
    dout: &[Vector<f32, N>],
    statistics: &[f32],
    dkv: &mut [Vector<f32, N>],
    rope_parts: &mut [Vector<f32, N>],
    sizes: Sizes,
    scale: f32,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let block = block_of(unit, sizes);
        let kv_lines = key_lines(block, block.first, sizes);
        let k_rope_lines = rope_lines(block, block.first, sizes);
        let values = moved(&kv_lines, sizes.nope);
        let parts_base = (block.sequence * sizes.keys * sizes.heads + block.head) * sizes.rope;
        let parts = lines(parts_base, block.first, sizes.keys, sizes.heads * sizes.rope);
        let ones = by_row(1.0f32);
        let count = smaller(sizes.keys - block.first, EACH);
        // Keys before the first query's position are seen by every query.
        let prefix = sizes.keys - sizes.queries;
        let start = select(block.first > prefix, (block.first - prefix) / EACH, 0u32);
        for step in start..sizes.queries.div_ceil(EACH) {
            let query = step * EACH;
            let q_lines = query_lines(block, query, sizes);
            let out_lines = out_lines(block, query, sizes);
            let rows = lines(2u32 * row_base(block, sizes), query, sizes.queries, 2u32);
            let turned = moved(&q_lines, sizes.nope);
            let loads = comptime!(Loads::depths(width));
            let (nope, rope, v) = (sizes.nope * width, sizes.rope * width, sizes.v * width);
            let mut p = zero_tile();
            add_dots(kv, &kv_lines, 0u32, q, &q_lines, 0u32, nope, &mut p, loads);
            add_dots(k_rope, &k_rope_lines, 0u32, q, &turned, 0u32, rope, &mut p, loads);
            let mut ds = zero_tile();
            add_dots(kv, &values, 0u32, dout, &out_lines, 0u32, v, &mut ds, loads);
            #[unroll]
            for j in 0..EACH {
                let row = rows.at[j as usize];
                let lse = statistics[row as usize];
                let delta = statistics[(row + 1u32) as usize];
                let real = query + j < sizes.queries;
                #[unroll]
                for i in 0..EACH {
                    let e = comptime!((i * EACH + j) as usize);
                    let visible = real && block.first + i <= prefix + query + j;
                    let (weight, gradient) =
                        score_gradient(p.sums[e], ds.sums[e], lse, delta, scale, visible);
                    p.sums[e] = weight;
                    ds.sums[e] = gradient;
                }
            }
            let fresh = step == start;
            let (nope, rope, v) = (sizes.nope, sizes.rope, sizes.v);
            mix_into(&p, &ones, dout, &out_lines, dkv, &values, v, count, fresh, width);
            mix_into(&ds, &ones, q, &q_lines, dkv, &kv_lines, nope, count, fresh, width);
            mix_into(&ds, &ones, q, &turned, rope_parts, &parts, rope, count, fresh, width);
        }
    }
}

/// `dk_rope`, the heads' parts summed in their order; an entry a unit.
///
/// # Shapes
/// `parts` `[rows, heads, rope]`, `sums` `[rows, rope]`, `total` entries.
#[cube(launch_unchecked)]
pub(super) fn sum_heads(parts: &[f32], sums: &mut [f32], heads: u32, rope: u32, total: u32) {
    let unit = ABSOLUTE_POS as u32;
    if unit < total {
        let base = unit / rope * heads * rope + unit % rope;
        let mut sum = 0.0f32;
        for head in 0..heads {
            sum += parts[(base + head * rope) as usize];
        }
        sums[unit as usize] = sum;
    }
}
