//! A step over ranks: pipelines that carry out a schedule, experts shared between pipelines,
//! gradients summed and weights updated where they are owned (3.2).
//!
//! Each rank is bound to a Burn device, and owns a part of the model. It is a thread of this
//! process, or a process of its own, for which a thread here stands and which makes its part by
//! itself. The engine gives all of them the same task and puts together what comes back; between
//! steps it can put the whole model together, for evaluation and averages, which therefore do not
//! depend on the layout. A checkpoint is written by all of them, each its own tensors in their
//! places.

mod actions;
mod chunk;
mod cluster;
mod collective;
mod engine;
mod evaluate;
mod flat;
mod gather;
mod holder;
mod own;
mod packing;
mod passes;
mod rank;
mod rank_threads;
#[cfg(all(test, feature = "wgpu"))]
mod reads_tests;
mod reduce;
mod report;
mod routings;
mod serve;
mod shards;
mod start;
mod step;
mod sums;
mod task;
mod text;
mod timeline;
mod write;

pub use cluster::Cluster;
pub use engine::Pipelines;
pub use own::{Fill, FillAverage, OwnAverage, OwnPart};
pub use serve::Follower;
pub use timeline::{RankTime, Span, StepTimeline, TimelineCell};
