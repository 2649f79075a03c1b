//! What computes row by row, and what moves rows.

use cubecl_kernels::definition::RopeShape;
use rayon::prelude::*;

use super::{map, reduce, rows, zip};

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
