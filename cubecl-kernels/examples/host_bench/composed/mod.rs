//! The operations as a framework composes them: one parallel pass an operation, each with an output
//! of its own.

mod products;
mod rows;
mod weights;

pub use products::{
    attention, attention_backward, cross_entropy, grouped, grouped_weight, linear_cross_entropy,
    product,
};
use rayon::prelude::*;
pub use rows::{
    combine, combine_backward, gather, rms_norm, rms_norm_backward, rope, scatter, swiglu,
    swiglu_backward,
};
pub use weights::{adamw, average_into};

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
