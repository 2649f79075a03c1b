//! DualPipe and DualPipeV: eight steps in which chunks of two phases meet on every rank (3.2.1,
//! Figure 5).
//!
//! The steps have the names of DualPipe's own code: `n` times F, B and W of the phases 0 and 1, in
//! the order in which they come.

use super::action::Planned;
use super::writer::{WeightGradients, Writer};
use crate::parallel::PipelineScheduleKind;

/// The actions of a rank of DualPipe: half of the chunks enter at rank 0, half at the last rank.
pub(super) fn dualpipe(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let half_rank = rank.min(ranks - 1 - rank);
    let folded = Folded {
        depth: half_rank,
        width: ranks / 2,
        chunks: chunks / 2,
        turns: half_rank == ranks / 2 - 1,
        v_shaped: false,
    };
    folded.actions(Writer::new(PipelineScheduleKind::DualPipe, rank, ranks))
}

/// The actions of a rank of DualPipeV: every chunk goes down the ranks and up again.
pub(super) fn dualpipev(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let folded =
        Folded { depth: rank, width: ranks, chunks, turns: rank == ranks - 1, v_shaped: true };
    folded.actions(Writer::new(PipelineScheduleKind::DualPipeV, rank, ranks))
}

/// What the two schedules have in common: seen from either end, both are a fold of `width` ranks.
struct Folded {
    /// Distance from the open end of the fold.
    depth: usize,
    /// Ranks from the open end to the fold.
    width: usize,
    /// Chunks of one direction.
    chunks: usize,
    /// Whether this rank is at the fold.
    turns: bool,
    /// Whether the chunks of both phases are the same ones (DualPipeV).
    v_shaped: bool,
}

impl Folded {
    fn actions(&self, mut writer: Writer) -> Vec<Planned> {
        let steps: [fn(&Self, &mut Writer); 8] = [
            Self::nf0,
            Self::nf0f1,
            Self::nb1w1f1,
            Self::nf0b1f1b0,
            Self::nb1f1b0,
            Self::nb1b0,
            Self::nwb0,
            Self::nw,
        ];
        for (number, step) in (1..).zip(steps) {
            writer.step = number;
            step(self, &mut writer);
        }
        writer.finish()
    }

    /// The number of ranks between this one and the fold.
    fn beyond(&self) -> usize {
        self.width - self.depth - 1
    }

    /// How often both phases run forward before, and backward after, the main step.
    fn both(&self) -> usize {
        self.depth + 1
    }

    /// Step 1, nF0: the pipeline fills from this rank's end.
    fn nf0(&self, w: &mut Writer) {
        for _ in 0..2 * self.beyond() {
            w.forward(0);
        }
    }

    /// Step 2, nF0F1: chunks of the other phase arrive.
    fn nf0f1(&self, w: &mut Writer) {
        w.receive_forward(0);
        for i in 0..self.both() {
            // At DualPipe's fold the chunk goes on to the other rank there before F1.
            let sends_first = self.turns && !self.v_shaped;
            w.compute_forward(0);
            if sends_first {
                w.send_forward(0);
            }
            w.receive_forward(0);
            w.receive_forward(1);
            w.compute_forward(1);
            if !self.turns || i + 1 < self.both() {
                w.send_forward(1);
            }
            if !sends_first {
                w.send_forward(0);
            }
        }
    }

    /// Step 3, nB1W1F1: the first chunks come back; W fills what would be idle.
    fn nb1w1f1(&self, w: &mut Writer) {
        for _ in 0..self.beyond() {
            w.backward(1, WeightGradients::Deferred);
            w.receive_forward(1);
            w.weights();
            w.compute_forward(1);
            w.send_forward(1);
        }
    }

    /// Step 4, nF0B1F1B0, the main step: F of either phase overlapped with B of the other.
    fn nf0b1f1b0(&self, w: &mut Writer) {
        for i in 0..self.chunks - 2 * self.width + self.depth + 1 {
            if i > 0 {
                w.overlapped(0, 1);
            } else if self.turns {
                // Not overlapped, which makes the bubble smaller; the last F1 of step 2 leaves
                // here.
                w.compute_forward(0);
                w.send_forward(1);
                w.receive_backward(1);
                w.compute_backward(1, WeightGradients::AtOnce);
                w.send_forward(0);
                w.send_backward(1);
            } else {
                w.overlapped_received(0, 1);
            }
            w.overlapped(1, 0);
        }
    }

    /// Step 5, nB1F1B0: no more chunks of phase 0 begin.
    fn nb1f1b0(&self, w: &mut Writer) {
        for _ in 0..self.beyond() {
            w.backward(1, WeightGradients::AtOnce);
            w.overlapped(1, 0);
        }
    }

    /// Step 6, nB1B0: the pipeline empties; the second half of the chunks put W off.
    fn nb1b0(&self, w: &mut Writer) {
        let half = self.both() / 2;
        let mut weights = WeightGradients::AtOnce;
        for i in 0..self.both() {
            if i == half && self.depth % 2 == 1 {
                weights = WeightGradients::Deferred;
            }
            w.backward(1, weights);
            if i == half {
                weights = WeightGradients::Deferred;
            }
            w.backward(0, weights);
        }
    }

    /// Step 7, nWB0: each W that was put off fills the wait for a B.
    fn nwb0(&self, w: &mut Writer) {
        for _ in 0..self.beyond() {
            w.weights();
            w.backward(0, WeightGradients::Deferred);
        }
    }

    /// Step 8, nW: what was put off and is left.
    fn nw(&self, w: &mut Writer) {
        for _ in 0..self.both() {
            w.weights();
        }
    }
}
