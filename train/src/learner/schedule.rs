//! The learning rate as a function of the step, and of nothing else (report, 4.2).

use std::f64::consts::PI;

use crate::config::{OptimizerConfig, Schedule};

/// The course of the learning rate: a linear warm-up, a plateau, a half cosine, a floor.
///
/// ```text
/// lr(s) = lr s / warmup                                              s < warmup
///         lr                                                         s <= decay_start
///         lr_min + (lr - lr_min) (1 + cos(pi (s - start) / (end - start))) / 2   s < decay_end
///         lr_min                                                     after it
/// ```
/// Steps count from 1: the first update is step 1, so no update has a learning rate of 0.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    /// The plateau.
    pub lr: f64,
    /// The floor.
    pub lr_min: f64,
    /// Step at which the warm-up is over.
    pub warmup_steps: f64,
    /// Step after which the decay begins.
    pub decay_start: f64,
    /// Step at which the floor is reached.
    pub decay_end: f64,
}

impl LearningRate {
    /// The schedule of a run of `total_steps`. A warm-up as long as the run leaves no room for a plateau or a decay.
    pub fn of(optimizer: &OptimizerConfig, total_steps: u64) -> Self {
        let total = total_steps as f64;
        let warmup = optimizer.warmup_steps as f64;
        let (decay_start, decay_end) = match optimizer.schedule {
            Schedule::Constant => (f64::INFINITY, f64::INFINITY),
            Schedule::Cosine => (warmup, total),
            Schedule::WarmupStableDecay => (warmup.max(total * (1.0 - optimizer.decay_fraction)), total),
        };
        Self { lr: optimizer.lr, lr_min: optimizer.lr_min, warmup_steps: warmup, decay_start, decay_end }
    }

    /// The learning rate of update `step`, counted from 1.
    pub fn at(&self, step: u64) -> f64 {
        self.at_position(step as f64)
    }

    fn at_position(&self, step: f64) -> f64 {
        if step < self.warmup_steps {
            self.lr * step / self.warmup_steps
        } else if step <= self.decay_start {
            self.lr
        } else if step < self.decay_end {
            let progress = (step - self.decay_start) / (self.decay_end - self.decay_start);
            self.lr_min + (self.lr - self.lr_min) * (1.0 + (PI * progress).cos()) / 2.0
        } else {
            self.lr_min
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimizer(schedule: Schedule, warmup_steps: u64) -> OptimizerConfig {
        let mut optimizer: OptimizerConfig = toml::from_str("lr = 1.0\nlr_min = 0.1\ndecay_fraction = 0.4").unwrap();
        optimizer.schedule = schedule;
        optimizer.warmup_steps = warmup_steps;
        optimizer
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn the_report_s_values() {
        // Steps of a full batch of 62,914,560 tokens: constant to 10T tokens, then a cosine over 4.3T.
        let steps = |tokens: f64| tokens / 62_914_560.0;
        let report =
            LearningRate { lr: 2.2e-4, lr_min: 2.2e-5, warmup_steps: 2000.0, decay_start: steps(10e12), decay_end: steps(14.3e12) };
        close(report.at(1000), 1.1e-4);
        close(report.at(2000), 2.2e-4);
        close(report.at_position(steps(9.9e12)), 2.2e-4);
        close(report.at_position(steps(12.15e12)), 1.21e-4);
        close(report.at_position(steps(14.3e12)), 2.2e-5);
        close(report.at_position(steps(14.8e12)), 2.2e-5);
    }

    #[test]
    fn the_first_update_is_not_wasted() {
        close(LearningRate::of(&optimizer(Schedule::Cosine, 10), 100).at(1), 0.1);
        close(LearningRate::of(&optimizer(Schedule::Cosine, 0), 100).at(0), 1.0);
    }

    #[test]
    fn cosine_ends_at_the_floor() {
        let rate = LearningRate::of(&optimizer(Schedule::Cosine, 10), 110);
        close(rate.at(10), 1.0);
        close(rate.at(60), 0.55);
        close(rate.at(110), 0.1);
        close(rate.at(500), 0.1);
    }

    #[test]
    fn warmup_stable_decay_keeps_its_plateau() {
        let rate = LearningRate::of(&optimizer(Schedule::WarmupStableDecay, 10), 100);
        for step in 10..=60 {
            close(rate.at(step), 1.0);
        }
        close(rate.at(80), 0.55);
        close(rate.at(100), 0.1);
    }

    #[test]
    fn constant_stays() {
        let rate = LearningRate::of(&optimizer(Schedule::Constant, 2), 10);
        close(rate.at(1), 0.5);
        close(rate.at(1_000_000), 1.0);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_only_warms_up() {
        for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::WarmupStableDecay] {
            let rate = LearningRate::of(&optimizer(schedule, 100), 5);
            for step in 1..=5 {
                close(rate.at(step), step as f64 / 100.0);
            }
        }
    }

    #[test]
    fn every_rate_is_between_the_floor_and_the_plateau_after_the_warm_up() {
        let mut sharp = optimizer(Schedule::WarmupStableDecay, 0);
        for fraction in [0.0, 1e-9, 0.5, 1.0] {
            sharp.decay_fraction = fraction;
            let rate = LearningRate::of(&sharp, 7);
            for step in 0..20 {
                assert!((0.1..=1.0).contains(&rate.at(step)), "{fraction} {step}");
            }
        }
    }
}
