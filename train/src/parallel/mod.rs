//! What ranks are, where experts are, and how tensors go from one to another (3.2).

mod carrier;
mod contents;
mod crossing;
pub mod eplb;
mod exchange;
mod group;
mod hosting;
mod joint;
mod launch;
mod layer_exchange;
mod layout;
mod library;
mod link;
mod message;
#[cfg(feature = "mpi")]
mod mpi;
mod packed;
mod pipeline;
mod placed;
mod post;
mod processes;
mod processors;
mod reduction;
mod subject;
#[cfg(test)]
mod tests;
mod token;
mod traffic;
mod two_hops;
mod wire;

pub use carrier::{Carrier, Letter};
pub use contents::{Contents, Reading};
pub use exchange::ChunkExchange;
pub use group::ExpertParallelGroup;
pub use joint::Joint;
pub use launch::{LaunchError, Launched, launched};
pub use layout::{Axes, Place, TooManyStages, cut};
pub use library::Library;
pub use link::library;
pub use message::{Message, PostError};
pub(crate) use packed::packed;
pub use packed::{Packed, Unpacking};
pub use pipeline::{PipelineScheduleError, PipelineScheduleKind, UnknownPipelineSchedule};
pub use placed::{PlacedExperts, PlacementError};
pub use post::{Mail, Post};
pub use processes::{Processes, end_processes};
pub use processors::share_of_processors;
pub use reduction::Reduction;
pub use subject::{Leg, Subject};
pub use token::ComputeToken;
pub use traffic::{ExchangeBytes, LinkBytes, TrafficCounter};
pub use wire::WireFormats;
