//! Where a run stands, and how long it is.

use serde::Serialize;

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Steps taken.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Optimizer steps.
    Steps(u64),
    /// Trained tokens; the run takes as many whole steps as they allow.
    Tokens(u64),
}
