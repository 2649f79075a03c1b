//! The operations as a framework composes them: one parallel pass an operation, each with an output
//! of its own.

use cubecl_kernels::definition::{AdamWConfig, AttentionShape, LinearShape, RopeShape};
use rayon::prelude::*;

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

/// `f` of every element, on the pool.
pub fn map(x: &[f32], f: impl Fn(f32) -> f32 + Send + Sync) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).for_each(|(out, x)| {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x));
    });
    out
}

/// `f` of every two elements, on the pool.
pub fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).zip(y.par_chunks(1 << 14)).for_each(
        |((out, x), y)| {
            out.iter_mut().zip(x).zip(y).for_each(|((out, &x), &y)| *out = f(x, y));
        },
    );
    out
}

/// `f` of every row and a number a row.
pub fn rows(
    x: &[f32],
    width: usize,
    per_row: &[f32],
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(width).zip(x.par_chunks(width)).zip(per_row).for_each(|((out, x), &r)| {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x, r));
    });
    out
}

/// A number of each row.
pub fn reduce(x: &[f32], width: usize, f: impl Fn(&[f32]) -> f32 + Send + Sync) -> Vec<f32> {
    x.par_chunks(width).map(f).collect()
}

/// Softmax of each row in four passes.
pub fn softmax(x: &[f32], width: usize) -> Vec<f32> {
    let largest = reduce(x, width, |row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let e = map(&rows(x, width, &largest, |x, m| x - m), f32::exp);
    let sums = reduce(&e, width, |row| row.iter().sum());
    rows(&e, width, &sums, |e, s| e / s)
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

fn halves(x: &[f32], rows: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
    let half = |from: usize| {
        let mut out = vec![0.0; rows * width];
        out.par_chunks_mut(width)
            .enumerate()
            .for_each(|(r, out)| out.copy_from_slice(&x[(2 * r + from) * width..][..width]));
        out
    };
    (half(0), half(1))
}

/// Split, sigmoid, two products.
pub fn swiglu(gate_up: &[f32], rows: usize, inter: usize) -> Vec<f32> {
    let (gate, up) = halves(gate_up, rows, inter);
    let s = map(&gate, |g| 1.0 / (1.0 + (-g).exp()));
    zip(&zip(&gate, &s, |g, s| g * s), &up, |a, b| a * b)
}

/// The chain rule, an operation at a time.
pub fn swiglu_backward(gate_up: &[f32], dy: &[f32], rows: usize, inter: usize) -> Vec<f32> {
    let (gate, up) = halves(gate_up, rows, inter);
    let s = map(&gate, |g| 1.0 / (1.0 + (-g).exp()));
    let slope = zip(&s, &zip(&gate, &s, |g, s| g * (1.0 - s)), |s, x| s * (1.0 + x));
    let dgate = zip(&zip(dy, &up, |a, b| a * b), &slope, |a, b| a * b);
    let dup = zip(dy, &zip(&gate, &s, |g, s| g * s), |a, b| a * b);
    let mut out = vec![0.0; gate_up.len()];
    out.par_chunks_mut(2 * inter).enumerate().for_each(|(r, out)| {
        out[..inter].copy_from_slice(&dgate[r * inter..][..inter]);
        out[inter..].copy_from_slice(&dup[r * inter..][..inter]);
    });
    out
}

/// Square, mean, two products.
pub fn rms_norm(x: &[f32], gamma: &[f32]) -> Vec<f32> {
    let width = gamma.len();
    let mean = reduce(&map(x, |x| x * x), width, |row| row.iter().sum::<f32>() / row.len() as f32);
    let rstd: Vec<f32> = mean.iter().map(|m| 1.0 / (m + 1e-6).sqrt()).collect();
    columns(&rows(x, width, &rstd, |x, r| x * r), gamma)
}

fn columns(x: &[f32], per_column: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(per_column.len()).zip(x.par_chunks(per_column.len())).for_each(
        |(out, x)| {
            out.iter_mut().zip(x).zip(per_column).for_each(|((out, x), c)| *out = x * c);
        },
    );
    out
}

/// The chain rule, an operation at a time.
pub fn rms_norm_backward(
    x: &[f32],
    gamma: &[f32],
    rstd: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let width = gamma.len();
    let normed = rows(x, width, rstd, |x, r| x * r);
    let mut dgamma = vec![0.0; width];
    for row in zip(dy, &normed, |a, b| a * b).chunks(width) {
        dgamma.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let scaled = columns(dy, gamma);
    let mean = reduce(&zip(&scaled, &normed, |a, b| a * b), width, |row| {
        row.iter().sum::<f32>() / row.len() as f32
    });
    let pulled = rows(&normed, width, &mean, |x, m| x * m);
    (rows(&zip(&scaled, &pulled, |a, b| a - b), width, rstd, |x, r| x * r), dgamma)
}

/// Slices apart, four products, joined again.
pub fn rope(x: &[f32], cos: &[f32], sin: &[f32], s: &RopeShape) -> Vec<f32> {
    let (half, nope) = (s.rope_dim / 2, s.head_dim - s.rope_dim);
    let part = |offset: usize| -> Vec<f32> {
        x.chunks(s.head_dim)
            .flat_map(|head| (0..half).map(move |j| head[nope + 2 * j + offset]))
            .collect()
    };
    let table = |table: &[f32]| -> Vec<f32> {
        (0..x.len() / s.head_dim)
            .flat_map(|row| table[row / s.heads % s.tokens * half..][..half].to_vec())
            .collect()
    };
    let (a, b, cos, sin) = (part(0), part(1), table(cos), table(sin));
    let product = |x: &[f32], y: &[f32]| zip(x, y, |x, y| x * y);
    let first = zip(&product(&a, &cos), &product(&b, &sin), |x, y| x - y);
    let second = zip(&product(&a, &sin), &product(&b, &cos), |x, y| x + y);
    let mut out = x.to_vec();
    for (row, out) in out.chunks_mut(s.head_dim).enumerate() {
        for j in 0..half {
            out[nope + 2 * j] = first[row * half + j];
            out[nope + 2 * j + 1] = second[row * half + j];
        }
    }
    out
}

/// Rows by index.
pub fn gather(x: &[f32], index: &[u32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; index.len() * width];
    out.par_chunks_mut(width)
        .zip(index)
        .for_each(|(out, &i)| out.copy_from_slice(&x[i as usize * width..][..width]));
    out
}

/// Rows added by index.
pub fn scatter(x: &[f32], index: &[u32], rows: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * width];
    for (x, &i) in x.chunks(width).zip(index) {
        out[i as usize * width..][..width].iter_mut().zip(x).for_each(|(out, x)| *out += x);
    }
    out
}

/// Gather, multiply, sum over slots.
pub fn combine(
    y: &[f32],
    weights: &[f32],
    inverse: &[u32],
    slots: usize,
    width: usize,
) -> Vec<f32> {
    let weighted = rows(&gather(y, inverse, width), width, weights, |x, w| x * w);
    let mut out = vec![0.0; inverse.len() / slots * width];
    out.par_chunks_mut(width).zip(weighted.par_chunks(slots * width)).for_each(|(out, slots)| {
        for slot in slots.chunks(width) {
            out.iter_mut().zip(slot).for_each(|(out, x)| *out += x);
        }
    });
    out
}

/// Spread, multiply, scatter; gather, multiply, sum.
pub fn combine_backward(
    y: &[f32],
    weights: &[f32],
    inverse: &[u32],
    dout: &[f32],
    slots: usize,
    width: usize,
) -> (Vec<f32>, Vec<f32>) {
    let tokens: Vec<u32> = (0..inverse.len()).map(|slot| (slot / slots) as u32).collect();
    let spread = gather(dout, &tokens, width);
    let dy = scatter(&rows(&spread, width, weights, |x, w| x * w), inverse, y.len() / width, width);
    let dweights = reduce(&zip(&spread, &gather(y, inverse, width), |a, b| a * b), width, |row| {
        row.iter().sum()
    });
    (dy, dweights)
}

/// AdamW, an operation at a time.
pub fn adamw(state: &mut (Vec<f32>, Vec<f32>, Vec<f32>), gradient: &[f32], c: &AdamWConfig) {
    let (p, m, v) = state;
    let g = map(gradient, |g| g * c.gradient_scale);
    *m = zip(&map(m, |m| m * c.beta1), &map(&g, |g| g * (1.0 - c.beta1)), |a, b| a + b);
    *v = zip(
        &map(v, |v| v * c.beta2),
        &map(&map(&g, |g| g * g), |g| g * (1.0 - c.beta2)),
        |a, b| a + b,
    );
    let (c1, c2) = (1.0 - c.beta1.powi(c.step as i32), 1.0 - c.beta2.powi(c.step as i32));
    let root = map(&map(&map(v, |v| v / c2), f32::sqrt), |x| x + c.eps);
    let change = zip(&map(m, |m| m / c1), &root, |m, r| m / r);
    *p = zip(&map(p, |p| p * (1.0 - c.lr * c.weight_decay)), &change, |p, x| p - c.lr * x);
}

pub fn average_into(average: &mut Vec<f32>, value: &[f32], rate: f32) {
    *average = zip(&map(average, |a| a * (1.0 - rate)), &map(value, |v| v * rate), |a, b| a + b);
}
