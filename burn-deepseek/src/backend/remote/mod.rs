//! The operations of this crate on devices of other processes: custom operations of Burn's remote
//! backend.
//!
//! A server that is given [`with_operations`] runs them with the kernels of its own backend; a
//! client knows from [`connect`] which it has. Every call is one message: its tensors by their
//! numbers, everything else as words (`arguments`). What a server lacks is composed from Burn's own
//! operations, as on any backend.

mod arguments;
mod client;
mod connect;
mod fp8;
mod fused;
mod lease;
mod rows;
mod server;

#[cfg(test)]
mod tests;

pub use connect::{ConnectError, connect};
pub(super) use connect::{is_served_fp8, is_served_fused, must_detour};
pub(super) use fused::sums_of_squares;
pub use server::with_operations;
