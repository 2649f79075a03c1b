//! Causal multi-head latent attention and its gradient, the plain form.

use crate::definition::AttentionShape;

/// Computes `(out [b, t, h, dv], lse [b, h, t])`; see [`crate::host::attention`].
///
/// # Shapes
/// - `q [b, t, h, dn + dr]`, `kv [b, s, h, dn + dv]`, `k_rope [b, s, dr]`
pub fn attention(
    q: &[f64],
    kv: &[f64],
    k_rope: &[f64],
    shape: &AttentionShape,
    scale: f64,
) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut lse) =
        (vec![0.0; size_out(shape)], vec![0.0; shape.batch * shape.heads * shape.queries]);
    for_rows(shape, |b, h, i, visible| {
        let scores: Vec<f64> =
            (0..visible).map(|j| scale * score(q, kv, k_rope, shape, [b, h, i, j])).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + scores.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
        lse[(b * shape.heads + h) * shape.queries + i] = log_sum;
        for (j, x) in scores.iter().enumerate() {
            for d in 0..shape.v_dim {
                out[at_out(shape, b, h, i) + d] +=
                    (x - log_sum).exp() * kv[at_kv(shape, b, h, j) + shape.nope_dim + d];
            }
        }
    });
    (out, lse)
}

/// Computes the gradients `(dq, dkv, dk_rope)` of [`attention`] for `dout`.
///
/// # Shapes
/// - those of `q`, `kv` and `k_rope`
pub fn attention_backward(
    q: &[f64],
    kv: &[f64],
    k_rope: &[f64],
    dout: &[f64],
    shape: &AttentionShape,
    scale: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (out, lse) = attention(q, kv, k_rope, shape, scale);
    let (mut dq, mut dkv, mut dk_rope) =
        (vec![0.0; q.len()], vec![0.0; kv.len()], vec![0.0; k_rope.len()]);
    let AttentionShape { nope_dim, rope_dim, v_dim, .. } = *shape;
    for_rows(shape, |b, h, i, visible| {
        let o = at_out(shape, b, h, i);
        let delta: f64 = (0..v_dim).map(|d| dout[o + d] * out[o + d]).sum();
        for j in 0..visible {
            let (at_q, at_k, at_r) =
                (at_q(shape, b, h, i), at_kv(shape, b, h, j), (b * shape.keys + j) * rope_dim);
            let x = scale * score(q, kv, k_rope, shape, [b, h, i, j]);
            let p = (x - lse[(b * shape.heads + h) * shape.queries + i]).exp();
            let dp: f64 = (0..v_dim).map(|d| dout[o + d] * kv[at_k + nope_dim + d]).sum();
            let dx = scale * p * (dp - delta);
            for d in 0..v_dim {
                dkv[at_k + nope_dim + d] += p * dout[o + d];
            }
            for d in 0..nope_dim {
                dq[at_q + d] += dx * kv[at_k + d];
                dkv[at_k + d] += dx * q[at_q + d];
            }
            for d in 0..rope_dim {
                dq[at_q + nope_dim + d] += dx * k_rope[at_r + d];
                dk_rope[at_r + d] += dx * q[at_q + nope_dim + d];
            }
        }
    });
    (dq, dkv, dk_rope)
}

/// Calls `row(b, h, i, keys that row i sees)`.
fn for_rows(shape: &AttentionShape, mut row: impl FnMut(usize, usize, usize, usize)) {
    for b in 0..shape.batch {
        for h in 0..shape.heads {
            for i in 0..shape.queries {
                row(b, h, i, shape.keys - shape.queries + i + 1);
            }
        }
    }
}

fn score(
    q: &[f64],
    kv: &[f64],
    k_rope: &[f64],
    shape: &AttentionShape,
    [b, h, i, j]: [usize; 4],
) -> f64 {
    let (at_q, at_k, at_r) =
        (at_q(shape, b, h, i), at_kv(shape, b, h, j), (b * shape.keys + j) * shape.rope_dim);
    let nope: f64 = (0..shape.nope_dim).map(|d| q[at_q + d] * kv[at_k + d]).sum();
    let rope: f64 =
        (0..shape.rope_dim).map(|d| q[at_q + shape.nope_dim + d] * k_rope[at_r + d]).sum();
    nope + rope
}

fn size_out(shape: &AttentionShape) -> usize {
    shape.batch * shape.queries * shape.heads * shape.v_dim
}

fn at_q(shape: &AttentionShape, b: usize, h: usize, i: usize) -> usize {
    ((b * shape.queries + i) * shape.heads + h) * shape.qk_dim()
}

fn at_kv(shape: &AttentionShape, b: usize, h: usize, j: usize) -> usize {
    ((b * shape.keys + j) * shape.heads + h) * shape.kv_dim()
}

fn at_out(shape: &AttentionShape, b: usize, h: usize, i: usize) -> usize {
    ((b * shape.queries + i) * shape.heads + h) * shape.v_dim
}
