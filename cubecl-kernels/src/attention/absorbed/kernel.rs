//! Device code: queries into latents, softmax and mix of latents by parts of the keys, the parts
//! together, and the mixes into values.

use crate::attention::kernel::LOWEST;
use crate::device::tile::{ByRow, EACH, Loads, Tile, add_dots, by_row, lines, mix_into, zero_tile};
use cubecl::prelude::*;

/// The sizes of an attention over latents; `rank`, `nope` and `rope` are counted in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct LatentSizes {
    pub(super) batch: u32,
    pub(super) keys: u32,
    pub(super) heads: u32,
    /// Rows of a sequence: its queries' heads.
    pub(super) rows: u32,
    /// Keys before the first query's own.
    pub(super) prefix: u32,
    pub(super) rank: u32,
    pub(super) nope: u32,
    pub(super) rope: u32,
    pub(super) v: u32,
    /// Keys of a part, and how many parts there are.
    pub(super) part: u32,
    pub(super) parts: u32,
}

/// `absorbed[r] = q_nope[r] kv_b[head of r, ..nope]`, a vector a unit.
///
/// # Shapes
/// `q` `[batch, queries, heads, nope + rope]`, `kv_b` `[heads, nope + v, rank]`, `absorbed`
/// `[batch, queries, heads, rank]`, in vectors of `width`; `units` vectors.
#[cube(launch_unchecked)]
pub(super) fn absorb<N: Size>(
    q: &[Vector<f32, N>],
    kv_b: &[Vector<f32, N>],
    absorbed: &mut [Vector<f32, N>],
    sizes: LatentSizes,
    units: u32,
    #[comptime] width: u32,
) {
    let width = comptime!(width as usize);
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let row = unit / sizes.rank;
        let weights = row % sizes.heads * (sizes.nope * comptime!(width as u32) + sizes.v);
        let at = row * (sizes.nope + sizes.rope);
        let mut sums = Array::<f32>::new(width);
        #[unroll]
        for t in 0..width {
            sums[t] = 0.0f32;
        }
        for d in 0..sizes.nope {
            let query = q[(at + d) as usize];
            #[unroll]
            for s in 0..width {
                let line = weights + d * comptime!(width as u32) + comptime!(s as u32);
                let weight = kv_b[(line * sizes.rank + unit % sizes.rank) as usize];
                #[unroll]
                for t in 0..width {
                    sums[t] = fma(query.extract(s), weight.extract(t), sums[t]);
                }
            }
        }
        let mut result = Vector::<f32, N>::zero();
        #[unroll]
        for t in 0..width {
            result.insert(t, sums[t]);
        }
        absorbed[unit as usize] = result;
    }
}

/// The mix of latents of a block of rows over one part of the keys, and each row's largest score and
/// sum of exponentials beside it.
///
/// # Shapes
/// `absorbed` and `q` as [`absorb`] has them, `latents` `[batch, keys, rank]`, `k_rope`
/// `[batch, keys, rope]`, `mixes` `[parts, batch, rows, rank]`, in vectors of `width`; `states`
/// `[parts, batch, rows, 2]`; `units` blocks of [`EACH`] rows of all parts.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn attend_latents<N: Size>(
    absorbed: &[Vector<f32, N>],
    q: &[Vector<f32, N>],
    latents: &[Vector<f32, N>],
    k_rope: &[Vector<f32, N>],
    mixes: &mut [Vector<f32, N>],
    states: &mut [f32],
    sizes: LatentSizes,
    scale: f32,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let blocks = sizes.rows.div_ceil(EACH);
        let first = unit % blocks * EACH;
        let sequence = unit / blocks % sizes.batch;
        let part = unit / blocks / sizes.batch;
        let (rank, rope) = (sizes.rank, sizes.rope);
        let qk = sizes.nope + rope;
        let of_sequence = sequence * sizes.rows;
        let own = lines(of_sequence * rank, first, sizes.rows, rank);
        let turned = lines(of_sequence * qk + sizes.nope, first, sizes.rows, qk);
        let results = (part * sizes.batch + sequence) * sizes.rows;
        let out = lines(results * rank, first, sizes.rows, rank);
        let count = smaller(sizes.rows - first, EACH);
        let mut largest = by_row(LOWEST.runtime());
        let mut sum = by_row(0.0f32);
        let mut shrink = by_row(0.0f32);
        let start = part * sizes.part;
        let last = sizes.prefix + (first + count - 1u32) / sizes.heads + 1u32;
        let end = smaller(start + sizes.part, last);
        let steps = select(end > start, (end - start).div_ceil(EACH), 0u32);
        for step in 0..steps {
            let key = start + step * EACH;
            let keys = lines(sequence * sizes.keys * rank, key, sizes.keys, rank);
            let ropes = lines(sequence * sizes.keys * rope, key, sizes.keys, rope);
            let loads = comptime!(Loads::depths(width));
            let mut tile = zero_tile();
            let (rank_entries, rope_entries) = (rank * width, rope * width);
            add_dots(absorbed, &own, 0u32, latents, &keys, 0u32, rank_entries, &mut tile, loads);
            add_dots(q, &turned, 0u32, k_rope, &ropes, 0u32, rope_entries, &mut tile, loads);
            softmax(&mut tile, &mut largest, &mut sum, &mut shrink, sizes, first, key, scale);
            let fresh = step == 0u32;
            mix_into(&tile, &shrink, latents, &keys, mixes, &out, rank, count, fresh, width);
        }
        #[unroll]
        for i in 0..EACH {
            if i < count {
                let state = 2u32 * (results + first + i);
                states[state as usize] = largest.of[i as usize];
                states[(state + 1u32) as usize] = sum.of[i as usize];
            }
        }
    }
}

/// Scores become `exp(scale score - largest so far)`, zero where a row does not see the key; sums
/// and `shrink`, the factor of what was summed before, go along.
#[cube]
#[allow(clippy::too_many_arguments)]
fn softmax(
    tile: &mut Tile,
    largest: &mut ByRow,
    sum: &mut ByRow,
    shrink: &mut ByRow,
    sizes: LatentSizes,
    first: u32,
    key: u32,
    scale: f32,
) {
    #[unroll]
    for i in 0..EACH {
        let seen = sizes.prefix + (first + i) / sizes.heads + 1u32;
        let before = largest.of[i as usize];
        let mut now = before;
        #[unroll]
        for j in 0..EACH {
            let e = comptime!((i * EACH + j) as usize);
            let score = select(key + j < seen, tile.sums[e] * scale, LOWEST.runtime());
            tile.sums[e] = score;
            now = select(score > now, score, now);
        }
        let factor = (before - now).exp();
        let mut total = sum.of[i as usize] * factor;
        #[unroll]
        for j in 0..EACH {
            let e = comptime!((i * EACH + j) as usize);
            let weight = select(key + j < seen, (tile.sums[e] - now).exp(), 0.0f32);
            tile.sums[e] = weight;
            total += weight;
        }
        largest.of[i as usize] = now;
        sum.of[i as usize] = total;
        shrink.of[i as usize] = factor;
    }
}

/// The parts' mixes together, a vector a unit.
///
/// # Shapes
/// `mixes` and `states` as [`attend_latents`] has them, `mix` `[batch, rows, rank]` in vectors of
/// `width`; `units` vectors.
#[cube(launch_unchecked)]
pub(super) fn merge_parts<N: Size>(
    mixes: &[Vector<f32, N>],
    states: &[f32],
    mix: &mut [Vector<f32, N>],
    sizes: LatentSizes,
    units: u32,
    #[comptime] width: u32,
) {
    let width = comptime!(width as usize);
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let row = unit / sizes.rank;
        let rows = sizes.batch * sizes.rows;
        let mut largest = LOWEST.runtime();
        for part in 0..sizes.parts {
            let own = states[(2u32 * (part * rows + row)) as usize];
            largest = select(own > largest, own, largest);
        }
        let mut total = 0.0f32;
        let mut sums = Array::<f32>::new(width);
        #[unroll]
        for t in 0..width {
            sums[t] = 0.0f32;
        }
        for part in 0..sizes.parts {
            let state = 2u32 * (part * rows + row);
            let sum = states[(state + 1u32) as usize];
            // A part of which the row sees no key has written no mix.
            if sum != 0.0f32 {
                let factor = (states[state as usize] - largest).exp();
                total = fma(sum, factor, total);
                let vector = mixes[(part * units + unit) as usize];
                #[unroll]
                for t in 0..width {
                    sums[t] = fma(vector.extract(t), factor, sums[t]);
                }
            }
        }
        let mut result = Vector::<f32, N>::zero();
        #[unroll]
        for t in 0..width {
            result.insert(t, sums[t] / total);
        }
        mix[unit as usize] = result;
    }
}

/// `out[r, j] = mix[r] . kv_b[head of r, nope + j]`, an entry a unit.
///
/// # Shapes
/// `mix` as [`merge_parts`] has it, `kv_b` as [`absorb`], `out` `[batch, queries, heads, v]`;
/// `units` entries.
#[cube(launch_unchecked)]
pub(super) fn expand_values<N: Size>(
    mix: &[Vector<f32, N>],
    kv_b: &[Vector<f32, N>],
    out: &mut [f32],
    sizes: LatentSizes,
    units: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let row = unit / sizes.v;
        let nope = sizes.nope * width;
        let line = row % sizes.heads * (nope + sizes.v) + nope + unit % sizes.v;
        let mut sum = 0.0f32;
        for d in 0..sizes.rank {
            let latent = mix[(row * sizes.rank + d) as usize];
            let weight = kv_b[(line * sizes.rank + d) as usize];
            #[unroll]
            for t in 0..comptime!(width as usize) {
                sum = fma(latent.extract(t), weight.extract(t), sum);
            }
        }
        out[unit as usize] = sum;
    }
}

#[cube]
fn smaller(a: u32, b: u32) -> u32 {
    select(a < b, a, b)
}
