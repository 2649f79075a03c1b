//! A step that is not finite: which part of it, and what is left of the run.

use std::path::{Path, PathBuf};

use crate::failure::blamed;
use crate::learner::StepReport;

/// A step whose loss or gradient norm is no number; nothing of it was saved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "step {step}: {what}: training has diverged; {}\
     (a lower schedule.lr or a longer warm-up may help)",
    kept(.checkpoint.as_deref())
)]
pub struct Diverged {
    /// The step, from 1.
    pub step: u64,
    /// Which parts are not finite, and the loss where that is.
    pub what: String,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
}

blamed!(Run: Diverged);

impl Diverged {
    /// What is wrong with a step, if anything; `checkpoint` is the last one that was saved.
    pub fn of(report: &StepReport, checkpoint: Option<&Path>) -> Option<Self> {
        if report.total_loss.is_finite() && report.grad_norm.is_finite() {
            return None;
        }
        let mut parts = vec![("the loss".to_string(), report.loss)];
        parts.extend(
            (1..)
                .zip(&report.mtp_losses)
                .map(|(depth, &loss)| (format!("the loss of MTP depth {depth}"), loss)),
        );
        parts.push(("the sequence-wise balance loss".into(), report.balance_loss));
        parts.push(("the gradient norm".into(), report.grad_norm));
        let told = |(name, value): (String, f64)| format!("{name} is {value}");
        let mut wrong: Vec<String> =
            parts.into_iter().filter(|(_, value)| !value.is_finite()).map(told).collect();
        if wrong.is_empty() {
            wrong.push(told(("the sum of the losses".into(), report.total_loss)));
        }
        let mut what = wrong.join(" and ");
        if report.loss.is_finite() {
            what += &format!(", beside a loss of {:.4}", report.loss);
        }
        Some(Self { step: report.step, what, checkpoint: checkpoint.map(Path::to_owned) })
    }
}

fn kept(checkpoint: Option<&Path>) -> String {
    checkpoint.map_or_else(
        || "nothing had been saved before it ".into(),
        |path| format!("the last good checkpoint is {} ", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(report: StepReport, checkpoint: Option<&Path>) -> Option<String> {
        Diverged::of(&report, checkpoint).map(|diverged| diverged.to_string())
    }

    #[test]
    fn only_what_is_not_finite_is_blamed() {
        let fine = StepReport {
            step: 3,
            total_loss: 5.5,
            loss: 5.25,
            mtp_losses: vec![5.3],
            grad_norm: 1.0,
            ..StepReport::default()
        };
        // A balance loss without a weight is no part of what is differentiated.
        let unweighted = StepReport { balance_loss: f64::NAN, ..fine.clone() };
        assert_eq!([message(fine.clone(), None), message(unweighted, None)], [None, None]);

        let balance = StepReport { total_loss: f64::NAN, balance_loss: f64::NAN, ..fine.clone() };
        let text = message(balance, None).unwrap();
        assert_eq!(
            text,
            "step 3: the sequence-wise balance loss is NaN, beside a loss of 5.2500: training has \
             diverged; nothing had been saved before it (a lower schedule.lr or a longer warm-up \
             may help)"
        );
        let gradients = StepReport { grad_norm: f64::INFINITY, ..fine.clone() };
        let text = message(gradients, Some(Path::new("runs/a/checkpoints/step-2"))).unwrap();
        assert!(
            text.starts_with("step 3: the gradient norm is inf, beside a loss of 5.2500: ")
                && text.contains("; the last good checkpoint is runs/a/checkpoints/step-2 ("),
            "{text}"
        );
        let all = StepReport {
            total_loss: f64::NAN,
            loss: f64::NAN,
            mtp_losses: vec![f64::NAN],
            ..fine.clone()
        };
        let text = message(all, None).unwrap();
        assert!(
            text.starts_with(
                "step 3: the loss is NaN and the loss of MTP depth 1 is NaN: training has"
            ),
            "{text}"
        );
        let text = message(StepReport { total_loss: f64::INFINITY, ..fine }, None).unwrap();
        assert!(text.starts_with("step 3: the sum of the losses is inf, beside"), "{text}");
    }
}
