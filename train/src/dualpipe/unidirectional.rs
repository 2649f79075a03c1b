//! Schedules whose chunks all go one way: 1F1B, and ZB1P, which puts weight gradients off into what
//! would be idle time (arXiv 2401.10241).
//!
//! Their steps are three: the pipeline fills, alternates between F and B, and empties; a fourth
//! computes the weight gradients that are left.

use super::action::Planned;
use super::writer::{WeightGradients, Writer};
use crate::parallel::PipelineScheduleKind;

/// One forward, one backward: the pipeline fills, alternates, and empties.
pub(super) fn one_f_one_b(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let mut writer = Writer::new(PipelineScheduleKind::OneFOneB, rank, ranks);
    let backward = |writer: &mut Writer| writer.backward(0, WeightGradients::AtOnce);
    fill_alternate_empty(&mut writer, ranks - rank - 1, chunks, backward);
    writer.finish()
}

/// 1F1B with every weight gradient put off by as many chunks as the rank stands away from the first
/// one: the first rank computes its gradients at once, the last has `ranks - 1` waiting, and all
/// have as many activations as with 1F1B on the first rank.
pub(super) fn zb1p(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let mut writer = Writer::new(PipelineScheduleKind::Zb1p, rank, ranks);
    let backward = |writer: &mut Writer| {
        writer.backward(0, WeightGradients::Deferred);
        if writer.deferred() > rank {
            writer.weights();
        }
    };
    fill_alternate_empty(&mut writer, ranks - rank - 1, chunks, backward);
    while writer.deferred() > 0 {
        writer.step = 4;
        writer.weights();
    }
    writer.finish()
}

/// Writes the steps 1 to 3, of which the first has `warm_up` chunks if there are so many.
fn fill_alternate_empty(
    writer: &mut Writer,
    warm_up: usize,
    chunks: usize,
    backward: impl Fn(&mut Writer),
) {
    let warm_up = warm_up.min(chunks);
    for _ in 0..warm_up {
        writer.step = 1;
        writer.forward(0);
    }
    for _ in warm_up..chunks {
        writer.step = 2;
        writer.forward(0);
        backward(writer);
    }
    for _ in 0..warm_up {
        writer.step = 3;
        backward(writer);
    }
}
