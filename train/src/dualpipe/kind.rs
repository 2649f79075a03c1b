//! The pipeline schedules that there are, and which stages they give a rank (3.2.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

    /// The stages of directions 0 and 1 on one of `ranks` ranks: r and PP - 1 - r in DualPipe, r and
    /// 2 PP - 1 - r in DualPipeV, r alone in the others.
    pub const fn stages_of(self, rank: usize, ranks: usize) -> [Option<usize>; 2] {
        match self {
            Self::DualPipe | Self::DualPipeV => [Some(rank), Some(self.stages(ranks) - 1 - rank)],
            Self::OneFOneB | Self::Zb1p => [Some(rank), None],
        }
    }

    /// Which of a rank's two kinds of chunks those of a direction are: 0 for those that enter at
    /// the rank's own end of the pipeline. In DualPipe's second half of ranks that end is the last
    /// rank, and the directions are the other way round. (The direction of a phase is found in the
    /// same way.)
    pub const fn phase(self, rank: usize, ranks: usize, direction: usize) -> usize {
        match self {
            Self::DualPipe if rank >= ranks / 2 => 1 - direction,
            _ => direction,
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
