//! What ranks are, where experts are, and how tensors go from one to another (3.2).

mod crossing;
pub mod eplb;
mod exchange;
mod group;
mod layer_exchange;
mod layout;
mod pipeline;
mod placed;
mod post;
#[cfg(test)]
mod tests;
mod token;
mod traffic;
mod two_hops;
mod wire;

pub use exchange::ChunkExchange;
pub use group::ExpertParallelGroup;
pub use layout::{Axes, Place, TooManyStages, cut};
pub use pipeline::{PipelineScheduleError, PipelineScheduleKind, UnknownPipelineSchedule};
pub use placed::{PlacedExperts, PlacementError};
pub use post::{Leg, Mail, Message, Post, PostError, Subject};
pub use token::ComputeToken;
pub use traffic::{ExchangeBytes, LinkBytes, TrafficCounter};
pub use wire::WireFormats;
