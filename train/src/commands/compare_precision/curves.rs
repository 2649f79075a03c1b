//! What is said of a run's losses: smoothed as in the report (B.1), and relative to the baseline's.

use crate::commands::smoothing;

/// Coefficient of the exponential moving average that losses are shown with (B.1).
const SMOOTHING: f64 = 0.9;

/// `s_1 = x_1`, `s_t = 0.9 s_{t-1} + 0.1 x_t`.
pub(super) fn smoothed(losses: &[f64]) -> Vec<f64> {
    smoothing::smoothed(losses, SMOOTHING)
}

/// `100 (s_t - b_t) / b_t` of the smoothed losses s of a run and b of the baseline, for the steps
/// that both have made.
pub(super) fn relative_errors_percent(losses: &[f64], baseline: &[f64]) -> Vec<f64> {
    smoothed(losses)
        .into_iter()
        .zip(smoothed(baseline))
        .map(|(run, base)| 100.0 * (run - base) / base)
        .collect()
}

/// The mean of the last twentieth of the losses, of one at least; none without any.
pub(super) fn closing_loss(losses: &[f64]) -> Option<f64> {
    mean(&losses[losses.len() - losses.len().div_ceil(20)..])
}

/// What the relative errors of a run of `steps` steps come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ErrorSummary {
    /// At the last step.
    pub end_percent: f64,
    /// The largest magnitude after half of the steps.
    pub max_percent: f64,
    /// The mean, with its sign, over the same steps: what is left when noise has cancelled.
    pub mean_percent: f64,
}

impl ErrorSummary {
    /// None for a run that was not half done.
    pub fn of(errors_percent: &[f64], steps: usize) -> Option<Self> {
        let second_half = errors_percent.get(steps / 2..)?;
        Some(Self {
            end_percent: *second_half.last()?,
            max_percent: second_half.iter().fold(0.0, |max: f64, error| max.max(error.abs())),
            mean_percent: mean(second_half)?,
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_smoothed_from_the_first_one() {
        assert!(smoothed(&[]).is_empty());
        let smooth = smoothed(&[2.0, 1.0, 3.0]);
        for (value, expected) in smooth.iter().zip([2.0, 1.9, 2.01]) {
            assert!((value - expected).abs() < 1e-12, "{smooth:?}");
        }
    }

    #[test]
    fn errors_are_of_the_smoothed_losses() {
        assert_eq!(relative_errors_percent(&[2.0, 2.0, 9.0], &[2.0, 2.0]), [0.0, 0.0]);
        let errors = relative_errors_percent(&[4.0, 1.0], &[2.0, 3.0]);
        // 0.9 * 4 + 0.1 * 1 = 3.7 against 0.9 * 2 + 0.1 * 3 = 2.1
        assert!(
            (errors[0] - 100.0).abs() < 1e-9 && (errors[1] - 100.0 * 1.6 / 2.1).abs() < 1e-9,
            "{errors:?}"
        );
    }

    #[test]
    fn the_summary_is_of_the_second_half() {
        let summary = ErrorSummary::of(&[9.0, -9.0, 0.5, -0.7, 0.2], 5).unwrap();
        assert_eq!((summary.end_percent, summary.max_percent), (0.2, 0.7));
        let mean = (0.5 - 0.7 + 0.2) / 3.0;
        assert!(
            (ErrorSummary::of(&[9.0, 9.0, 0.5, -0.7, 0.2], 4).unwrap().mean_percent - mean).abs()
                < 1e-12
        );
        assert_eq!(ErrorSummary::of(&[1.0, 2.0], 4), None, "it was stopped before");
        assert_eq!(ErrorSummary::of(&[1.0], 1).map(|summary| summary.end_percent), Some(1.0));
    }

    #[test]
    fn the_closing_loss_is_of_the_last_twentieth() {
        let losses: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(closing_loss(&losses), Some(39.5));
        assert_eq!(closing_loss(&[3.0, 5.0]), Some(5.0));
        assert_eq!(closing_loss(&[]), None);
    }
}
