//! How far a run is.

use serde::Serialize;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A process trains in its folder.
    Training,
    /// It has made all of its steps and its last evaluation.
    Finished,
    /// Its loss or gradients were no finite numbers.
    Diverged,
    /// Anything else: interrupted, killed, or failed.
    Stopped,
}

impl RunState {
    /// The tokens a second of a run in this state: while it is trained those of its `last` step, else
    /// the mean of all its steps, by which runs can be compared.
    pub fn speed(self, last: f64, tokens: u64, seconds: f64) -> f64 {
        if self == Self::Training || seconds <= 0.0 { last } else { tokens as f64 / seconds }
    }

    /// That of a run of which somebody holds the lock or nobody, whose record says that it diverged
    /// or not, and which made `steps` of the `planned` steps, the last of them that was evaluated
    /// being `evaluated`.
    pub fn of(is_trained: bool, diverged: bool, steps: u64, evaluated: u64, planned: u64) -> Self {
        match () {
            () if is_trained => Self::Training,
            () if diverged => Self::Diverged,
            () if steps >= planned && evaluated == steps => Self::Finished,
            () => Self::Stopped,
        }
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Finished => "finished",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped",
        }
    }
}
