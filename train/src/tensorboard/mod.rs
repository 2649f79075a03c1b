//! TensorBoard's event files: what a record says, for those who look at their runs there.
//!
//! **Invariant.** The events are a function of a run's configuration and of the lines of its
//! record: whoever has these two can write the files again, and a run that goes on does so first,
//! so that no event is of a step that was dropped, and none is missing after a kill.

mod events;
mod file;
mod framing;
mod histogram;
mod hparams;
mod messages;
mod tags;
mod text;

pub use events::RunFacts;
pub use file::{EVENTS_FOLDER, EventFile, PARTIAL_EVENTS};
