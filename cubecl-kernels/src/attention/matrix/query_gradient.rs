//! Device code of attention backward by matrix instructions, the queries' side: sixteen query rows of
//! a head a plane, keys and values block by block.

use super::block::{
    Place, Target, add_mix, add_scores, block_of, exponential, line_of, own_column, own_line,
    place, right_of, write_sums, zeros,
};
use super::copy::{
    arrived, close_group, fetch, fetch_keys, gradients, keys, queries, ropes, values,
};
use super::form::Form;
use crate::attention::kernel::{Sizes, row_base, smaller};
use crate::device::matrix::fragment::{exchange, pair_rows};
use cubecl::prelude::*;

/// As [`query_gradient`](crate::attention::gradient::query_gradient), a block of rows a cube. The
/// keys have the scale in them.
///
/// # Shapes
/// Packed: `q`, `kv` and `k_rope` as in [`attend_matrix`](super::forward::attend_matrix), `dout`
/// `[batch, heads, queries, v]`; `statistics` and `dq` as
/// [`query_gradient`](crate::attention::gradient::query_gradient) has them; `cubes` blocks.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn query_gradient_matrix(
    q: &[u32],
    kv: &[u32],
    k_rope: &[u32],
    dout: &[u32],
    statistics: &[f32],
    dq: &mut [f32],
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
        let (key_stride, value_stride) = comptime!((form.key_stride(), form.value_stride()));
        let mut query_rows = pair_rows(comptime!((form.rows() * key_stride) as usize));
        let mut dout_rows = pair_rows(comptime!((form.rows() * value_stride) as usize));
        let mut key_rows = pair_rows(comptime!((form.block * key_stride) as usize));
        let mut value_rows = pair_rows(comptime!((form.block * value_stride) as usize));
        let window = comptime!(form.query_window(form.rows()));
        fetch(q, queries(block, sizes, form), block.first, &mut query_rows, window, form);
        let window = comptime!(form.gradient_window(form.rows()));
        fetch(dout, gradients(block, sizes, form), block.first, &mut dout_rows, window, form);
        let rows = row_values(statistics, sizes, row_base(block, sizes), block.first, place);

        let mut sums = zeros(comptime!(Form::sums(form.depth())));
        let count = smaller(sizes.queries - block.first, comptime!(form.rows()));
        let position = sizes.keys - sizes.queries + block.first;
        let window = comptime!(form.value_window(form.block));
        fetch_keys(kv, key_lines, k_rope, rope_lines, 0u32, &mut key_rows, form.block, form);
        fetch(kv, value_lines, 0u32, &mut value_rows, window, form);
        close_group(form);
        let steps = (position + count).div_ceil(comptime!(form.block));
        for step in 0..steps {
            let key = step * comptime!(form.block);
            let next = key + comptime!(form.block);
            let more = step + 1u32 < steps;
            arrived(0u32, form);
            let mut dp = zeros(comptime!(form.scores()));
            let (v, d) = comptime!((form.v, form.depth()));
            add_scores(
                &dout_rows,
                &value_rows,
                place,
                &mut dp,
                &mut exchange,
                value_stride,
                v,
                form,
            );
            // The next values come while the rest of this block is computed.
            sync_cube();
            if more {
                fetch(kv, value_lines, next, &mut value_rows, window, form);
            }
            let mut ds = zeros(comptime!(form.scores()));
            add_scores(&query_rows, &key_rows, place, &mut ds, &mut exchange, key_stride, d, form);
            let row = position + own_line(place, 0u32);
            let lead = row as i32 - (key + own_column(place)) as i32;
            #[unroll]
            for e in 0..comptime!(form.scores()) {
                let line = comptime!(line_of(e));
                let visible = comptime!(right_of(e)) <= lead;
                let lse = rows.lse[line as usize];
                let p = select(visible, exponential(ds[e as usize] - lse, form), 0.0f32);
                ds[e as usize] = p * (dp[e as usize] - rows.delta[line as usize]);
            }
            add_mix(&ds, &key_rows, place, &mut sums, &mut exchange, key_stride, d, form);
            sync_cube();
            if more {
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
        }
        let (nope, rope) = comptime!((form.nope, form.rope));
        let target = targets(sizes, block.sequence, block.head, block.first, place);
        write_sums(&sums, dq, &target, 0u32, sizes.nope, place, 0u32, nope);
        write_sums(&sums, dq, &target, sizes.nope, sizes.rope, place, nope, rope);
    }
}

/// What backward needs of a unit's two rows.
#[derive(CubeType)]
struct RowValues {
    lse: Array<f32>,
    delta: Array<f32>,
}

#[cube]
fn row_values(statistics: &[f32], sizes: Sizes, base: u32, first: u32, place: Place) -> RowValues {
    let mut values = RowValues { lse: Array::<f32>::new(2usize), delta: Array::<f32>::new(2usize) };
    #[unroll]
    for line in 0..2u32 {
        let row = smaller(first + own_line(place, line), sizes.queries - 1u32);
        let at = 2u32 * (base + row);
        values.lse[line as usize] = statistics[at as usize];
        values.delta[line as usize] = statistics[(at + 1u32) as usize];
    }
    values
}

/// Where the unit's two rows of `dq` are.
#[cube]
fn targets(sizes: Sizes, sequence: u32, head: u32, first: u32, place: Place) -> Target {
    let mut target = Target {
        at: Array::<u32>::new(2usize),
        real: Array::<bool>::new(2usize),
        factor: Array::<f32>::new(2usize),
    };
    #[unroll]
    for line in 0..2u32 {
        let row = first + own_line(place, line);
        let at = (sequence * sizes.queries + row) * sizes.heads + head;
        target.at[line as usize] = at * (sizes.nope + sizes.rope);
        target.real[line as usize] = row < sizes.queries;
        target.factor[line as usize] = 1.0f32;
    }
    target
}
