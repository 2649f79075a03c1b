//! Device code of attention backward by matrix instructions, the keys' side: sixteen keys of a head a
//! plane, queries and their outputs' gradients block by block.

use super::block::{
    Place, Target, add_mix, add_scores, block_of, column_of, exponential, own_column, own_line,
    place, right_of, write_sums, zeros,
};
use super::copy::{
    arrived, close_group, fetch, fetch_keys, gradients, keys, queries, ropes, values,
};
use super::form::Form;
use crate::attention::kernel::{Block, Sizes, row_base};
use crate::device::matrix::fragment::{exchange, pair_rows};
use cubecl::prelude::*;

/// As [`key_gradient`](crate::attention::gradient::key_gradient), a block of keys a cube.
///
/// # Shapes
/// Packed: those of [`query_gradient_matrix`](super::query_gradient::query_gradient_matrix); `dkv`
/// and `rope_parts` as [`key_gradient`](crate::attention::gradient::key_gradient) has them; `cubes`
/// blocks. There is at least one query.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn key_gradient_matrix(
    q: &[u32],
    kv: &[u32],
    k_rope: &[u32],
    dout: &[u32],
    statistics: &[f32],
    dkv: &mut [f32],
    rope_parts: &mut [f32],
    sizes: Sizes,
    scale: f32,
    cubes: u32,
    #[comptime] form: Form,
) {
    let cube = CUBE_POS as u32;
    if cube < cubes {
        let block = block_of(cube, sizes.keys, sizes, false, form);
        let place = place();
        let (query_lines, dout_lines) =
            (queries(block, sizes, form), gradients(block, sizes, form));
        let key_lines = keys(block, sizes, form);
        let mut exchange = exchange(comptime!(form.units()), form.unit);
        let (key_stride, value_stride) = comptime!((form.key_stride(), form.value_stride()));
        let mut key_rows = pair_rows(comptime!((form.rows() * key_stride) as usize));
        let mut value_rows = pair_rows(comptime!((form.rows() * value_stride) as usize));
        let mut query_rows = pair_rows(comptime!((form.block * key_stride) as usize));
        let mut dout_rows = pair_rows(comptime!((form.block * value_stride) as usize));
        let (ropes, lines) = (ropes(block, sizes, form), comptime!(form.rows()));
        fetch_keys(kv, key_lines, k_rope, ropes, block.first, &mut key_rows, lines, form);
        let window = comptime!(form.value_window(form.rows()));
        fetch(kv, values(key_lines, form), block.first, &mut value_rows, window, form);

        let (v, depth) = comptime!((form.v, form.depth()));
        let mut dv = zeros(comptime!(Form::sums(v)));
        let mut dk = zeros(comptime!(Form::sums(depth)));
        // Keys before the first query's position are seen by every query.
        let prefix = sizes.keys - sizes.queries;
        let lines = comptime!(form.block);
        let start = select(block.first > prefix, (block.first - prefix) / lines, 0u32);
        let end = sizes.queries.div_ceil(lines);
        let (q_window, dout_window) =
            comptime!((form.query_window(lines), form.gradient_window(lines)));
        fetch(q, query_lines, start * lines, &mut query_rows, q_window, form);
        fetch(dout, dout_lines, start * lines, &mut dout_rows, dout_window, form);
        close_group(form);
        for step in start..end {
            let query = step * lines;
            let next = query + lines;
            let more = step + 1u32 < end;
            arrived(0u32, form);
            let mut p = zeros(comptime!(form.scores()));
            add_scores(
                &key_rows,
                &query_rows,
                place,
                &mut p,
                &mut exchange,
                key_stride,
                depth,
                form,
            );
            let rows = row_base(block, sizes);
            let lse = columns(statistics, sizes, rows, query, place, 0u32, form);
            // Key `i` is seen by query `j` where `i` is at most `prefix + j`.
            let key = block.first + own_line(place, 0u32);
            let lead = (prefix + query + own_column(place)) as i32 - key as i32;
            #[unroll]
            for e in 0..comptime!(form.scores()) {
                let visible = comptime!(-right_of(e)) <= lead;
                let score = p[e as usize] - lse[comptime!(place_of(column_of(e)))];
                p[e as usize] = select(visible, exponential(score, form), 0.0f32);
            }
            let mut ds = zeros(comptime!(form.scores()));
            add_scores(
                &value_rows,
                &dout_rows,
                place,
                &mut ds,
                &mut exchange,
                value_stride,
                v,
                form,
            );
            add_mix(&p, &dout_rows, place, &mut dv, &mut exchange, value_stride, v, form);
            // The next gradients come while the rest of this block is computed.
            sync_cube();
            if more {
                fetch(dout, dout_lines, next, &mut dout_rows, dout_window, form);
            }
            let deltas = columns(statistics, sizes, rows, query, place, 1u32, form);
            #[unroll]
            for e in 0..comptime!(form.scores()) {
                let delta = deltas[comptime!(place_of(column_of(e)))];
                ds[e as usize] = p[e as usize] * (ds[e as usize] - delta);
            }
            add_mix(&ds, &query_rows, place, &mut dk, &mut exchange, key_stride, depth, form);
            sync_cube();
            if more {
                fetch(q, query_lines, next, &mut query_rows, q_window, form);
            }
            close_group(form);
        }
        let (nope, rope) = comptime!((form.nope, form.rope));
        let width = sizes.nope + sizes.v;
        let target = targets(sizes, block, width, 1.0f32, place);
        write_sums(&dv, dkv, &target, sizes.nope, sizes.v, place, 0u32, v);
        let target = targets(sizes, block, width, scale, place);
        write_sums(&dk, dkv, &target, 0u32, sizes.nope, place, 0u32, nope);
        let target = targets(sizes, block, sizes.rope, scale, place);
        write_sums(&dk, rope_parts, &target, 0u32, sizes.rope, place, nope, rope);
    }
}

/// Where column `column` from [`own_column`] on is among a unit's.
const fn place_of(column: u32) -> usize {
    (column / 8 * 2 + column % 2) as usize
}

/// Above every log of a sum: the weights of a query past the last are zero by it.
const NO_QUERY: f32 = 3.0e38;

/// Statistic `which` of a unit's columns, which are queries; [`NO_QUERY`] past the last.
#[cube]
fn columns(
    statistics: &[f32],
    sizes: Sizes,
    base: u32,
    first: u32,
    place: Place,
    #[comptime] which: u32,
    #[comptime] form: Form,
) -> Array<f32> {
    let mut columns = Array::<f32>::new(comptime!((form.block / 4) as usize));
    #[unroll]
    for i in 0..comptime!(form.block / 4) {
        let column = own_column(place) + comptime!(i / 2 * 8 + i % 2);
        let query = first + column;
        let mut statistic = NO_QUERY.runtime();
        if query < sizes.queries {
            statistic = statistics[(2u32 * (base + query) + which) as usize];
        }
        columns[i as usize] = statistic;
    }
    columns
}

/// Where the unit's two keys are among lines of all heads of so many numbers.
#[cube]
fn targets(sizes: Sizes, block: Block, width: u32, factor: f32, place: Place) -> Target {
    let mut target = Target {
        at: Array::<u32>::new(2usize),
        real: Array::<bool>::new(2usize),
        factor: Array::<f32>::new(2usize),
    };
    #[unroll]
    for line in 0..2u32 {
        let key = block.first + own_line(place, line);
        let at = (block.sequence * sizes.keys + key) * sizes.heads + block.head;
        target.at[line as usize] = at * width;
        target.real[line as usize] = key < sizes.keys;
        target.factor[line as usize] = factor;
    }
    target
}
