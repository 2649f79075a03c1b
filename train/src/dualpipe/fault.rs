//! What can be wrong with a schedule, and where.

use std::fmt;

use super::action::{Chunk, Transfer, TransferKind};
use crate::failure::blamed;

/// A rule that a schedule breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank}, action {position}: {rule}")]
pub struct Fault {
    /// The rank.
    pub rank: usize,
    /// Index of the action among those of the rank; where something is missing, their number.
    pub position: usize,
    /// The rule.
    pub rule: Rule,
}

blamed!(Run: Fault);

/// The three passes of a chunk over a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// F.
    Forward,
    /// B.
    Backward,
    /// W.
    Weights,
}

impl Pass {
    /// The stage whose output the pass needs.
    const fn needs(self) -> &'static str {
        match self {
            Self::Forward => "before",
            Self::Backward | Self::Weights => "after",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "F",
            Self::Backward => "B",
            Self::Weights => "W",
        })
    }
}

/// The rules, as they are broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Every rank has its list of actions.
    #[error("there are actions for {found} ranks, but the pipeline has {ranks}")]
    Ranks {
        /// Lists of actions.
        found: usize,
        /// Ranks.
        ranks: usize,
    },
    /// A rank works on chunks at its own stages.
    #[error("{0} does not pass this rank")]
    NotHere(Chunk),
    /// F, B and W of a chunk come once at each stage.
    #[error("{pass} of {chunk} comes a second time")]
    Twice {
        /// The pass.
        pass: Pass,
        /// The chunk.
        chunk: Chunk,
    },
    /// F, B and W of every chunk come at each stage.
    #[error("{pass} of {chunk} never comes")]
    Missing {
        /// The pass.
        pass: Pass,
        /// The chunk.
        chunk: Chunk,
    },
    /// B of a chunk follows its F.
    #[error("B of {0} comes before its F")]
    BackwardFirst(Chunk),
    /// What a pass computes with is there: received, or computed on the same rank.
    #[error("{pass} of {chunk} comes before what it needs of the stage {}", .pass.needs())]
    InputMissing {
        /// The pass, F or B.
        pass: Pass,
        /// The chunk.
        chunk: Chunk,
    },
    /// W follows a B that has put its weight gradients off.
    #[error(
        "W of {0} has nothing to compute: no B before it has put weight gradients off and still \
         waits"
    )]
    NothingDeferred(Chunk),
    /// W takes what has waited longest.
    #[error("W of {chunk} comes before that of {longest}, which has waited longer")]
    WeightsOutOfOrder {
        /// The chunk whose W it is.
        chunk: Chunk,
        /// The chunk whose W it should be.
        longest: Chunk,
    },
    /// Messages go between ranks with neighbouring stages of a chunk.
    #[error("{0} is no message that can be: it begins or ends elsewhere")]
    NoSuchTransfer(Transfer),
    /// A message goes once.
    #[error("{0} is posted a second time")]
    TransferTwice(Transfer),
    /// What is sent has been computed.
    #[error("{0} is posted before it is computed")]
    SentTooEarly(Transfer),
    /// What one rank sends another receives.
    #[error("{0} has no partner on rank {peer}", peer = .0.peer)]
    Unmatched(Transfer),
    /// Two ranks post their messages in the same order.
    #[error("{transfer} meets {other}: the two ranks post their messages in different orders")]
    Crossed {
        /// What is sent.
        transfer: Transfer,
        /// What the other rank receives instead.
        other: Transfer,
    },
    /// No rank waits for ever.
    #[error("deadlock; waiting for messages are {}", Waiters(.waiting))]
    Deadlock {
        /// Ranks that wait, and at which of their actions.
        waiting: Vec<(usize, usize)>,
    },
}

/// Ranks that wait, and at which of their actions, in words.
struct Waiters<'a>(&'a [(usize, usize)]);

impl fmt::Display for Waiters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (rank, position)) in self.0.iter().enumerate() {
            write!(f, "{}rank {rank} at action {position}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, index, stage } = self;
        write!(f, "chunk {index} of direction {direction} at stage {stage}")
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, direction, index, peer } = self;
        let (verb, rows, preposition) = match kind {
            TransferKind::SendForward => ("sending", "activations", "to"),
            TransferKind::ReceiveForward => ("receiving", "activations", "from"),
            TransferKind::SendBackward => ("sending", "gradients", "to"),
            TransferKind::ReceiveBackward => ("receiving", "gradients", "from"),
        };
        write!(
            f,
            "{verb} {rows} of chunk {index} of direction {direction} {preposition} rank {peer}"
        )
    }
}
