//! What carries messages to ranks in other processes. Ranks that are threads of this process need
//! none: [`Post`](super::Post) hands their messages over as they are.

use std::fmt::Debug;
use std::time::Duration;

use super::contents::Contents;
use super::subject::Subject;

/// Carries messages, as bytes, to the ranks of other processes.
///
/// Who implements it gives what comes from them to [`Post::deliver`](super::Post::deliver), in
/// whatever order; and to [`Post::sign_of_life`](super::Post::sign_of_life) when it hears that one
/// of them is at work.
pub trait Carrier: Send + Sync + Debug {
    /// Whether a rank is in another process.
    fn carries_to(&self, rank: usize) -> bool;

    /// Sends a message on its way, and does not wait for it to arrive.
    fn carry(&self, letter: Letter);

    /// A rank of this process begins to wait for a message of a step: what has come is wanted now.
    /// Must not wait itself.
    fn awaited(&self) {}

    /// The ranks of other processes that have not been heard of for longer than `patience`, in
    /// order. Whoever is alive is heard of, whether it computes or waits.
    fn unheard(&self, patience: Duration) -> Vec<usize>;
}

/// A message between processes.
#[derive(Debug)]
pub struct Letter {
    /// The sender's rank.
    pub from: usize,
    /// The receiver's rank.
    pub to: usize,
    /// What it is about.
    pub subject: Subject,
    /// What it says.
    pub contents: Contents,
}
