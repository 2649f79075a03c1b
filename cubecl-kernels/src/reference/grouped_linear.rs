//! The experts' linear maps and their gradients, the plain form.

use super::linear::{linear, linear_input_gradient, linear_weight_gradient};
use crate::definition::{GroupedLinearShape, LinearShape};

/// Computes `(y, dx, dw)` of rows sorted by expert.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [experts, outputs, inputs]`, `dy [rows, outputs]`,
///   `offsets [experts + 1]`
pub fn grouped_linear(
    x: &[f64],
    w: &[f64],
    dy: &[f64],
    offsets: &[usize],
    shape: &GroupedLinearShape,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), Vec::new());
    let GroupedLinearShape { experts, inputs, outputs, .. } = *shape;
    for e in 0..experts {
        let (from, to) = (offsets[e], offsets[e + 1]);
        let shape = LinearShape { rows: to - from, inputs, outputs };
        let w = &w[e * inputs * outputs..(e + 1) * inputs * outputs];
        let (x, dy) = (&x[from * inputs..to * inputs], &dy[from * outputs..to * outputs]);
        y.extend(linear(x, w, &shape));
        dx.extend(linear_input_gradient(dy, w, &shape));
        dw.extend(linear_weight_gradient(dy, x, &shape));
    }
    (y, dx, dw)
}
