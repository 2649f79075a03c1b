//! Where a run stands, and what its checkpoint consists of.

use std::collections::BTreeMap;

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

/// The format of checkpoints that this program writes and reads. 1, which did not say so: moments
/// in F32, schedules in steps, no average. 2: no tokenizer.
pub(super) const FORMAT: u32 = 3;

/// The format of a checkpoint, whatever else it says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Format {
    /// The number; the first format had none.
    #[serde(default = "first_format")]
    pub format: u32,
}

fn first_format() -> u32 {
    1
}

/// Size and checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSum {
    /// Bytes.
    pub bytes: u64,
    /// CRC-32 (IEEE).
    pub crc32: u32,
}

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What the checkpoint is made of, by number; see [`FORMAT`].
    pub format: u32,
    /// Where the run stands.
    pub position: TrainState,
    /// Every other file.
    pub files: BTreeMap<String, FileSum>,
}
