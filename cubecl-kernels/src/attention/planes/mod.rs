//! Attention by tiles of planes, forward and backward, for a software renderer.
//!
//! The rows of a tile are those of a plane (query rows, or keys for their own gradients), the other
//! side's lines are its columns, dealt out to the units: these sum what is theirs, and hand each
//! other their weights when rows of the other side are mixed.

mod forward;
mod gradient;
mod launch;
mod place;
mod plan;

pub(super) use launch::Buffers;
pub(super) use plan::Planes;
