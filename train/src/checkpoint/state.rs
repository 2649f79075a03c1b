//! Where a run stands.

use serde::{Deserialize, Serialize};

/// Where a run stands. Everything random in training is a function of the configuration's seeds and
/// these counts, so they are all the state that random numbers need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Optimizer steps taken.
    pub step: u64,
    /// Sequences consumed: the position in the data.
    pub samples: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training steps, over all sessions.
    pub train_seconds: f64,
    /// Steps in the average of the weights; 0 without one.
    pub ema_steps: u64,
}
