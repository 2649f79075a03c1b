//! Attention forward for the few query rows of decoding: dot products on the cache as it lies.

use super::head::Inputs;
use crate::host::output::{Parts, build_two};
use crate::host::parallel::for_each;
use crate::host::simd::{LANES, axpy, dot, exp, lane_sum, max, multiversion};

/// `(out, lse)`.
pub(super) fn forward(inputs: &Inputs<'_>) -> (Vec<f32>, Vec<f32>) {
    let shape = inputs.shape;
    let heads = shape.batch * shape.heads;
    let lens = [heads * shape.queries * shape.v_dim, heads * shape.queries];
    // SAFETY: every sequence, head and query row is a task, which writes all of that row.
    unsafe {
        build_two(lens, |out, lse| {
            let (out, lse) = (Parts::new(out), Parts::new(lse));
            for_each(heads * shape.queries, inputs.work(), |task| {
                let (head, i) = (task / shape.queries, task % shape.queries);
                let (b, h) = (head / shape.heads, head % shape.heads);
                let mut mix = vec![0.0; shape.v_dim];
                let row_lse = one_row(inputs, b, h, i, &mut mix);
                // Each task has a row of its own.
                out.part(inputs.at_out(b, h, i), shape.v_dim).write_copy_of_slice(&mix);
                lse.part(task, 1)[0].write(row_lse);
            });
        })
    }
}

multiversion! {
    /// Adds the mix of values of one query row to `mix`, and returns the row's lse.
    fn one_row(inputs: &Inputs<'_>, b: usize, h: usize, i: usize, mix: &mut [f32]) -> f32 {
        let shape = inputs.shape;
        let visible = inputs.visible(i);
        let (nope, rope) =
            inputs.q[inputs.at_q(b, h, i)..][..shape.qk_dim()].split_at(shape.nope_dim);
        let mut scores = vec![f32::NEG_INFINITY; visible.next_multiple_of(LANES)];
        for (j, score) in scores[..visible].iter_mut().enumerate() {
            let (k_nope, k_rope) = inputs.key(b, h, j);
            *score = inputs.options.scale * (dot::<S>(nope, k_nope) + dot::<S>(rope, k_rope));
        }
        let largest = max(&scores);
        let mut sums = [0.0f32; LANES];
        for chunk in scores.as_chunks_mut::<LANES>().0 {
            for l in 0..LANES {
                chunk[l] = exp::<S>(chunk[l] - largest);
                sums[l] += chunk[l];
            }
        }
        let sum = lane_sum(sums);
        for (j, &p) in scores[..visible].iter().enumerate() {
            let at = inputs.at_kv(b, h, j) + shape.nope_dim;
            axpy::<S>(p, &inputs.kv[at..][..shape.v_dim], mix);
        }
        let inverse = 1.0 / sum;
        for x in mix {
            *x *= inverse;
        }
        largest + sum.ln()
    }
}
