//! The experts' rows back to their tokens, and the gradient, the plain form.

/// Computes `out[t] = sum_s weights[t, s] y[inverse[t, s]]`.
///
/// # Shapes
/// - `y [m, width]`, `weights` and `inverse [n, slots]` -> `[n, width]`
pub fn combine(
    y: &[f64],
    weights: &[f64],
    inverse: &[u32],
    slots: usize,
    width: usize,
) -> Vec<f64> {
    let tokens = inverse.len().checked_div(slots).unwrap_or(0);
    let mut out = vec![0.0; tokens * width];
    for (slot, (&row, &weight)) in inverse.iter().zip(weights).enumerate() {
        for d in 0..width {
            out[slot / slots * width + d] += weight * y[row as usize * width + d];
        }
    }
    out
}

/// Computes the gradients `(dy, dweights)` of [`combine`].
///
/// # Shapes
/// - those of `y` and `weights`; `dout [n, width]`
pub fn combine_backward(
    y: &[f64],
    weights: &[f64],
    inverse: &[u32],
    dout: &[f64],
    slots: usize,
    width: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut dy, mut dweights) = (vec![0.0; y.len()], vec![0.0; weights.len()]);
    for (slot, (&row, &weight)) in inverse.iter().zip(weights).enumerate() {
        for d in 0..width {
            dy[row as usize * width + d] += weight * dout[slot / slots * width + d];
            dweights[slot] += dout[slot / slots * width + d] * y[row as usize * width + d];
        }
    }
    (dy, dweights)
}
