//! Pipelines: their schedules as values, and the engine that carries them out over ranks (3.2.1).

mod action;
mod executor;
mod folded;
mod schedule;
mod unidirectional;

pub use action::{Action, Chunk, Planned, Transfer, TransferKind};
pub use executor::{Cluster, Pipelines, RankTime, StepTimeline, TimelineCell};
pub use schedule::{Schedule, ScheduleError, ScheduleKind, UnknownSchedule, schedule};
