//! One training of a comparison, and what it came to.

use std::path::Path;

use super::result::Ended;
use super::runs::Planned;
use crate::commands::train::{Start, learn};
use crate::failure::{Context, Result};
use crate::record::{Line, Record};
use crate::signals::Signals;
use crate::training::{Diverged, RunOutcome};

/// What one training came to.
pub(super) struct Trained {
    pub ended: Ended,
    /// Training loss of each step, as far as it was a number.
    pub losses: Vec<f64>,
    /// Mean loss of the evaluation at the end.
    pub valid_loss: Option<f64>,
    /// Milliseconds of each step.
    pub times: Vec<f64>,
}

/// Trains one run to its end, a signal or its divergence; its checkpoints are deleted, its metrics
/// stay.
pub(super) fn train(start: &mut Start, run: Planned, signals: &Signals) -> Result<Trained> {
    let notice = "stopping after this step and writing what there is; once more to stop at once";
    let (ended, outcome) = match learn(start, signals, notice, false) {
        Ok(outcome) => {
            (if outcome.interrupted { Ended::Interrupted } else { Ended::Complete }, Some(outcome))
        }
        Err(error) if error.is::<Diverged>() => {
            // The learner was stopped for this run's sake; the next one begins afresh.
            signals.interrupter().reset();
            (Ended::Diverged, None)
        }
        Err(error) => return Err(error.context(format!("run {}", run.name()))),
    };
    let valid_loss =
        outcome.as_ref().and_then(RunOutcome::closing_evaluation).map(|closing| closing.loss);
    let mut trained = Trained { ended, losses: Vec::new(), valid_loss, times: Vec::new() };
    trained.read(&start.folder.path)?;
    let checkpoints = start.folder.path.join(crate::checkpoint::FOLDER);
    if checkpoints.exists() {
        std::fs::remove_dir_all(&checkpoints)
            .with_context(|| format!("{}: cannot delete", checkpoints.display()))?;
    }
    Ok(trained)
}

impl Trained {
    /// Takes losses and times of all steps from a run's record.
    fn read(&mut self, folder: &Path) -> Result<()> {
        for line in Record::read(folder)? {
            // A loss that is no number is that of the last step.
            if let Line::Step(step) = line
                && step.loss.is_finite()
            {
                self.losses.push(step.loss);
                self.times.push(1e3 * step.step_seconds);
            }
        }
        Ok(())
    }
}
