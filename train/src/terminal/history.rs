//! What the view keeps of a run's record: curves in bounded room, and the last of everything else.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::series::Series;
use crate::record::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Fp8Casts, GradNorms, Line, RunState,
    SampleLine, StepLine, SystemLine,
};

/// Alerts that are kept.
const ALERTS: usize = 200;
/// Values of a layer's violation that are kept.
const VIOLATIONS: usize = 64;
/// Steps whose seconds the time that is left is reckoned from.
const PACE: usize = 128;

/// What casts to FP8 did to a kind of tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cast {
    pub name: &'static str,
    /// Shares of values that were clipped, and that became zero.
    pub saturated: Option<f64>,
    pub underflowed: Option<f64>,
    pub scale_min: Option<f64>,
    pub scale_max: Option<f64>,
}

/// What a rank did in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rank {
    pub busy_seconds: f64,
    pub waiting_seconds: f64,
    pub sent_bytes: u64,
}

/// A record as far as it was read.
#[derive(Debug, Default)]
pub(super) struct History {
    pub loss: Series,
    pub mtp: Series,
    pub valid: Series,
    pub grad_norm: Series,
    pub param_norm: Series,
    pub lr: Series,
    pub balance: Series,
    pub speed: Series,
    pub step_seconds: Series,
    pub violation: Series,
    pub resident: Series,
    pub cpu: Series,
    /// Seconds of a step with what saving cost it.
    pace: Series,
    /// The last lines.
    pub step: Option<StepLine>,
    pub evaluation: Option<EvaluationLine>,
    pub system: Option<SystemLine>,
    pub sample: Option<SampleLine>,
    /// The last loads of experts, and the step that they are of.
    pub loads: Option<(u64, Experts)>,
    /// Of each MoE layer the last violations.
    pub layer_violations: Vec<VecDeque<f64>>,
    /// Norms of the gradients by part of the model, where they were measured.
    pub grad_norms: Option<GradNorms>,
    /// Of each MoE layer the entropy of the gate, where it was measured.
    pub gate_entropy: Vec<f64>,
    /// Of each MoE layer how far its balance biases moved between the last two evaluations.
    pub bias_drift: Vec<f64>,
    /// The last casts to FP8 that were looked at, and the step that they are of.
    pub fp8: Option<(u64, [Cast; 3])>,
    /// The ranks of the last step that was looked at.
    pub ranks: Vec<Rank>,
    /// Step and loss of the best evaluation.
    pub best: Option<(u64, f64)>,
    /// The last alerts, the newest at the end.
    pub alerts: VecDeque<AlertLine>,
    /// Alerts of the levels info, warning and error.
    pub counts: [usize; 3],
    /// Whether the loss was no finite number.
    pub diverged: bool,
    /// When the last line was written.
    pub written: Option<DateTime<Utc>>,
    /// Lines that cannot be read.
    pub unreadable: usize,
}

impl History {
    /// Takes the next line. `false` where it is of an earlier step than those before it: the run
    /// was resumed, and the record is to be read from its beginning again.
    pub fn take(&mut self, line: Line) -> bool {
        let stamp = line.stamp();
        if let Ok(time) = DateTime::parse_from_rfc3339(&stamp.time) {
            self.written = Some(time.to_utc());
        }
        match line {
            Line::Step(step) => {
                if step.stamp.step <= self.steps() {
                    return false;
                }
                self.take_step(step);
            }
            Line::Evaluation(evaluation) => self.take_evaluation(evaluation),
            Line::System(system) => {
                let x = system.stamp.step as f64;
                let number = |value: Option<u64>| value.map_or(f64::NAN, |value| value as f64);
                self.resident.push(x, number(system.resident_bytes));
                self.cpu.push(x, system.cpu_cores.unwrap_or(f64::NAN));
                self.system = Some(system);
            }
            Line::Sample(sample) => self.sample = Some(sample),
            Line::Alert(alert) => {
                self.counts[match alert.level {
                    AlertLevel::Info => 0,
                    AlertLevel::Warning => 1,
                    AlertLevel::Error => 2,
                }] += 1;
                self.diverged |= alert.rule == "diverged";
                if self.alerts.len() == ALERTS {
                    self.alerts.pop_front();
                }
                self.alerts.push_back(alert);
            }
        }
        true
    }

    fn take_step(&mut self, step: StepLine) {
        let x = step.stamp.step as f64;
        for (series, value) in [
            (&mut self.loss, step.loss),
            (&mut self.mtp, step.mtp_loss.unwrap_or(f64::NAN)),
            (&mut self.grad_norm, step.grad_norm),
            (&mut self.lr, step.lr),
            (&mut self.balance, step.balance_loss),
            (&mut self.speed, step.tokens_per_second),
            (&mut self.step_seconds, step.step_seconds),
            (&mut self.pace, step.step_seconds + step.saving_seconds),
            (&mut self.violation, step.experts.max_violation.unwrap_or(f64::NAN)),
        ] {
            series.push(x, value);
        }
        self.layer_violations.resize_with(step.experts.layers.len(), VecDeque::new);
        for (layer, &violation) in
            self.layer_violations.iter_mut().zip(&step.experts.layer_violation)
        {
            if layer.len() == VIOLATIONS {
                layer.pop_front();
            }
            layer.push_back(violation);
        }
        if !step.experts.expert_loads.is_empty() {
            self.loads = Some((step.stamp.step, step.experts.clone()));
        }
        self.take_details(&step);
        self.step = Some(step);
    }

    /// Takes what is measured in some steps only.
    fn take_details(&mut self, step: &StepLine) {
        if !step.gate_entropy.is_empty() {
            self.gate_entropy.clone_from(&step.gate_entropy);
        }
        if let Some(norm) = step.param_norm {
            self.param_norm.push(step.stamp.step as f64, norm);
            self.grad_norms = Some(step.grad_norms);
        }
        let casts = casts(&step.fp8);
        if casts.iter().any(|cast| cast.saturated.is_some()) {
            self.fp8 = Some((step.stamp.step, casts));
        }
        if !step.rank_busy_seconds.is_empty() {
            let number = |values: &[f64], rank: usize| values.get(rank).copied().unwrap_or(0.0);
            let sent = |rank: usize| step.rank_sent_bytes.get(rank).copied().unwrap_or(0);
            self.ranks = (0..step.rank_busy_seconds.len())
                .map(|rank| Rank {
                    busy_seconds: number(&step.rank_busy_seconds, rank),
                    waiting_seconds: number(&step.rank_waiting_seconds, rank),
                    sent_bytes: sent(rank),
                })
                .collect();
        }
    }

    fn take_evaluation(&mut self, evaluation: EvaluationLine) {
        let (step, loss) = (evaluation.stamp.step, evaluation.valid_loss);
        self.valid.push(step as f64, loss);
        if loss.is_finite() && self.best.is_none_or(|(_, best)| loss < best) {
            self.best = Some((step, loss));
        }
        if !evaluation.experts.expert_loads.is_empty() {
            self.loads = Some((step, evaluation.experts.clone()));
        }
        self.bias_drift.clone_from(&evaluation.bias_drift);
        self.evaluation = Some(evaluation);
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step.as_ref().map_or(0, |step| step.stamp.step)
    }

    /// Whether a run of so many steps has made them all and its last evaluation.
    pub fn state(&self, is_trained: bool, planned: u64) -> RunState {
        let evaluated = self.evaluation.as_ref().map_or(0, |line| line.stamp.step);
        RunState::of(is_trained, self.diverged, self.steps(), evaluated, planned)
    }

    /// Seconds until a run of so many steps has made them all, with the evaluations that it makes
    /// every so many, at the pace of its last steps.
    pub fn seconds_left(&self, steps: u64, eval_every: u64) -> Option<f64> {
        let (count, sum) =
            self.pace.recent(PACE).fold((0, 0.0), |(n, sum), seconds| (n + 1, sum + seconds));
        let left = steps.saturating_sub(self.steps());
        let evaluations = left.div_ceil(eval_every.max(1)) as f64;
        let each = self.evaluation.as_ref().map_or(0.0, |line| line.evaluation_seconds);
        (count > 0).then(|| sum / f64::from(count) * left as f64 + evaluations * each)
    }
}

fn casts(line: &Fp8Casts) -> [Cast; 3] {
    [
        Cast {
            name: "activations",
            saturated: line.fp8_activations_saturated,
            underflowed: line.fp8_activations_underflowed,
            scale_min: line.fp8_activations_scale_min,
            scale_max: line.fp8_activations_scale_max,
        },
        Cast {
            name: "weights",
            saturated: line.fp8_weights_saturated,
            underflowed: line.fp8_weights_underflowed,
            scale_min: line.fp8_weights_scale_min,
            scale_max: line.fp8_weights_scale_max,
        },
        Cast {
            name: "gradients",
            saturated: line.fp8_gradients_saturated,
            underflowed: line.fp8_gradients_underflowed,
            scale_min: line.fp8_gradients_scale_min,
            scale_max: line.fp8_gradients_scale_max,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{evaluation, step};
    use super::*;

    #[test]
    fn a_record_that_begins_again_is_noticed() {
        let mut history = History::default();
        assert!((1..=5).all(|number| history.take(step(number, 2.0))));
        assert!(!history.take(step(4, 2.0)));
        assert_eq!(history.steps(), 5);
    }

    #[test]
    fn time_left_has_the_evaluations_in_it() {
        let mut history = History::default();
        assert_eq!(history.seconds_left(100, 10), None);
        for number in 1..=10 {
            history.take(step(number, 2.0)); // half a second each
        }
        assert_eq!(history.seconds_left(20, 10), Some(5.0));
        history.take(evaluation(10, 2.5)); // two seconds each
        assert_eq!(history.seconds_left(20, 10), Some(7.0));
        let states = [20, 10].map(|planned| history.state(false, planned));
        assert_eq!(states, [RunState::Stopped, RunState::Finished]);
        assert_eq!(history.best, Some((10, 2.5)));
    }
}
