//! What a rank of a pipeline does, one thing after the other.

use serde::Serialize;

/// A chunk: one micro-batch at one stage. Each stage has as many chunks as a step has
/// micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Chunk {
    /// The direction, which says which of the rank's (at most two) stages it is: 0 where rows come
    /// from the rank before, 1 where they come from the rank after.
    pub direction: usize,
    /// The number of the micro-batch among those of its direction.
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
        /// The chunk that is run backward.
        chunk: Chunk,
        /// Whether the weight gradients wait for a later W.
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
    /// The number of the chunk among those of its direction.
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
    /// The step of the schedule: 1 to 8 in DualPipe and DualPipeV, which are nF0, nF0F1, nB1W1F1,
    /// nF0B1F1B0, nB1F1B0, nB1B0, nWB0 and nW; 1 to 4 in the others.
    pub step: usize,
    /// The action.
    pub action: Action,
}
