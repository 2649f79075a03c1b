//! The report's comparison of schedules, as formulas (3.2.1, Table 2).

use super::simulate::Costs;
use crate::parallel::PipelineScheduleKind;

impl PipelineScheduleKind {
    /// The bubble of a pipeline of PP ranks: 1F1B `(PP-1)(F+B)`, ZB1P `(PP-1)(F+B-2W)`, DualPipe
    /// `(PP/2-1)(F&B+B-3W)`, and DualPipeV, which is as deep as a DualPipe of twice the ranks,
    /// `(PP-1)(F&B+B-3W)`.
    pub fn bubble(self, ranks: usize, costs: &Costs) -> f64 {
        let Costs { forward, weights, overlapped, .. } = *costs;
        let backward = costs.backward();
        let (ranks, depth) = (ranks as f64, ranks as f64 - 1.0);
        match self {
            Self::OneFOneB => depth * (forward + backward),
            Self::Zb1p => depth * (forward + backward - 2.0 * weights),
            Self::DualPipe => (ranks / 2.0 - 1.0) * (overlapped + backward - 3.0 * weights),
            Self::DualPipeV => depth * (overlapped + backward - 3.0 * weights),
        }
    }

    /// [`bubble`](Self::bubble) as it is written.
    pub const fn bubble_text(self) -> &'static str {
        match self {
            Self::OneFOneB => "(PP-1)(F+B)",
            Self::Zb1p => "(PP-1)(F+B-2W)",
            Self::DualPipe => "(PP/2-1)(F&B+B-3W)",
            Self::DualPipeV => "(PP-1)(F&B+B-3W)",
        }
    }

    /// How often the parameters of the model are there.
    pub const fn parameter_copies(self) -> usize {
        match self {
            Self::DualPipe => 2,
            _ => 1,
        }
    }

    /// The most chunks whose activations a rank holds at one of its stages: PP, and PP + 1 of
    /// DualPipe. DualPipeV has twice as many stages, each half as large, so its 2 PP + 1 are as
    /// much as PP + 1/2 of the others.
    pub const fn activations(self, ranks: usize) -> usize {
        match self {
            Self::OneFOneB | Self::Zb1p => ranks,
            Self::DualPipe | Self::DualPipeV => self.stages(ranks) + 1,
        }
    }
}
