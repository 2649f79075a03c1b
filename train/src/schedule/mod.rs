//! What changes in the course of a run, as functions of where it stands: learning rate, batch,
//! gamma, alpha, lambda (report, 4.2).
//!
//! Positions are counted in trained tokens. The batch of a step follows from the tokens *before*
//! it; everything else from the position *after* it, so that the first update has not a learning
//! rate of 0 and the last one has what the table ends with. A segment may be bounded in steps or in
//! percent of the run as well; within one that is bounded in steps, values go by steps. Where
//! batches ramp, steps and tokens are converted by counting the steps of the run from its start.
//!
//! **Invariant.** Values are functions of the position and the configuration alone: nothing is
//! remembered from step to step.

mod batch;
mod count;
mod course;
mod position;
mod table;
#[cfg(test)]
mod tests;
mod training;
mod until;
mod written;

pub use count::parse_count;
pub(crate) use count::rounded_count;
pub use position::{Length, Position};
pub use table::Row;
pub use training::{StepSettings, TrainingSchedule};
pub use until::Until;
pub use written::{Course, ScheduleConfig, Segment, Shape};
