//! The optimizer and the average of the weights.

use cubecl_kernels::definition::AdamWConfig;

use super::{map, zip};

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
