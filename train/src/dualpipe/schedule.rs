//! Pipeline schedules as values: who does what in which order (3.2.1).

use serde::Serialize;

use super::action::{Chunk, Planned};
use super::{folded, unidirectional};
use crate::parallel::{PipelineScheduleError, PipelineScheduleKind};

/// A pipeline's schedule: the actions of each rank, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelineSchedule {
    /// The kind of schedule.
    pub kind: PipelineScheduleKind,
    /// The number of ranks of the pipeline.
    pub ranks: usize,
    /// Micro-batches of a step, both directions together.
    pub chunks: usize,
    /// The number of stages of the model.
    pub stages: usize,
    /// What each rank does, in order.
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
        kind.check(ranks, chunks)?;
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

    /// The number of a chunk's micro-batch among those of the step.
    pub fn micro_batch(&self, chunk: Chunk) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe => chunk.direction * (self.chunks / 2) + chunk.index,
            _ => chunk.index,
        }
    }

    /// The number of chunks of one direction.
    pub fn chunks_of_direction(&self) -> usize {
        match self.kind {
            PipelineScheduleKind::DualPipe => self.chunks / 2,
            _ => self.chunks,
        }
    }

    /// The phase of the chunks of a direction on a rank; see [`PipelineScheduleKind::phase`].
    pub fn phase(&self, rank: usize, direction: usize) -> usize {
        self.kind.phase(rank, self.ranks, direction)
    }

    /// The stages of directions 0 and 1 on a rank.
    pub fn stages_of(&self, rank: usize) -> [Option<usize>; 2] {
        self.kind.stages_of(rank, self.ranks)
    }

    /// The ranks that hold a stage.
    pub fn ranks_of(&self, stage: usize) -> Vec<usize> {
        (0..self.ranks).filter(|&rank| self.stages_of(rank).contains(&Some(stage))).collect()
    }

    /// The rank that has `stage` of the micro-batch that `chunk` is of.
    pub fn rank_of(&self, chunk: Chunk, stage: usize) -> usize {
        self.kind.rank_of(chunk.direction, stage, self.ranks)
    }
}
