//! Pipeline schedules as values: who does what in which order (3.2.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::action::{Chunk, Planned};
use super::{folded, unidirectional};

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

    /// As configurations and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DualPipe => "dualpipe",
            Self::DualPipeV => "dualpipev",
            Self::OneFOneB => "1f1b",
            Self::Zb1p => "zb1p",
        }
    }

    /// Stages that a pipeline of `ranks` ranks has.
    pub const fn stages(self, ranks: usize) -> usize {
        match self {
            Self::DualPipeV => 2 * ranks,
            _ => ranks,
        }
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

/// A pipeline's schedule: the actions of each rank, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelineSchedule {
    /// Which schedule it is.
    pub kind: PipelineScheduleKind,
    /// Ranks of the pipeline.
    pub ranks: usize,
    /// Micro-batches of a step, both directions together.
    pub chunks: usize,
    /// Stages of the model.
    pub stages: usize,
    /// What each rank does.
    pub actions: Vec<Vec<Planned>>,
}

impl PipelineSchedule {
    /// The schedule of a pipeline of `ranks` ranks for `chunks` micro-batches.
    ///
    /// # Errors
    ///
    /// Numbers that the schedule does not exist for, with the rule that they break.
    pub fn new(
        kind: PipelineScheduleKind,
        ranks: usize,
        chunks: usize,
    ) -> Result<Self, PipelineScheduleError> {
        let (least_ranks, least_chunks) = match kind {
            PipelineScheduleKind::DualPipe => (2, ranks.saturating_mul(2)),
            PipelineScheduleKind::DualPipeV => (1, ranks.saturating_mul(2)),
            PipelineScheduleKind::OneFOneB | PipelineScheduleKind::Zb1p => (1, 1),
        };
        if ranks < least_ranks {
            return Err(PipelineScheduleError::TooFewRanks { kind, ranks, least: least_ranks });
        }
        if kind == PipelineScheduleKind::DualPipe && !ranks.is_multiple_of(2) {
            return Err(PipelineScheduleError::OddRanks { ranks });
        }
        if kind == PipelineScheduleKind::DualPipe && !chunks.is_multiple_of(2) {
            return Err(PipelineScheduleError::OddChunks { chunks });
        }
        if chunks < least_chunks {
            return Err(PipelineScheduleError::TooFewChunks {
                kind,
                ranks,
                chunks,
                least: least_chunks,
            });
        }
        let of_rank = |rank| match kind {
            PipelineScheduleKind::DualPipe => folded::dualpipe(rank, ranks, chunks),
            PipelineScheduleKind::DualPipeV => folded::dualpipev(rank, ranks, chunks),
            PipelineScheduleKind::OneFOneB => unidirectional::one_f_one_b(rank, ranks, chunks),
            PipelineScheduleKind::Zb1p => unidirectional::zb1p(rank, ranks, chunks),
        };
        Ok(Self {
            kind,
            ranks,
            chunks,
            stages: kind.stages(ranks),
            actions: (0..ranks).map(of_rank).collect(),
        })
    }

    /// Which of the step's micro-batches a chunk is.
    pub fn micro_batch(&self, chunk: Chunk) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe => chunk.direction * (self.chunks / 2) + chunk.index,
            _ => chunk.index,
        }
    }

    /// Chunks of one direction.
    pub fn chunks_of_direction(&self) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe => self.chunks / 2,
            _ => self.chunks,
        }
    }

    /// Which of a rank's two kinds of chunks those of a direction are: 0 for those that enter at
    /// the rank's own end of the pipeline. In DualPipe's second half of ranks that end is the last
    /// rank, and the directions are the other way round.
    pub fn phase(&self, rank: usize, direction: usize) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe if rank >= self.ranks / 2 => 1 - direction,
            _ => direction,
        }
    }

    /// The stages of directions 0 and 1 on a rank.
    pub fn stages_of(&self, rank: usize) -> [Option<usize>; 2] {
        match self.kind {
            PipelineScheduleKind::DualPipe | PipelineScheduleKind::DualPipeV => {
                [Some(rank), Some(self.stages - 1 - rank)]
            }
            _ => [Some(rank), None],
        }
    }

    /// The ranks that hold a stage.
    pub fn ranks_of(&self, stage: usize) -> Vec<usize> {
        (0..self.ranks).filter(|&rank| self.stages_of(rank).contains(&Some(stage))).collect()
    }

    /// The rank that has `stage` of the micro-batch that `chunk` is of.
    pub fn rank_of(&self, chunk: Chunk, stage: usize) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe if chunk.direction == 1 => self.ranks - 1 - stage,
            PipelineScheduleKind::DualPipeV if stage >= self.ranks => self.stages - 1 - stage,
            _ => stage,
        }
    }
}
