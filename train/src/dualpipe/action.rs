//! What a rank of a pipeline does, one thing after the other.

use serde::Serialize;

/// One micro-batch at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Chunk {
    /// Which of the (at most two) stages of the rank: 0 is entered first by what comes from the
    /// rank before, 1 by what comes from the rank after.
    pub direction: usize,
    /// Number of the micro-batch among those of its direction.
    pub index: usize,
    /// The stage.
    pub stage: usize,
}

/// One thing that a rank does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// F: a forward pass.
    Forward(Chunk),
    /// B: a backward pass; its weight gradients are computed at once, or left to a later W.
    Backward {
        /// Of what.
        chunk: Chunk,
        /// Whether the weight gradients wait.
        defer_weights: bool,
    },
    /// W: the weight gradients that have waited longest.
    Weights(Chunk),
    /// F&B: a forward and a backward pass (weight gradients included), interleaved.
    Overlapped {
        /// What is run forward.
        forward: Chunk,
        /// What is run backward.
        backward: Chunk,
    },
    /// Messages posted together and waited for.
    Exchange(Vec<Transfer>),
}

/// One message between neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Transfer {
    /// What is sent or received.
    pub kind: TransferKind,
    /// The direction of the chunk, on this rank.
    pub direction: usize,
    /// Number of the chunk among those of its direction.
    pub index: usize,
    /// The other rank.
    pub peer: usize,
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum TransferKind {
    /// Activations to the rank with the next stage.
    SendForward,
    /// Activations from the rank with the previous stage.
    ReceiveForward,
    /// Gradients to the rank with the previous stage.
    SendBackward,
    /// Gradients from the rank with the next stage.
    ReceiveBackward,
}

/// An action and the step of the schedule that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Step of the schedule, 1 to 8 for DualPipe and DualPipeV.
    pub step: usize,
    /// The action.
    pub action: Action,
}
