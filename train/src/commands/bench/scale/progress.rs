//! Which point is measured, and about how long it all still takes: on standard error, a line that
//! is redrawn on a terminal, and a line a point elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use super::super::Repetitions;
use super::super::train::operations;
use super::axis::Point;
use super::bound::Rates;
use crate::cli::ScaleAxis;
use crate::metrics::duration;
use crate::stdout::{ERASE, write_progress};

/// Seconds until a process has its model.
const START: f64 = 0.5;
/// What a repetition does beside its step, as a multiple of the step: a forward pass.
const BESIDE: f64 = 1.4;
/// The share of the peak that is taken for granted until a point has been measured.
const SHARE: f64 = 0.35;

/// Tells the user how far it is.
#[derive(Debug)]
pub(super) struct Progress {
    /// Seconds of each point by its arithmetic, as if the machine did so much.
    expected: Vec<f64>,
    /// Whether those are a guess of seconds, and not of their proportions alone.
    in_seconds: bool,
    done: usize,
    spent: f64,
    began: Instant,
    terminal: bool,
}

impl Progress {
    /// For all points.
    pub fn new(points: &[&Point], rates: Option<Rates>, reps: Repetitions) -> Self {
        let runs = BESIDE * reps.warmup.saturating_add(reps.timed) as f64;
        let flops = rates.map_or(1e10, |rates| SHARE * rates.flops);
        let seconds = |point: &&Point| {
            let (_, tokens) = point.step().unwrap_or_default();
            START + runs * operations(&point.config, true, tokens) / flops
        };
        Self {
            expected: points.iter().map(seconds).collect(),
            in_seconds: rates.is_some(),
            done: 0,
            spent: 0.0,
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A point begins.
    pub fn begin(&mut self, axis: ScaleAxis, point: &Point) {
        let line = self.line(axis.name(), &point.label);
        write_progress(&if self.terminal { format!("{ERASE}{line}") } else { format!("{line}\n") });
        self.began = Instant::now();
    }

    /// It has ended.
    pub fn end(&mut self) {
        self.took(self.began.elapsed().as_secs_f64());
        if self.terminal {
            write_progress(ERASE);
        }
    }

    fn took(&mut self, seconds: f64) {
        self.done += 1;
        self.spent += seconds;
    }

    /// `point 3 of 12: seq = 1024, about 1m20s left`
    fn line(&self, axis: &str, label: &str) -> String {
        let of = format!("point {} of {}: {axis} = {label}", self.done + 1, self.expected.len());
        match self.left() {
            Some(seconds) => format!("{of}, about {} left", duration(seconds)),
            None => of,
        }
    }

    /// Seconds for the points that are not done, by what those took that are.
    fn left(&self) -> Option<f64> {
        let (done, left) = self.expected.split_at(self.done.min(self.expected.len()));
        let factor = match done.iter().sum::<f64>() {
            expected if expected > 0.0 => self.spent / expected,
            _ if self.in_seconds => 1.0,
            _ => return None,
        };
        Some(factor * left.iter().sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(in_seconds: bool) -> Progress {
        Progress {
            expected: vec![10.0, 20.0, 30.0],
            in_seconds,
            done: 0,
            spent: 0.0,
            began: Instant::now(),
            terminal: false,
        }
    }

    #[test]
    fn what_is_left_follows_what_it_took_so_far() {
        let mut progress = progress(true);
        assert_eq!(progress.line("seq", "256"), "point 1 of 3: seq = 256, about 1m00s left");
        progress.took(20.0);
        assert_eq!(progress.line("seq", "512"), "point 2 of 3: seq = 512, about 1m40s left");
        progress.took(40.0);
        progress.took(60.0);
        assert_eq!(progress.left(), Some(0.0));
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let mut progress = progress(false);
        assert_eq!(progress.line("seq", "256"), "point 1 of 3: seq = 256");
        progress.took(5.0);
        assert_eq!(progress.left(), Some(25.0));
    }
}
