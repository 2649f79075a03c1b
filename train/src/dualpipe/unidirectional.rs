//! Schedules whose chunks all go one way: 1F1B, and ZB1P, which puts weight gradients off into what
//! would be idle time (arXiv 2401.10241).

use std::collections::VecDeque;

use super::action::{Action, Chunk, Planned, Transfer, TransferKind};

/// One forward, one backward: the pipeline fills, alternates, and empties.
pub(super) fn one_f_one_b(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let mut writer = Writer::new(rank, ranks);
    let warm_up = (ranks - rank - 1).min(chunks);
    for _ in 0..warm_up {
        writer.forward(1);
    }
    for _ in warm_up..chunks {
        writer.forward(2);
        writer.backward(2, false);
    }
    for _ in 0..warm_up {
        writer.backward(3, false);
    }
    writer.finish()
}

/// As 1F1B, with every weight gradient put off by as many chunks as the rank stands away from the
/// first one: the first rank computes its gradients at once, the last has `ranks - 1` waiting, and
/// all have as many activations as with 1F1B on the first rank.
pub(super) fn zb1p(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let mut writer = Writer::new(rank, ranks);
    let warm_up = (ranks - rank - 1).min(chunks);
    for _ in 0..warm_up {
        writer.forward(1);
    }
    let backward = |writer: &mut Writer, step| {
        writer.backward(step, true);
        if writer.deferred.len() > rank {
            writer.weights(step);
        }
    };
    for _ in warm_up..chunks {
        writer.forward(2);
        backward(&mut writer, 2);
    }
    for _ in 0..warm_up {
        backward(&mut writer, 3);
    }
    while !writer.deferred.is_empty() {
        writer.weights(4);
    }
    writer.finish()
}

struct Writer {
    rank: usize,
    ranks: usize,
    planned: Vec<Planned>,
    posted: Vec<Transfer>,
    forwards: usize,
    backwards: usize,
    deferred: VecDeque<Chunk>,
}

impl Writer {
    fn new(rank: usize, ranks: usize) -> Self {
        Self {
            rank,
            ranks,
            planned: Vec::new(),
            posted: Vec::new(),
            forwards: 0,
            backwards: 0,
            deferred: VecDeque::new(),
        }
    }

    fn forward(&mut self, step: usize) {
        let (index, before, after) = (self.forwards, self.before(), self.after());
        self.forwards += 1;
        self.post(TransferKind::ReceiveForward, index, before);
        self.exchange(step);
        self.plan(step, Action::Forward(Chunk { direction: 0, index, stage: self.rank }));
        self.post(TransferKind::SendForward, index, after);
    }

    fn backward(&mut self, step: usize, defer_weights: bool) {
        let (index, before, after) = (self.backwards, self.before(), self.after());
        self.backwards += 1;
        self.post(TransferKind::ReceiveBackward, index, after);
        self.exchange(step);
        let chunk = Chunk { direction: 0, index, stage: self.rank };
        if defer_weights {
            self.deferred.push_back(chunk);
        }
        self.plan(step, Action::Backward { chunk, defer_weights });
        self.post(TransferKind::SendBackward, index, before);
    }

    fn weights(&mut self, step: usize) {
        self.exchange(step);
        let chunk = self.deferred.pop_front().expect("invariant: a W follows its B");
        self.plan(step, Action::Weights(chunk));
    }

    fn finish(mut self) -> Vec<Planned> {
        let last = self.planned.last().map_or(1, |planned| planned.step);
        self.exchange(last);
        self.planned
    }

    fn before(&self) -> Option<usize> {
        self.rank.checked_sub(1)
    }

    fn after(&self) -> Option<usize> {
        Some(self.rank + 1).filter(|&next| next < self.ranks)
    }

    fn post(&mut self, kind: TransferKind, index: usize, peer: Option<usize>) {
        if let Some(peer) = peer {
            self.posted.push(Transfer { kind, direction: 0, index, peer });
        }
    }

    fn exchange(&mut self, step: usize) {
        if !self.posted.is_empty() {
            let posted = std::mem::take(&mut self.posted);
            self.plan(step, Action::Exchange(posted));
        }
    }

    fn plan(&mut self, step: usize, action: Action) {
        self.planned.push(Planned { step, action });
    }
}
