//! The exponential moving average that curves are shown with.

/// `s_1 = x_1`, `s_t = c s_{t-1} + (1 - c) x_t` with the coefficient `c`.
pub(in crate::commands) fn smoothed(values: &[f64], coefficient: f64) -> Vec<f64> {
    let mut mean = None;
    let next = |&value: &f64| {
        let next = mean.map_or(value, |mean| coefficient * mean + (1.0 - coefficient) * value);
        mean = Some(next);
        next
    };
    values.iter().map(next).collect()
}
