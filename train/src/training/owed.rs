//! What the model after a step is owed besides a checkpoint, each thing once in a run.
//!
//! **Invariant.** What is owed is a function of the plan and the position, and whether it has been
//! made of the record alone. So a run that is killed between a step's checkpoint and what the step
//! owes makes it when it goes on, from the checkpoint's own weights, and never makes it twice.

use super::RunPlan;
use crate::metrics::StepLog;

/// Something that is made of the model after a step, and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// The measure of the held-out windows.
    Evaluation,
}

impl Owed {
    /// Whether the record of a run has it for `step`, the last one that it has.
    pub fn is_recorded(self, log: &StepLog, step: u64) -> bool {
        match self {
            Self::Evaluation => log.has_evaluation(step),
        }
    }
}

impl RunPlan {
    /// What is owed after `step`, in the order in which it is made and recorded. Before the first
    /// step nothing is.
    pub fn owed_after(&self, step: u64) -> Vec<Owed> {
        let ends_epoch = step.is_multiple_of(self.eval_every);
        if step > 0 && (ends_epoch || step >= self.steps) { vec![Owed::Evaluation] } else { vec![] }
    }

    /// Whether a checkpoint is due after `step`. It comes before what the step owes: an evaluation
    /// may take longer than all the steps since the last one.
    pub fn saves_after(&self, step: u64) -> bool {
        step >= self.steps
            || (self.checkpoint_every > 0 && step.is_multiple_of(self.checkpoint_every))
    }

    /// The epoch of burn-train's learner that `step` belongs to; they are counted from 1.
    pub fn epoch_of(&self, step: u64) -> usize {
        step.max(1).div_ceil(self.eval_every) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    #[test]
    fn a_step_owes_what_its_place_in_the_run_says() {
        let schedule = ConfigRequest::default().resolve().unwrap().schedule().unwrap();
        let plan = RunPlan { steps: 7, eval_every: 3, checkpoint_every: 2, schedule };
        let steps = |says: &dyn Fn(u64) -> bool| -> Vec<u64> {
            (0..10).filter(|&step| says(step)).collect()
        };
        let owes = |step| plan.owed_after(step) == [Owed::Evaluation];
        assert_eq!(steps(&owes), [3, 6, 7, 8, 9]);
        assert_eq!(steps(&|step| plan.saves_after(step)), [0, 2, 4, 6, 7, 8, 9]);
        let only_at_the_end = RunPlan { checkpoint_every: 0, ..plan.clone() };
        assert_eq!(steps(&|step| only_at_the_end.saves_after(step)), [7, 8, 9]);
        assert_eq!([1, 3, 4, 6, 7].map(|step| plan.epoch_of(step)), [1, 1, 2, 2, 3]);
    }
}
