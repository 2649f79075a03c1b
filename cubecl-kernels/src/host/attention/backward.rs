//! Attention backward by blocks: probabilities again from `lse`, then four products.

use std::ops::Range;

use super::AttentionGradients;
use super::head::{Inputs, KEY_BLOCK, MAX_QUERY_BLOCK, Operands, SCORES_ROW, with_buffers};
use super::products::Products;
use crate::host::output::{Parts, build, build_two};
use crate::host::parallel::{for_each, map};
use crate::host::product::View;
use crate::host::simd::{LANES, dot, exp, multiversion, round_to_bf16};

/// What forward gave, and the gradient of its output.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub out: &'a [f32],
    pub lse: &'a [f32],
    pub dout: &'a [f32],
}

/// The gradients of one head's keys `[s, dn + dr]` and values `[s, dv]`.
struct KeyGradients {
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// The three gradients.
pub(super) fn backward(inputs: &Inputs<'_>, outputs: &Outputs<'_>) -> AttentionGradients {
    let shape = inputs.shape;
    let heads = shape.batch * shape.heads;
    let (groups, group_rows) = inputs.groups();
    let work = inputs.work();
    let mut rope_heads = Vec::new();
    // SAFETY: the tasks cover every sequence and head; each writes all query rows of its head in
    // `dq`, and all key rows of its head in `dkv` and in `rope_heads`.
    let (dq, dkv) = unsafe {
        build_two([inputs.q.len(), inputs.kv.len()], |dq, dkv| {
            let (dq, dkv) = (Parts::new(dq), Parts::new(dkv));
            rope_heads = build(heads * shape.keys * shape.rope_dim, |rope| {
                let rope = Parts::new(rope);
                for_each(heads, work, |head| {
                    let (b, h) = (head / shape.heads, head % shape.heads);
                    let parts = map(groups, work, |group| {
                        let rows = group * group_rows..shape.queries.min((group + 1) * group_rows);
                        let block = inputs.query_block();
                        let scores = block * SCORES_ROW;
                        with_buffers([scores, scores, block * shape.qk_dim()], |buffers| {
                            backward_rows(inputs, outputs, b, h, rows, buffers, &dq)
                        })
                    });
                    write_key_gradients(inputs, b, h, parts, &dkv, &rope);
                });
            });
        })
    };
    AttentionGradients { dq, dkv, dk_rope: sum_heads(inputs, &rope_heads) }
}

/// The query rows `rows` of one head: writes their `dq`, returns their part of the gradients of
/// keys and values. Buffers: a block's probabilities, their gradients, and `dq`.
fn backward_rows(
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    b: usize,
    h: usize,
    rows: Range<usize>,
    [p, ds, dq_block]: [&mut [f32]; 3],
    dq: &Parts<'_>,
) -> KeyGradients {
    let shape = inputs.shape;
    let (qk_dim, v_dim) = (shape.qk_dim(), shape.v_dim);
    let products = Products::new(inputs, b, h, inputs.visible(rows.end - 1), true);
    let query_block = inputs.query_block();
    let mut gradients =
        KeyGradients { dk: vec![0.0; shape.keys * qk_dim], dv: vec![0.0; shape.keys * v_dim] };
    let (mut rounded_queries, mut rounded_dout) = (Vec::new(), Vec::new());
    for first in rows.clone().step_by(query_block) {
        let block = query_block.min(rows.end - first);
        let visible = inputs.visible(first + block - 1);
        let queries = inputs.queries(b, h, first, block);
        let queries = products.rows(queries, &mut rounded_queries);
        let dout = inputs.out_rows(outputs.dout, b, h, first, block);
        let dout = products.rows(dout, &mut rounded_dout);
        let lse = &outputs.lse[(b * shape.heads + h) * shape.queries + first..][..block];
        let at = inputs.at_out(b, h, first);
        let mut delta = [0.0; MAX_QUERY_BLOCK];
        row_dots(
            &outputs.dout[at..],
            &outputs.out[at..],
            shape.heads * v_dim,
            v_dim,
            &mut delta[..block],
        );
        for first_key in (0..visible).step_by(KEY_BLOCK) {
            let width = KEY_BLOCK.min(visible - first_key);
            let padded = width.next_multiple_of(LANES);
            products.scores(queries, first_key, width, p);
            products.weight_gradients(dout, first_key, width, ds);
            let seen = inputs.visible(first) as isize - first_key as isize;
            let score_gradients = match inputs.operands {
                Operands::Rounded => score_gradients::<1>,
                Operands::Words | Operands::Pairs => score_gradients::<0>,
            };
            score_gradients(p, ds, lse, &delta, padded, seen);
            let (p_rows, ds_rows) = (
                View::strided(p, block, width, SCORES_ROW),
                View::strided(ds, block, width, SCORES_ROW),
            );
            products.add_value_gradients(p_rows, dout, &mut gradients.dv[first_key * v_dim..]);
            products.add_key_gradients(ds_rows, queries, &mut gradients.dk[first_key * qk_dim..]);
            products.query_gradients(ds_rows, first_key, width, dq_block);
        }
        for r in 0..block {
            // SAFETY: a query row of a head belongs to one task.
            let dq = unsafe { dq.part(inputs.at_q(b, h, first + r), qk_dim) };
            dq.write_copy_of_slice(&dq_block[r * qk_dim..][..qk_dim]);
        }
    }
    gradients
}

/// Adds up the groups of one head in order, brings keys to scale, and spreads the sum over `dkv`
/// and the head's own `dk_rope`.
fn write_key_gradients(
    inputs: &Inputs<'_>,
    b: usize,
    h: usize,
    parts: Vec<KeyGradients>,
    dkv: &Parts<'_>,
    rope: &Parts<'_>,
) {
    let shape = inputs.shape;
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| KeyGradients {
        dk: vec![0.0; shape.keys * shape.qk_dim()],
        dv: vec![0.0; shape.keys * shape.v_dim],
    });
    for part in parts {
        total.dk.iter_mut().zip(&part.dk).for_each(|(total, part)| *total += part);
        total.dv.iter_mut().zip(&part.dv).for_each(|(total, part)| *total += part);
    }
    let factor = inputs.key_factor();
    if factor != 1.0 {
        total.dk.iter_mut().for_each(|dk| *dk *= factor);
    }
    for j in 0..shape.keys {
        let (nope, rotated) =
            total.dk[j * shape.qk_dim()..][..shape.qk_dim()].split_at(shape.nope_dim);
        // SAFETY: a key row of a head belongs to one task.
        let (dkv, rope) = unsafe {
            let at_rope = ((b * shape.heads + h) * shape.keys + j) * shape.rope_dim;
            (dkv.part(inputs.at_kv(b, h, j), shape.kv_dim()), rope.part(at_rope, shape.rope_dim))
        };
        let (dk, dv) = dkv.split_at_mut(shape.nope_dim);
        dk.write_copy_of_slice(nope);
        dv.write_copy_of_slice(&total.dv[j * shape.v_dim..][..shape.v_dim]);
        rope.write_copy_of_slice(rotated);
    }
}

/// `[b, h, s, dr]` summed over the heads, in order.
fn sum_heads(inputs: &Inputs<'_>, rope_heads: &[f32]) -> Vec<f32> {
    let shape = inputs.shape;
    let plane = shape.keys * shape.rope_dim;
    let mut sum = vec![0.0; shape.batch * plane];
    if plane > 0 && shape.heads > 0 {
        for (sum, planes) in
            sum.chunks_exact_mut(plane).zip(rope_heads.chunks_exact(shape.heads * plane))
        {
            for plane in planes.chunks_exact(plane) {
                sum.iter_mut().zip(plane).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    sum
}

multiversion! {
    /// `sums[r] = a[r] . b[r]` over rows of `width` elements, one every `stride`.
    fn row_dots(a: &[f32], b: &[f32], stride: usize, width: usize, sums: &mut [f32]) {
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = dot::<S>(&a[r * stride..][..width], &b[r * stride..][..width]);
        }
    }
}

multiversion! {
    /// Scores become probabilities `P = exp(S - lse)`, and `dP` becomes `P * (dP - delta)`; zero
    /// where masked. Both are then rounded to BF16 where `ROUNDED` is one.
    ///
    /// Row `r` sees its first `seen + r` scores (none where that is not positive).
    fn score_gradients<const ROUNDED: usize>(
        p: &mut [f32],
        ds: &mut [f32],
        lse: &[f32],
        delta: &[f32],
        width: usize,
        seen: isize,
    ) {
        for (r, &lse) in lse.iter().enumerate() {
            let seen = (seen + r as isize).clamp(0, width as isize) as usize;
            let delta = delta[r];
            let live = seen.next_multiple_of(LANES);
            let p = &mut p[r * SCORES_ROW..][..width];
            let ds = &mut ds[r * SCORES_ROW..][..width];
            p[seen..live].fill(f32::NEG_INFINITY);
            p[live..].fill(0.0);
            ds[live..].fill(0.0);
            for (p, ds) in
                p[..live].as_chunks_mut::<LANES>().0.iter_mut().zip(ds.as_chunks_mut::<LANES>().0)
            {
                for l in 0..LANES {
                    p[l] = exp::<S>(p[l] - lse);
                    ds[l] = p[l] * (ds[l] - delta);
                    if ROUNDED == 1 {
                        (p[l], ds[l]) = (round_to_bf16(p[l]), round_to_bf16(ds[l]));
                    }
                }
            }
        }
    }
}
