//! Device code of attention forward by matrix instructions: sixteen query rows of a head a plane,
//! keys and values block by block through shared memory, the softmax kept running.

use super::block::{
    Place, Target, add_mix, block_of, exponential, line_of, own_column, own_line, place, right_of,
    row_largest, row_room, row_total, write_sums, zeros,
};
use super::copy::{arrived, close_group, fetch, fetch_keys, keys, queries, ropes, values};
use super::form::{Form, SLICE};
use crate::attention::kernel::{Block, LOWEST, Sizes, row_base, smaller};
use crate::device::matrix::fragment::{
    A_WORDS, DEPTH, Exchange, HELD, Left, exchange, load_left, load_right_two, multiply_add,
    pair_rows,
};
use crate::device::tile::Along;
use cubecl::prelude::*;

/// So far below [`LOWEST`] that the exponential of the difference is zero.
const MASKED: f32 = -3.4e38;

/// As [`attend`](crate::attention::kernel::attend), a block of rows a cube.
///
/// # Shapes
/// Packed: `q` `[batch, heads, queries, nope + rope]`, `kv` `[batch, heads, keys, nope + v]`,
/// `k_rope` `[batch, keys, rope]`; `out` and `lse` as [`attend`](crate::attention::kernel::attend)
/// has them; `cubes` blocks.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn attend_matrix(
    q: &[u32],
    kv: &[u32],
    k_rope: &[u32],
    out: &mut [f32],
    lse: &mut [f32],
    sizes: Sizes,
    cubes: u32,
    #[comptime] form: Form,
) {
    let cube = CUBE_POS as u32;
    if cube < cubes {
        let block = block_of(cube, sizes.queries, sizes, true, form);
        let place = place();
        let key_lines = keys(block, sizes, form);
        let (rope_lines, value_lines) = (ropes(block, sizes, form), values(key_lines, form));
        let mut exchange = exchange(comptime!(form.units()), form.unit);
        let mut room = row_room(form);
        // The queries go through the keys' room into registers.
        let mut key_rows = pair_rows(comptime!(form.key_room()));
        let mut value_rows = pair_rows(comptime!((form.block * form.value_stride()) as usize));
        let window = comptime!(form.query_window(form.rows()));
        fetch(q, queries(block, sizes, form), block.first, &mut key_rows, window, form);
        close_group(form);
        arrived(0u32, form);
        let own = own_queries(&key_rows, place, form);
        sync_cube();

        let mut rows =
            Rows { largest: Array::<f32>::new(2usize), total: Array::<f32>::new(2usize) };
        #[unroll]
        for line in 0..2usize {
            rows.largest[line] = LOWEST.runtime();
            rows.total[line] = 0.0f32;
        }
        let mut mix = zeros(comptime!(Form::sums(form.v)));
        let count = smaller(sizes.queries - block.first, comptime!(form.rows()));
        let position = sizes.keys - sizes.queries + block.first;
        let steps = (position + count).div_ceil(comptime!(form.block));
        fetch_keys(kv, key_lines, k_rope, rope_lines, 0u32, &mut key_rows, form.block, form);
        close_group(form);
        fetch(
            kv,
            value_lines,
            0u32,
            &mut value_rows,
            comptime!(form.value_window(form.block)),
            form,
        );
        close_group(form);
        for step in 0..steps {
            let key = step * comptime!(form.block);
            // Of what was asked for the values may still be under way, and after the barrier the
            // next keys.
            arrived(1u32, form);
            let mut scores = zeros(comptime!(form.scores()));
            add_own_scores(&own, &key_rows, place, &mut scores, &mut exchange, form);
            sync_cube();
            if step + 1u32 < steps {
                let next = key + comptime!(form.block);
                fetch_keys(
                    kv,
                    key_lines,
                    k_rope,
                    rope_lines,
                    next,
                    &mut key_rows,
                    form.block,
                    form,
                );
            }
            close_group(form);
            if key + comptime!(form.block - 1) > position {
                mask(&mut scores, position, key, place, form);
            }
            softmax(&mut scores, &mut mix, &mut rows, &mut room, form);
            arrived(1u32, form);
            let v = comptime!(form.value_stride());
            add_mix(&scores, &value_rows, place, &mut mix, &mut exchange, v, form.v, form);
            sync_cube();
            if step + 1u32 < steps {
                let next = key + comptime!(form.block);
                let window = comptime!(form.value_window(form.block));
                fetch(kv, value_lines, next, &mut value_rows, window, form);
            }
            close_group(form);
        }
        write_rows(&mix, &rows, out, lse, &mut room, sizes, block, place, form);
    }
}

/// Of a unit's two rows: the largest score so far, and the sum of its own columns' exponentials.
#[derive(CubeType)]
struct Rows {
    largest: Array<f32>,
    total: Array<f32>,
}

/// The registers of the plane's queries, slice by slice.
#[cube]
fn own_queries(rows: &Shared<[u32]>, place: Place, #[comptime] form: Form) -> Array<u32> {
    let mut own = Array::<u32>::new(comptime!((form.depth() * A_WORDS) as usize));
    let stride = comptime!(form.key_stride());
    #[unroll]
    for slice in 0..comptime!(form.depth()) {
        let start = place.line * stride + comptime!(slice * SLICE);
        let left = load_left(rows, start, place.lane, stride, Along::Depth, form.unit);
        let at = comptime!((slice * A_WORDS) as usize);
        own[at] = left.word0;
        own[comptime!(at + 1)] = left.word1;
        own[comptime!(at + 2)] = left.word2;
        own[comptime!(at + 3)] = left.word3;
    }
    own
}

/// Adds the scores of the plane's queries and a block of keys.
#[cube]
fn add_own_scores(
    own: &Array<u32>,
    keys: &Shared<[u32]>,
    place: Place,
    scores: &mut Array<f32>,
    exchange: &mut Exchange,
    #[comptime] form: Form,
) {
    let stride = comptime!(form.key_stride());
    #[unroll]
    for slice in 0..comptime!(form.depth()) {
        let at = comptime!((slice * A_WORDS) as usize);
        let left = Left {
            word0: own[at],
            word1: own[comptime!(at + 1)],
            word2: own[comptime!(at + 2)],
            word3: own[comptime!(at + 3)],
        };
        #[unroll]
        for two in 0..comptime!(form.block / DEPTH) {
            let start = comptime!(two * DEPTH * stride + slice * SLICE).runtime();
            let (first, second) =
                load_right_two(keys, start, place.lane, stride, Along::Depth, form.unit);
            let at = comptime!(two * 2 * HELD);
            multiply_add(left, first, scores, at, exchange, form.unit);
            multiply_add(left, second, scores, comptime!(at + HELD), exchange, form.unit);
        }
    }
}

/// Scores of keys after a row's own position become [`MASKED`]; `position` is that of the cube's first
/// row, `key` the block's first key.
#[cube]
fn mask(scores: &mut Array<f32>, position: u32, key: u32, place: Place, #[comptime] form: Form) {
    let row = position + own_line(place, 0u32);
    let lead = row as i32 - (key + own_column(place)) as i32;
    #[unroll]
    for e in 0..comptime!(form.scores()) {
        let visible = comptime!(right_of(e)) <= lead;
        scores[e as usize] = select(visible, scores[e as usize], MASKED.runtime());
    }
}

/// Scores become `exp(score - largest so far)`; the rows' sums and their mixes so far go along.
#[cube]
fn softmax(
    scores: &mut Array<f32>,
    mix: &mut Array<f32>,
    rows: &mut Rows,
    room: &mut Shared<[f32]>,
    #[comptime] form: Form,
) {
    #[unroll]
    for line in 0..2u32 {
        let before = rows.largest[line as usize];
        let mut now = before;
        #[unroll]
        for e in 0..comptime!(form.scores()) {
            if comptime!(line_of(e) == line) {
                let score = scores[e as usize];
                now = select(score > now, score, now);
            }
        }
        let now = row_largest(now, room, form);
        let shrink = exponential(before - now, form);
        let mut total = rows.total[line as usize] * shrink;
        #[unroll]
        for e in 0..comptime!(form.scores()) {
            if comptime!(line_of(e) == line) {
                let weight = exponential(scores[e as usize] - now, form);
                scores[e as usize] = weight;
                total += weight;
            }
        }
        rows.largest[line as usize] = now;
        rows.total[line as usize] = total;
        #[unroll]
        for e in 0..comptime!(Form::sums(form.v)) {
            if comptime!(line_of(e) == line) {
                mix[e as usize] *= shrink;
            }
        }
    }
}

/// Writes a unit's part of the results.
#[cube]
#[allow(clippy::too_many_arguments)]
fn write_rows(
    mix: &Array<f32>,
    rows: &Rows,
    out: &mut [f32],
    lse: &mut [f32],
    room: &mut Shared<[f32]>,
    sizes: Sizes,
    block: Block,
    place: Place,
    #[comptime] form: Form,
) {
    let mut target = Target {
        at: Array::<u32>::new(2usize),
        real: Array::<bool>::new(2usize),
        factor: Array::<f32>::new(2usize),
    };
    #[unroll]
    for line in 0..2u32 {
        let row = block.first + own_line(place, line);
        let total = row_total(rows.total[line as usize], room, form);
        let real = row < sizes.queries;
        target.at[line as usize] =
            ((block.sequence * sizes.queries + row) * sizes.heads + block.head) * sizes.v;
        target.real[line as usize] = real;
        target.factor[line as usize] = 1.0f32 / total;
        if real && own_column(place) == 0u32 {
            lse[(row_base(block, sizes) + row) as usize] = rows.largest[line as usize] + total.ln();
        }
    }
    write_sums(mix, out, &target, 0u32, sizes.v, place, 0u32, form.v);
}
