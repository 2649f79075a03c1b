//! What ranks are, where experts are, and how tensors go from one to another (3.2).

pub mod eplb;
mod exchange;
mod layout;
mod pipeline;
mod placed;
mod post;
mod route;
#[cfg(test)]
mod tests;
mod token;
mod traffic;
mod wire;

pub use exchange::{ChunkExchange, ExpertParallelGroup};
pub use layout::{Axes, Place, TooManyStages, cut};
pub use pipeline::{PipelineScheduleError, PipelineScheduleKind, UnknownPipelineSchedule};
pub use placed::{PlacedExperts, PlacementError};
pub use post::{Leg, Post, PostError, Subject};
pub use token::ComputeToken;
pub use traffic::{ExchangeBytes, LinkBytes, Traffic};
pub use wire::WireFormats;
