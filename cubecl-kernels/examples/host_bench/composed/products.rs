//! Products, and what is made of them.

use cubecl_kernels::definition::{AttentionShape, LinearShape};
use rayon::prelude::*;

use super::{map, reduce, rows, softmax, zip};

/// `a b` of strided matrices, the strides as `(row, column)`; `[m, k] x [k, n]`.
pub fn product(
    a: &[f32],
    sa: (usize, usize),
    b: &[f32],
    sb: (usize, usize),
    m: usize,
    k: usize,
    n: usize,
) -> Vec<f32> {
    let mut out = vec![0.0; m * n];
    product_into(&mut out, a, sa, b, sb, [m, k, n], gemm::Parallelism::Rayon(0));
    out
}

fn product_into(
    out: &mut [f32],
    a: &[f32],
    sa: (usize, usize),
    b: &[f32],
    sb: (usize, usize),
    [m, k, n]: [usize; 3],
    parallelism: gemm::Parallelism,
) {
    let reach =
        |rows: usize, cols: usize, s: (usize, usize)| (rows - 1) * s.0 + (cols - 1) * s.1 + 1;
    assert!(out.len() == m * n && a.len() >= reach(m, k, sa) && b.len() >= reach(k, n, sb));
    // SAFETY: the lengths were just checked against the strides.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            sa.1 as isize,
            sa.0 as isize,
            b.as_ptr(),
            sb.1 as isize,
            sb.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// One product for each of `count` contiguous matrices.
fn batched(
    a: &[f32],
    sa: (usize, usize),
    b: &[f32],
    sb: (usize, usize),
    count: usize,
    [m, k, n]: [usize; 3],
) -> Vec<f32> {
    let mut out = vec![0.0; count * m * n];
    out.par_chunks_mut(m * n).enumerate().for_each(|(i, out)| {
        product_into(
            out,
            &a[i * m * k..],
            sa,
            &b[i * k * n..],
            sb,
            [m, k, n],
            gemm::Parallelism::None,
        );
    });
    out
}

/// `[b, t, h, d]` -> `[b, h, t, d]` of columns `from..to`, or of one head for all where `shared`.
fn heads_first(x: &[f32], [b, t, h, d]: [usize; 4], from: usize, to: usize) -> Vec<f32> {
    let mut out = vec![0.0; b * t * h * (to - from)];
    out.par_chunks_mut(t * (to - from)).enumerate().for_each(|(bh, out)| {
        for i in 0..t {
            let at = ((bh / h * t + i) * h + bh % h) * d;
            out[i * (to - from)..][..to - from].copy_from_slice(&x[at + from..at + to]);
        }
    });
    out
}

/// `[b, h, t, d]` -> `[b, t, h, d]`.
fn heads_last(x: &[f32], [b, t, h, d]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0.0; b * t * h * d];
    out.par_chunks_mut(h * d).enumerate().for_each(|(row, out)| {
        for head in 0..h {
            out[head * d..][..d]
                .copy_from_slice(&x[((row / t * h + head) * t + row % t) * d..][..d]);
        }
    });
    out
}

fn joined_keys(kv: &[f32], k_rope: &[f32], s: &AttentionShape) -> Vec<f32> {
    let mut keys = vec![0.0; s.batch * s.heads * s.keys * s.qk_dim()];
    keys.par_chunks_mut(s.qk_dim()).enumerate().for_each(|(row, out)| {
        let (b, h, j) = (row / s.keys / s.heads, row / s.keys % s.heads, row % s.keys);
        let at = ((b * s.keys + j) * s.heads + h) * s.kv_dim();
        out[..s.nope_dim].copy_from_slice(&kv[at..at + s.nope_dim]);
        out[s.nope_dim..].copy_from_slice(&k_rope[(b * s.keys + j) * s.rope_dim..][..s.rope_dim]);
    });
    keys
}

/// `(out, probabilities)` with the whole `t x s` matrix.
pub fn attention(
    q: &[f32],
    kv: &[f32],
    k_rope: &[f32],
    s: &AttentionShape,
    scale: f32,
) -> (Vec<f32>, Vec<f32>) {
    let (count, t, n, dq, dv) = (s.batch * s.heads, s.queries, s.keys, s.qk_dim(), s.v_dim);
    let q = heads_first(q, [s.batch, t, s.heads, dq], 0, dq);
    let keys = joined_keys(kv, k_rope, s);
    let v = heads_first(kv, [s.batch, n, s.heads, s.kv_dim()], s.nope_dim, s.kv_dim());
    let scores = map(&batched(&q, (dq, 1), &keys, (1, dq), count, [t, dq, n]), |x| x * scale);
    let mut masked = scores.clone();
    masked
        .par_chunks_mut(n)
        .enumerate()
        .for_each(|(row, x)| x[n - t + row % t + 1..].fill(f32::NEG_INFINITY));
    let p = softmax(&masked, n);
    let out = batched(&p, (n, 1), &v, (dv, 1), count, [t, n, dv]);
    (heads_last(&out, [s.batch, t, s.heads, dv]), p)
}

/// The gradients `(dq, dk, dv)`, the keys' heads still apart, from the kept probabilities.
pub fn attention_backward(
    q: &[f32],
    kv: &[f32],
    k_rope: &[f32],
    p: &[f32],
    dout: &[f32],
    s: &AttentionShape,
    scale: f32,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (count, t, n, dq, dv) = (s.batch * s.heads, s.queries, s.keys, s.qk_dim(), s.v_dim);
    let q = heads_first(q, [s.batch, t, s.heads, dq], 0, dq);
    let keys = joined_keys(kv, k_rope, s);
    let v = heads_first(kv, [s.batch, n, s.heads, s.kv_dim()], s.nope_dim, s.kv_dim());
    let dout = heads_first(dout, [s.batch, t, s.heads, dv], 0, dv);
    let d_values = batched(p, (1, n), &dout, (dv, 1), count, [n, t, dv]);
    let dp = batched(&dout, (dv, 1), &v, (1, dv), count, [t, dv, n]);
    let delta = reduce(&zip(&dp, p, |a, b| a * b), n, |row| row.iter().sum());
    let ds = map(&zip(&rows(&dp, n, &delta, |x, d| x - d), p, |a, b| a * b), |x| x * scale);
    let d_queries = batched(&ds, (n, 1), &keys, (dq, 1), count, [t, n, dq]);
    let d_keys = batched(&ds, (1, n), &q, (dq, 1), count, [n, t, dq]);
    (
        heads_last(&d_queries, [s.batch, t, s.heads, dq]),
        d_keys,
        heads_last(&d_values, [s.batch, n, s.heads, dv]),
    )
}

/// Head, log-softmax, and with `gradients` the three products of backward.
pub fn linear_cross_entropy(
    x: &[f32],
    w: &[f32],
    targets: &[i64],
    &LinearShape { rows, inputs, outputs: vocab }: &LinearShape,
    gradients: bool,
) -> (f32, Vec<f32>, Vec<f32>) {
    let logits = product(x, (inputs, 1), w, (1, inputs), rows, inputs, vocab);
    let (loss, d_logits) = cross_entropy(&logits, targets, vocab, gradients);
    if !gradients {
        return (loss, vec![], vec![]);
    }
    let dx = product(&d_logits, (vocab, 1), w, (inputs, 1), rows, vocab, inputs);
    let dw = product(&d_logits, (1, vocab), x, (inputs, 1), vocab, rows, inputs);
    (loss, dx, dw)
}

/// Log-softmax, and its gradient by way of the probabilities.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[i64],
    vocab: usize,
    gradient: bool,
) -> (f32, Vec<f32>) {
    let largest =
        reduce(logits, vocab, |row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let shifted = rows(logits, vocab, &largest, |x, m| x - m);
    let sums = reduce(&map(&shifted, f32::exp), vocab, |row| row.iter().sum());
    let logs: Vec<f32> = sums.iter().map(|s| s.ln()).collect();
    let log_p = rows(&shifted, vocab, &logs, |x, s| x - s);
    let loss = targets.iter().enumerate().map(|(r, &t)| -log_p[r * vocab + t as usize]).sum();
    if !gradient {
        return (loss, vec![]);
    }
    let mut d = map(&log_p, f32::exp);
    targets.iter().enumerate().for_each(|(r, &t)| d[r * vocab + t as usize] -= 1.0);
    (loss, d)
}

/// A product for each expert, `x [rows, k] -> [rows, n]`, joined by copying.
pub fn grouped(
    x: &[f32],
    sx: (usize, usize),
    w: &[f32],
    sw: (usize, usize),
    offsets: &[usize],
    k: usize,
    n: usize,
) -> Vec<f32> {
    let mut out = Vec::new();
    for (e, bounds) in offsets.windows(2).enumerate() {
        if bounds[1] > bounds[0] {
            out.extend(product(
                &x[bounds[0] * k..],
                sx,
                &w[e * k * n..],
                sw,
                bounds[1] - bounds[0],
                k,
                n,
            ));
        }
    }
    out
}

/// A weight gradient for each expert, joined by copying.
pub fn grouped_weight(
    dy: &[f32],
    x: &[f32],
    offsets: &[usize],
    inputs: usize,
    outputs: usize,
) -> Vec<f32> {
    let mut out = Vec::new();
    for bounds in offsets.windows(2) {
        let (dy, x, rows) =
            (&dy[bounds[0] * outputs..], &x[bounds[0] * inputs..], bounds[1] - bounds[0]);
        if rows > 0 {
            out.extend(product(dy, (1, outputs), x, (inputs, 1), outputs, rows, inputs));
        } else {
            out.resize(out.len() + inputs * outputs, 0.0);
        }
    }
    out
}
