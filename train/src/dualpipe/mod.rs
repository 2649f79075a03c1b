//! Pipelines: their schedules as values, and the engine that carries them out over ranks (3.2.1).

mod action;
mod executor;
mod fault;
mod folded;
mod formula;
mod lanes;
mod matched;
mod schedule;
mod simulate;
#[cfg(test)]
mod tests;
mod trace;
mod unidirectional;
mod validate;
mod walk;
mod writer;

pub use action::{Action, Chunk, Planned, Transfer, TransferKind};
pub use executor::{
    Cluster, Fill, FillAverage, Follower, OwnAverage, OwnPart, Pipelines, RankTime, Span,
    StepTimeline, TimelineCell,
};
pub use fault::{Fault, Pass, Rule};
pub use schedule::PipelineSchedule;
pub use simulate::{Costs, Simulation, Timed, Waiting, simulate};
pub use trace::Trace;
pub use validate::{Proof, validate};
