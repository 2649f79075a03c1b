//! Rotary position embedding, the plain form.

use crate::definition::{RopeLayout, RopeShape};

/// Rotates each pair of the last `dr` entries of every head.
///
/// # Shapes
/// - `x [b, t, h, head_dim]`, `cos` and `sin [t, dr / 2]` -> `[b, t, h, head_dim]`
pub fn rope(x: &[f64], cos: &[f64], sin: &[f64], shape: &RopeShape) -> Vec<f64> {
    let mut y = x.to_vec();
    let half = shape.rope_dim / 2;
    for row in 0..shape.batch * shape.tokens * shape.heads {
        let token = row / shape.heads % shape.tokens;
        let start = (row + 1) * shape.head_dim - shape.rope_dim;
        for j in 0..half {
            let (first, second) = match shape.layout {
                RopeLayout::Interleaved => (start + 2 * j, start + 2 * j + 1),
                RopeLayout::Halves => (start + j, start + half + j),
            };
            let (c, s) = (cos[token * half + j], sin[token * half + j]);
            y[first] = x[first] * c - x[second] * s;
            y[second] = x[first] * s + x[second] * c;
        }
    }
    y
}
