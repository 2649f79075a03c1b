//! `y = x w^T` and its gradients, the plain form.

use crate::definition::LinearShape;

/// Computes `y = x w^T`.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]` -> `[rows, outputs]`
pub fn linear(x: &[f64], w: &[f64], shape: &LinearShape) -> Vec<f64> {
    let LinearShape { rows, inputs, outputs } = *shape;
    let mut y = vec![0.0; rows * outputs];
    for r in 0..rows {
        for o in 0..outputs {
            for i in 0..inputs {
                y[r * outputs + o] += x[r * inputs + i] * w[o * inputs + i];
            }
        }
    }
    y
}

/// Computes `dx = dy w`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [outputs, inputs]` -> `[rows, inputs]`
pub fn linear_input_gradient(dy: &[f64], w: &[f64], shape: &LinearShape) -> Vec<f64> {
    let LinearShape { rows, inputs, outputs } = *shape;
    let mut dx = vec![0.0; rows * inputs];
    for r in 0..rows {
        for o in 0..outputs {
            for i in 0..inputs {
                dx[r * inputs + i] += dy[r * outputs + o] * w[o * inputs + i];
            }
        }
    }
    dx
}

/// Computes `dw = dy^T x`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]` -> `[outputs, inputs]`
pub fn linear_weight_gradient(dy: &[f64], x: &[f64], shape: &LinearShape) -> Vec<f64> {
    let LinearShape { rows, inputs, outputs } = *shape;
    let mut dw = vec![0.0; outputs * inputs];
    for r in 0..rows {
        for o in 0..outputs {
            for i in 0..inputs {
                dw[o * inputs + i] += dy[r * outputs + o] * x[r * inputs + i];
            }
        }
    }
    dw
}
