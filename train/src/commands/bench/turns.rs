//! Timing two operations in turn, so that what else the machine does falls on both.

use std::time::Instant;

use burn::tensor::{Device, ExecutionError};

use super::Repetitions;
use super::table::{Times, median};

/// A sample is made of as many calls as take about this long, or of one: shorter ones would time
/// the clock and the waiting.
const SAMPLE_US: f64 = 2_000.0;
/// The most calls of a sample: their results may be in memory together.
const MOST_CALLS: f64 = 64.0;

/// On which device, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns<'a> {
    pub device: &'a Device,
    pub reps: Repetitions,
}

impl Turns<'_> {
    /// Median microseconds of a call of each.
    ///
    /// # Errors
    /// The device cannot finish its work.
    pub fn medians(
        &self,
        ours: &dyn Fn(),
        theirs: &dyn Fn(),
    ) -> Result<(f64, f64), ExecutionError> {
        let calls = |work: &dyn Fn()| -> Result<usize, ExecutionError> {
            self.sample(work, 1)?; // the first call compiles or allocates
            Ok((SAMPLE_US / self.sample(work, 1)?).clamp(1.0, MOST_CALLS) as usize)
        };
        let both = [(ours, calls(ours)?), (theirs, calls(theirs)?)];
        let mut times = [Times::new(), Times::new()];
        for rep in 0..self.reps.warmup.saturating_add(self.reps.timed) {
            for ((work, calls), times) in both.iter().zip(&mut times) {
                let us = self.sample(work, *calls)?;
                if rep >= self.reps.warmup {
                    times.push(us);
                }
            }
        }
        Ok((median(&times[0]), median(&times[1])))
    }

    /// Microseconds of one of so many calls, the device waited for before and after.
    fn sample(&self, work: &dyn Fn(), calls: usize) -> Result<f64, ExecutionError> {
        self.device.sync()?;
        let begin = Instant::now();
        for _ in 0..calls {
            work();
        }
        self.device.sync()?;
        Ok(begin.elapsed().as_secs_f64() * 1e6 / calls as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn both_take_turns_as_often_as_was_asked() {
        let device = Device::flex();
        let (ours, theirs) = (Cell::new(0u32), Cell::new(0u32));
        let slow = || std::thread::sleep(std::time::Duration::from_millis(3));
        let turns = Turns { device: &device, reps: Repetitions { warmup: 1, timed: 3 } };
        let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        let (us, _) = turns
            .medians(
                &|| {
                    assert!(ours.get().abs_diff(theirs.get()) <= 2, "in turn");
                    count(&ours);
                    slow();
                },
                &|| {
                    count(&theirs);
                    slow();
                },
            )
            .unwrap();
        assert_eq!(
            (ours.get(), theirs.get()),
            (6, 6),
            "twice to see how long it takes, one warm-up, three that count"
        );
        assert!(us >= 3_000.0, "{us}");
    }
}
