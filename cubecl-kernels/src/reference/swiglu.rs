//! `silu(gate) * up` and its gradient, the plain form.

/// Computes `silu(gate) * up`.
///
/// # Shapes
/// - `gate_up [rows, 2 inter]` -> `[rows, inter]`
pub fn swiglu(gate_up: &[f64], rows: usize, inter: usize) -> Vec<f64> {
    let mut y = vec![0.0; rows * inter];
    for r in 0..rows {
        for i in 0..inter {
            let (g, u) = (gate_up[r * 2 * inter + i], gate_up[(r * 2 + 1) * inter + i]);
            y[r * inter + i] = g / (1.0 + (-g).exp()) * u;
        }
    }
    y
}

/// Computes the gradient of [`swiglu`] for `dy`.
///
/// # Shapes
/// - `gate_up [rows, 2 inter]`, `dy [rows, inter]` -> `[rows, 2 inter]`
pub fn swiglu_backward(gate_up: &[f64], dy: &[f64], rows: usize, inter: usize) -> Vec<f64> {
    let mut dx = vec![0.0; rows * 2 * inter];
    for r in 0..rows {
        for i in 0..inter {
            let (gate, up) = (r * 2 * inter + i, (r * 2 + 1) * inter + i);
            let (g, u, dy) = (gate_up[gate], gate_up[up], dy[r * inter + i]);
            let s = 1.0 / (1.0 + (-g).exp());
            dx[gate] = dy * u * s * (1.0 + g * (1.0 - s));
            dx[up] = dy * g * s;
        }
    }
    dx
}
