//! A step over ranks: pipelines that carry out a schedule, experts shared between pipelines,
//! gradients summed and weights updated where they are owned (3.2).
//!
//! Each rank is a thread bound to a Burn device, and owns a part of the model. The engine sends
//! work to all of them and puts together what comes back; between steps it can put the whole model
//! together, for evaluation, averages and checkpoints, which therefore do not depend on the layout.

mod actions;
mod chunk;
mod cluster;
mod engine;
mod flat;
mod gather;
mod passes;
mod rank;
mod rank_threads;
mod reduce;
mod report;
mod shards;
mod start;
mod step;
mod timeline;

pub use cluster::Cluster;
pub use engine::Pipelines;
pub use timeline::{RankTime, StepTimeline, TimelineCell};
