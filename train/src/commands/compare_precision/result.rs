//! What one run of a comparison came to, over all its seeds, and beside the baseline.

use serde::Serialize;
use serde_json::json;

use super::curves::{ErrorSummary, closing_loss, relative_errors_percent};
use super::report::{BAR_PERCENT, Comparison};
use super::runs::Planned;
use super::tables::signed;
use super::trained::Trained;
use crate::commands::bench::median;
use crate::metrics::duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ended {
    /// The run came to its last step.
    Complete,
    /// A signal ended the run.
    Interrupted,
    /// A loss or a gradient was no number.
    Diverged,
}

impl Ended {
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Diverged => "diverged",
        }
    }
}

/// What one run came to.
#[derive(Debug)]
pub(super) struct RunResult {
    pub name: String,
    pub what: String,
    /// Whether the experts are those that the baseline chose.
    pub fixed_routing: bool,
    pub set: &'static [&'static str],
    /// How the last seed that was trained ended.
    pub ended: Ended,
    /// Seeds that were trained.
    pub seeds: u64,
    /// Training loss of each step, as far as it was a number; the mean over the seeds.
    pub losses: Vec<f64>,
    /// Mean of the last twentieth of them.
    pub train_loss: Option<f64>,
    /// Mean loss of the evaluation at the end.
    pub valid_loss: Option<f64>,
    /// Relative errors against the baseline; none for the baseline itself, and for a run that was
    /// not half done.
    pub errors: Option<ErrorSummary>,
    /// Milliseconds of each step of each seed.
    pub times: Vec<f64>,
    /// Median milliseconds of a step.
    pub step_ms: f64,
    /// Median time of a step over the baseline's.
    pub time_ratio: f64,
    /// Seconds of training steps together.
    pub seconds: f64,
}

impl RunResult {
    /// The result of a run that no seed has been trained of yet.
    pub fn new(planned: Planned, baseline: &str) -> Self {
        let (losses, nan) = (Vec::new(), f64::NAN);
        Self {
            name: planned.name(),
            what: planned.what(baseline),
            fixed_routing: planned.fixed,
            set: planned.run.set,
            ended: Ended::Complete,
            seeds: 0,
            losses,
            train_loss: None,
            valid_loss: None,
            errors: None,
            times: Vec::new(),
            step_ms: nan,
            time_ratio: nan,
            seconds: 0.0,
        }
    }

    /// Takes the training of one more seed: losses are means over all of them, as far as every one
    /// came.
    pub fn absorb(&mut self, trained: Trained) {
        let seeds = self.seeds as f64;
        let mean = |all: f64, one: f64| (all * seeds + one) / (seeds + 1.0);
        self.losses = match self.seeds {
            0 => trained.losses,
            _ => self.losses.iter().zip(trained.losses).map(|(&all, one)| mean(all, one)).collect(),
        };
        self.valid_loss = match self.seeds {
            0 => trained.valid_loss,
            _ => self.valid_loss.zip(trained.valid_loss).map(|(all, one)| mean(all, one)),
        };
        self.seeds += 1;
        self.ended = trained.ended;
        self.seconds += trained.times.iter().sum::<f64>() / 1e3;
        self.times.extend(trained.times);
        self.step_ms = median(&self.times);
    }

    /// Works out everything that needs the other runs.
    pub fn compare(&mut self, comparison: &Comparison) {
        // A loss that blew up just before its end says nothing of where the run had come to.
        self.train_loss = closing_loss(&self.losses).filter(|_| self.ended != Ended::Diverged);
        match comparison.runs.first() {
            None => self.time_ratio = 1.0,
            Some(baseline) => {
                let errors = relative_errors_percent(&self.losses, &baseline.losses);
                self.errors = ErrorSummary::of(&errors, comparison.steps);
                self.time_ratio = self.step_ms / baseline.step_ms;
            }
        }
    }

    /// One line for when the run has ended.
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let mut line = format!(
            "{}: training loss {}, held-out loss {}",
            self.name,
            number(self.train_loss),
            number(self.valid_loss)
        );
        if let Some(errors) = self.errors {
            line += &format!(
                ", relative error {}% at the end, {:.2}% at most",
                signed(errors.end_percent, 2),
                errors.max_percent
            );
        }
        if self.ended != Ended::Complete {
            line += &format!(", {} after {} steps", self.ended.name(), self.losses.len());
        }
        line + &format!(", {:.1} ms a step, {}", self.step_ms, duration(self.seconds))
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "what": self.what,
            "fixed_routing": self.fixed_routing,
            "set": self.set,
            "ended": self.ended,
            "seeds": self.seeds,
            "steps": self.losses.len(),
            "train_loss": self.train_loss,
            "valid_loss": self.valid_loss,
            "relative_error_end_percent": self.errors.map(|errors| errors.end_percent),
            "relative_error_max_percent": self.errors.map(|errors| errors.max_percent),
            "relative_error_mean_percent": self.errors.map(|errors| errors.mean_percent),
            "within_bar": self.errors.map(|errors| errors.max_percent < BAR_PERCENT),
            "step_ms": self.step_ms,
            "time_ratio": self.time_ratio,
            "seconds": self.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::runs::RUNS;
    use super::*;

    #[test]
    fn losses_are_means_over_the_seeds_as_far_as_all_of_them_came() {
        let trained = |ended, losses: &[f64], valid_loss| Trained {
            ended,
            losses: losses.to_vec(),
            valid_loss,
            times: vec![2.0; losses.len()],
        };
        let planned = Planned { run: &RUNS[0], fixed: false };
        let mut result = RunResult::new(planned, "f32");
        result.absorb(trained(Ended::Complete, &[4.0, 2.0], Some(3.0)));
        result.absorb(trained(Ended::Complete, &[1.0, 5.0], Some(6.0)));
        result.absorb(trained(Ended::Complete, &[1.0, 2.0], Some(0.0)));
        assert_eq!(
            (&result.losses[..], result.valid_loss, result.seeds),
            (&[2.0, 3.0][..], Some(3.0), 3)
        );
        assert_eq!((result.seconds, result.step_ms, result.ended), (0.012, 2.0, Ended::Complete));
        result.absorb(trained(Ended::Diverged, &[6.0], None));
        assert_eq!(
            (&result.losses[..], result.valid_loss, result.ended),
            (&[3.0][..], None, Ended::Diverged)
        );
    }
}
