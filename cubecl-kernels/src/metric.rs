//! The one measure by which two results are compared.

/// `1 - 2 sum(xy) / sum(x^2 + y^2)`, in f64: 0 for equal inputs, 0 where both are all zero.
///
/// # Shapes
/// Both of the same length; of unequal lengths the answer is infinity, and NaN anywhere gives NaN.
///
/// # Examples
/// ```
/// use cubecl_kernels::metric::calc_diff;
///
/// assert_eq!(calc_diff(&[1.0f32, 2.0], &[1.0f64, 2.0]), 0.0);
/// assert!(calc_diff(&[1.0f32, 2.0], &[1.0f32, 2.1]) < 1e-3);
/// assert_eq!(calc_diff(&[1.0f32], &[-1.0f32]), 2.0);
/// ```
pub fn calc_diff<A: Copy + Into<f64>, B: Copy + Into<f64>>(x: &[A], y: &[B]) -> f64 {
    if x.len() != y.len() {
        return f64::INFINITY;
    }
    let (mut cross, mut squares) = (0.0f64, 0.0f64);
    for (&a, &b) in x.iter().zip(y) {
        let (a, b) = (a.into(), b.into());
        cross += a * b;
        squares += a * a + b * b;
    }
    if squares == 0.0 { 0.0 } else { 1.0 - 2.0 * cross / squares }
}

#[cfg(test)]
mod tests {
    use super::calc_diff;

    #[test]
    fn hard_edges() {
        assert_eq!(calc_diff::<f32, f32>(&[], &[]), 0.0);
        assert_eq!(calc_diff(&[0.0f32; 3], &[0.0f64; 3]), 0.0);
        assert_eq!(calc_diff(&[1.0f32, 2.0], &[1.0f64, 2.0]), 0.0);
        assert_eq!(calc_diff(&[1.0f32], &[-1.0f32]), 2.0);
        assert_eq!(calc_diff(&[1.0f32], &[1.0f32, 2.0]), f64::INFINITY);
        assert!(calc_diff(&[f32::NAN], &[1.0f32]).is_nan());
    }
}
