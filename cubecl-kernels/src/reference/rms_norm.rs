//! RMSNorm and its gradient, the plain form.

/// Computes `(y, rstd)`.
///
/// # Shapes
/// - `x [rows, width]`, `gamma [width]` -> `[rows, width]`, `[rows]`
pub fn rms_norm(
    x: &[f64],
    gamma: &[f64],
    eps: f64,
    rows: usize,
    width: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut rstd) = (vec![0.0; rows * width], vec![0.0; rows]);
    for r in 0..rows {
        let row = &x[r * width..][..width];
        let mean = row.iter().map(|x| x * x).sum::<f64>() / width.max(1) as f64;
        rstd[r] = 1.0 / (mean + eps).sqrt();
        for d in 0..width {
            y[r * width + d] = row[d] * rstd[r] * gamma[d];
        }
    }
    (y, rstd)
}

/// Computes the gradients `(dx, dgamma)` for `dy`.
///
/// # Shapes
/// - `x` and `dy [rows, width]`, `gamma [width]` -> `[rows, width]`, `[width]`
pub fn rms_norm_backward(
    x: &[f64],
    gamma: &[f64],
    dy: &[f64],
    eps: f64,
    rows: usize,
    width: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (_, rstd) = rms_norm(x, gamma, eps, rows, width);
    let (mut dx, mut dgamma) = (vec![0.0; rows * width], vec![0.0; width]);
    for (r, rstd) in rstd.into_iter().enumerate() {
        let at = r * width;
        let mean = (0..width).map(|d| dy[at + d] * gamma[d] * x[at + d]).sum::<f64>()
            / width.max(1) as f64;
        for d in 0..width {
            dx[at + d] = rstd * (dy[at + d] * gamma[d] - x[at + d] * rstd * rstd * mean);
            dgamma[d] += dy[at + d] * x[at + d] * rstd;
        }
    }
    (dx, dgamma)
}
