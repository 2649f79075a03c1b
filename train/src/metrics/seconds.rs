//! What the seconds of a step went into.

/// Seconds of a step by part. On a device that computes while the host goes on, a part is what the
/// host waited for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSeconds {
    /// All of it.
    pub step: f64,
    /// Waiting for batches.
    pub data: f64,
    /// Forward and backward passes, with the exchange between ranks.
    pub compute: f64,
    /// The update of the weights.
    pub update: f64,
    /// The running average of the weights.
    pub average: f64,
    /// Saving, since the step before; not a part of `step`.
    pub saving: f64,
}
