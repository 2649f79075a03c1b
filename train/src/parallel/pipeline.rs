//! Which schedules a pipeline can have, for how many ranks and micro-batches each of them exists,
//! and which stages it gives a rank (3.2.1). What a rank does in them is [`crate::dualpipe`]'s.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::failure::blamed;

/// The pipeline schedules that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PipelineScheduleKind {
    /// Micro-batches enter from both ends; each rank holds two stages of a model that is there
    /// twice.
    #[default]
    #[serde(rename = "dualpipe")]
    DualPipe,
    /// One direction, folded: each rank holds two stages of one model.
    #[serde(rename = "dualpipev")]
    DualPipeV,
    /// One forward, one backward.
    #[serde(rename = "1f1b")]
    OneFOneB,
    /// 1F1B with weight gradients put off (arXiv 2401.10241, ZB-H1).
    #[serde(rename = "zb1p")]
    Zb1p,
}

impl PipelineScheduleKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::DualPipe, Self::DualPipeV, Self::OneFOneB, Self::Zb1p];

    /// The name in configurations and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DualPipe => "dualpipe",
            Self::DualPipeV => "dualpipev",
            Self::OneFOneB => "1f1b",
            Self::Zb1p => "zb1p",
        }
    }

    /// The number of stages that a pipeline of `ranks` ranks has.
    pub const fn stages(self, ranks: usize) -> usize {
        match self {
            Self::DualPipeV => 2 * ranks,
            _ => ranks,
        }
    }

    /// The rank of a pipeline that has a stage of what goes through it in a direction, 0 or 1; in
    /// one direction alone both are the same.
    pub const fn rank_of(self, direction: usize, stage: usize, ranks: usize) -> usize {
        match self {
            Self::DualPipe if direction == 1 => ranks - 1 - stage,
            Self::DualPipeV if stage >= ranks => self.stages(ranks) - 1 - stage,
            _ => stage,
        }
    }

    /// The stages of directions 0 and 1 on one of `ranks` ranks: r and PP - 1 - r in DualPipe, r
    /// and 2 PP - 1 - r in DualPipeV, r alone in the others.
    pub const fn stages_of(self, rank: usize, ranks: usize) -> [Option<usize>; 2] {
        match self {
            Self::DualPipe | Self::DualPipeV => [Some(rank), Some(self.stages(ranks) - 1 - rank)],
            Self::OneFOneB | Self::Zb1p => [Some(rank), None],
        }
    }

    /// The phase of the chunks of a direction on one of `ranks` ranks: 0 where they enter at the
    /// rank's own end of the pipeline, else 1. In DualPipe's second half of ranks that end is the
    /// last rank, and the directions are the other way round. (The direction of a phase is found in
    /// the same way.)
    pub const fn phase(self, rank: usize, ranks: usize, direction: usize) -> usize {
        match self {
            Self::DualPipe if rank >= ranks / 2 => 1 - direction,
            _ => direction,
        }
    }

    /// Whether the schedule exists for a pipeline of `ranks` ranks and `chunks` micro-batches.
    ///
    /// # Errors
    ///
    /// The rule that these numbers break.
    pub fn check(self, ranks: usize, chunks: usize) -> Result<(), PipelineScheduleError> {
        let (least_ranks, least_chunks) = match self {
            Self::DualPipe => (2, ranks.saturating_mul(2)),
            Self::DualPipeV => (1, ranks.saturating_mul(2)),
            Self::OneFOneB | Self::Zb1p => (1, 1),
        };
        if ranks < least_ranks {
            return Err(PipelineScheduleError::TooFewRanks {
                kind: self,
                ranks,
                least: least_ranks,
            });
        }
        if self == Self::DualPipe && !ranks.is_multiple_of(2) {
            return Err(PipelineScheduleError::OddRanks { ranks });
        }
        if self == Self::DualPipe && !chunks.is_multiple_of(2) {
            return Err(PipelineScheduleError::OddChunks { chunks });
        }
        if chunks < least_chunks {
            return Err(PipelineScheduleError::TooFewChunks {
                kind: self,
                ranks,
                chunks,
                least: least_chunks,
            });
        }
        Ok(())
    }
}

impl fmt::Display for PipelineScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no pipeline schedule has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no schedule; there are dualpipe, dualpipev, 1f1b, zb1p")]
pub struct UnknownPipelineSchedule(String);

impl FromStr for PipelineScheduleKind {
    type Err = UnknownPipelineSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownPipelineSchedule(text.into()))
    }
}

/// Numbers of ranks and chunks that a schedule does not exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipelineScheduleError {
    /// No ranks.
    #[error("{kind} needs at least {least} ranks, not {ranks}")]
    TooFewRanks {
        /// The schedule.
        kind: PipelineScheduleKind,
        /// Ranks asked for.
        ranks: usize,
        /// The fewest.
        least: usize,
    },
    /// DualPipe's ranks come in pairs.
    #[error(
        "dualpipe needs an even number of ranks, not {ranks}: rank r holds the stages r and ranks \
         - 1 - r"
    )]
    OddRanks {
        /// Ranks asked for.
        ranks: usize,
    },
    /// Half of DualPipe's chunks enter from either end.
    #[error(
        "dualpipe needs an even number of micro-batches, not {chunks}: half of them enter from \
         either end"
    )]
    OddChunks {
        /// Chunks asked for.
        chunks: usize,
    },
    /// The pipeline would not fill.
    #[error("{kind} over {ranks} ranks needs at least {least} micro-batches, not {chunks}")]
    TooFewChunks {
        /// The schedule.
        kind: PipelineScheduleKind,
        /// Ranks asked for.
        ranks: usize,
        /// Chunks asked for.
        chunks: usize,
        /// The fewest.
        least: usize,
    },
}

blamed!(User: PipelineScheduleError);
