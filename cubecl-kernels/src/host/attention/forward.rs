//! Attention forward by blocks, the softmax kept running.

use super::head::{Inputs, KEY_BLOCK, MAX_QUERY_BLOCK, Operands, SCORES_ROW, with_buffers};
use super::products::Products;
use crate::host::output::{Parts, build_two};
use crate::host::parallel::{chunk, for_each};
use crate::host::product::View;
use crate::host::simd::{LANES, exp, lane_sum, max, multiversion, round_to_bf16};

/// `(out, lse)`.
pub(super) fn forward(inputs: &Inputs<'_>) -> (Vec<f32>, Vec<f32>) {
    let shape = inputs.shape;
    let (groups, group_rows) = inputs.groups();
    let heads = shape.batch * shape.heads;
    let lens = [heads * shape.queries * shape.v_dim, heads * shape.queries];
    // SAFETY: the tasks cover every sequence, head and query row, and `forward_rows` writes all of
    // each row.
    unsafe {
        build_two(lens, |out, lse| {
            let (out, lse) = (Parts::new(out), Parts::new(lse));
            for_each(heads * groups, inputs.work(), |task| {
                let (head, group) = (task / groups, task % groups);
                let rows = chunk(group, group_rows, shape.queries);
                let (b, h) = (head / shape.heads, head % shape.heads);
                let block = inputs.query_block();
                with_buffers([block * SCORES_ROW, block * shape.v_dim], |buffers| {
                    forward_rows(inputs, b, h, rows, buffers, &out, &lse);
                });
            });
        })
    }
}

/// The rows `rows` of one head. Buffers: the scores of a block of queries, and their mix of values.
fn forward_rows(
    inputs: &Inputs<'_>,
    b: usize,
    h: usize,
    rows: std::ops::Range<usize>,
    [scores, mix]: [&mut [f32]; 2],
    out: &Parts<'_>,
    lse: &Parts<'_>,
) {
    let shape = inputs.shape;
    let products = Products::new(inputs, b, h, inputs.visible(rows.end - 1), false);
    let query_block = inputs.query_block();
    let mut rounded = Vec::new();
    for first in rows.clone().step_by(query_block) {
        let block = query_block.min(rows.end - first);
        let queries = products.rows(inputs.queries(b, h, first, block), &mut rounded);
        let visible = inputs.visible(first + block - 1);
        let mut state =
            Running { largest: [f32::NEG_INFINITY; MAX_QUERY_BLOCK], sum: [0.0; MAX_QUERY_BLOCK] };
        for first_key in (0..visible).step_by(KEY_BLOCK) {
            let width = KEY_BLOCK.min(visible - first_key);
            let padded = width.next_multiple_of(LANES);
            products.scores(queries, first_key, width, scores);
            let seen = inputs.visible(first) as isize - first_key as isize;
            let softmax = match inputs.operands {
                Operands::Rounded => softmax::<1>,
                Operands::Words | Operands::Pairs => softmax::<0>,
            };
            softmax(scores, mix, &mut state, block, padded, seen, shape.v_dim);
            products.mix(View::strided(scores, block, width, SCORES_ROW), first_key, width, mix);
        }
        for r in 0..block {
            // SAFETY: a row of a head belongs to one task.
            let out = unsafe { out.part(inputs.at_out(b, h, first + r), shape.v_dim) };
            let inverse = 1.0 / state.sum[r];
            for (out, &mix) in out.iter_mut().zip(&mix[r * shape.v_dim..]) {
                out.write(mix * inverse);
            }
        }
        // SAFETY: the sums of a block of query rows belong to one task.
        let lse = unsafe { lse.part((b * shape.heads + h) * shape.queries + first, block) };
        for (r, lse) in lse.iter_mut().enumerate() {
            lse.write(state.largest[r] + state.sum[r].ln());
        }
    }
}

/// The softmax of each row of a block so far.
struct Running {
    largest: [f32; MAX_QUERY_BLOCK],
    sum: [f32; MAX_QUERY_BLOCK],
}

multiversion! {
    /// Turns a block of scores into `exp(score - largest so far)`, zero where masked, and rescales
    /// `mix` and the sums. The exponentials, not their sums, are rounded to BF16 where `ROUNDED` is
    /// one.
    ///
    /// Row `r` sees its first `seen + r` scores (none where that is not positive).
    fn softmax<const ROUNDED: usize>(
        scores: &mut [f32],
        mix: &mut [f32],
        state: &mut Running,
        rows: usize,
        width: usize,
        seen: isize,
        v_dim: usize,
    ) {
        for r in 0..rows {
            let seen = (seen + r as isize).clamp(0, width as isize) as usize;
            let row = &mut scores[r * SCORES_ROW..][..width];
            let live = seen.next_multiple_of(LANES);
            row[seen..live].fill(f32::NEG_INFINITY);
            row[live..].fill(0.0);
            let row = &mut row[..live];
            let before = state.largest[r];
            let block_max = max(row);
            let largest = if block_max > before { block_max } else { before };
            let mut sums = [0.0f32; LANES];
            for chunk in row.as_chunks_mut::<LANES>().0 {
                for l in 0..LANES {
                    chunk[l] = exp::<S>(chunk[l] - largest);
                    sums[l] += chunk[l];
                    if ROUNDED == 1 {
                        chunk[l] = round_to_bf16(chunk[l]);
                    }
                }
            }
            state.largest[r] = largest;
            if before == f32::NEG_INFINITY {
                state.sum[r] = lane_sum(sums);
            } else {
                let shrink = exp::<S>(before - largest);
                state.sum[r] = state.sum[r] * shrink + lane_sum(sums);
                for x in &mut mix[r * v_dim..][..v_dim] {
                    *x *= shrink;
                }
            }
        }
    }
}
