//! The experts' linear maps and their gradients, the plain form.

use super::{linear, linear_input_gradient, linear_weight_gradient};

/// `(y, dx, dw)` of rows sorted by expert.
///
/// # Shapes
/// - `x [m, inputs]`, `w [e, outputs, inputs]`, `dy [m, outputs]`, `offsets [e + 1]`
pub fn grouped_linear(
    x: &[f64],
    w: &[f64],
    dy: &[f64],
    offsets: &[usize],
    inputs: usize,
    outputs: usize,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), Vec::new());
    for e in 0..offsets.len() - 1 {
        let (from, to) = (offsets[e], offsets[e + 1]);
        let w = &w[e * inputs * outputs..(e + 1) * inputs * outputs];
        let (x, dy) = (&x[from * inputs..to * inputs], &dy[from * outputs..to * outputs]);
        y.extend(linear(x, w, to - from, inputs, outputs));
        dx.extend(linear_input_gradient(dy, w, to - from, inputs, outputs));
        dw.extend(linear_weight_gradient(dy, x, to - from, inputs, outputs));
    }
    (y, dx, dw)
}
