//! The operations of this crate on devices of other processes: custom operations of Burn's remote
//! backend.
//!
//! A server of Burn's that is given [`with_operations`], or one of the program's own that is given
//! devices by [`serve_devices`], runs them with the kernels of its own backend; a client knows from [`connect`] which it has. Every call is one message: its tensors by their
//! numbers, everything else as words (`arguments`). Both sides are made from the tables of kernels,
//! so that they cannot differ in a kernel's arguments or their order. What a server lacks is
//! composed from Burn's own operations, as on any backend.

mod arguments;
mod client;
mod connect;
mod lease;
mod received;
mod request;
mod server;

#[cfg(test)]
mod tests;

pub use connect::{ConnectError, connect};
pub(super) use connect::{must_detour, served};
pub use server::{DeviceServer, serve_devices, with_operations};
