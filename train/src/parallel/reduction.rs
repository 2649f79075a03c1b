//! How the gradients of ranks that hold the same parameters become sums, and the updated parameters
//! come back (ZeRO-1).

use serde::{Deserialize, Serialize};

/// Who adds gradients, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// A parameter's owner, in the order of the ranks: the bits do not depend on what carries the
    /// messages.
    #[default]
    RankOrder,
    /// The library that joins the processes, by its reduce-scatter, and in an order of its own;
    /// parameters come back by its all-gather.
    Collective,
}
