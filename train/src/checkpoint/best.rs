//! Which checkpoint of a run has the least validation loss: what its record says, of what is on the
//! disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{CheckpointError, complete_in};
use crate::failure::Result;
use crate::record::{Line, Record};

/// The step of the least loss among those that have a checkpoint; the first of several that are
/// equal. A loss that is no number is none.
pub(super) fn best_step(losses: &[(u64, f64)], saved: &BTreeSet<u64>) -> Option<u64> {
    let losses = losses.iter().filter(|(step, loss)| !loss.is_nan() && saved.contains(step));
    let best = losses.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    best.map(|(step, _)| *step)
}

/// The checkpoint of the run in `run_dir` whose evaluation had the least loss.
///
/// # Errors
/// No run, none whose evaluation is recorded, or a record that cannot be read.
pub fn find_best(run_dir: &Path) -> Result<PathBuf> {
    let saved = complete_in(run_dir)?;
    let mut losses = Vec::new();
    // Lines that cannot be read are passed over, as they are when a run is resumed.
    Record::readable(run_dir, |line| {
        if let Line::Evaluation(line) = line {
            losses.push((line.stamp.step, line.valid_loss));
        }
    })?;
    let best = best_step(&losses, &saved.iter().map(|(step, _)| *step).collect());
    let found = saved.into_iter().find(|(step, _)| Some(*step) == best);
    let none = || CheckpointError::NoBest { path: run_dir.to_owned() };
    Ok(found.map(|(_, path)| path).ok_or_else(none)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_first_of_the_least_that_is_there() {
        let losses = [(2, 3.0), (4, f64::NAN), (6, 1.5), (8, 1.0), (10, 1.5), (12, 2.0)];
        let best = |saved: &[u64]| best_step(&losses, &saved.iter().copied().collect());
        assert_eq!(best(&[2, 4, 6, 8, 10, 12]), Some(8));
        assert_eq!(best(&[2, 4, 6, 10, 12]), Some(6));
        assert_eq!(best(&[2, 4, 12]), Some(12));
        assert_eq!([best(&[4]), best(&[7]), best(&[])], [None; 3]);
    }
}
