//! `deepseek worker`: lends this machine's devices to trainings of other processes and machines.
//!
//! The protocol is that of Burn's remote backend, and the client Burn's own; the server is ours.
//! Burn's (0.22.1) waits without end for tensors that a dead peer never gives, lets anybody ask for
//! tensors, and buffers what strangers send; no setting changes that from outside.

#[cfg(feature = "remote")]
mod connections;
#[cfg(feature = "remote")]
mod door;
#[cfg(feature = "remote")]
mod lend;
#[cfg(feature = "remote")]
mod limits;
#[cfg(feature = "remote")]
mod messages;
#[cfg(feature = "remote")]
mod notices;
#[cfg(feature = "remote")]
mod rendezvous;
#[cfg(feature = "remote")]
mod server;
#[cfg(feature = "remote")]
mod session;
#[cfg(feature = "remote")]
mod socket;
#[cfg(feature = "remote")]
mod strangers;
#[cfg(feature = "remote")]
mod tasks;
#[cfg(feature = "remote")]
mod trainings;
#[cfg(feature = "remote")]
mod transfer;

#[cfg(feature = "remote")]
pub use lend::run;

/// Lends devices until it is told to stop.
///
/// # Errors
///
/// This build has no workers ([`crate::exit::USAGE`]).
#[cfg(not(feature = "remote"))]
pub fn run(
    _args: crate::cli::WorkerArgs,
    _signals: &crate::signals::Signals,
) -> crate::failure::Result<crate::exit::Outcome> {
    let problem = "this binary was built without devices of workers; build with --features remote";
    Err(crate::failure::UsageError(problem.into()).into())
}
