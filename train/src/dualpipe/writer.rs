//! Writes the actions of one rank down: counts chunks and gathers messages, so that a schedule says
//! only what comes after what.

use std::collections::VecDeque;

use super::action::{Action, Chunk, Planned, Transfer, TransferKind};
use crate::parallel::PipelineScheduleKind;

/// When a backward pass computes its weight gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WeightGradients {
    /// In the pass itself.
    AtOnce,
    /// In a later W.
    Deferred,
}

/// The actions of a rank as they are written. Chunks are told apart by their phase: 0 for those
/// that come from the rank's own end of the pipeline.
pub(super) struct Writer {
    kind: PipelineScheduleKind,
    rank: usize,
    ranks: usize,
    /// The step of the schedule that is written.
    pub step: usize,
    planned: Vec<Planned>,
    /// Messages since the last exchange.
    posted: Vec<Transfer>,
    /// Chunks so far: run forward, run backward, and those of each kind of message, by direction.
    forwards: [usize; 2],
    backwards: [usize; 2],
    messages: [[usize; 4]; 2],
    deferred: VecDeque<Chunk>,
}

impl Writer {
    pub fn new(kind: PipelineScheduleKind, rank: usize, ranks: usize) -> Self {
        Self {
            kind,
            rank,
            ranks,
            step: 1,
            planned: Vec::new(),
            posted: Vec::new(),
            forwards: [0; 2],
            backwards: [0; 2],
            messages: [[0; 4]; 2],
            deferred: VecDeque::new(),
        }
    }

    /// What has been written, the last messages included.
    pub fn finish(mut self) -> Vec<Planned> {
        self.exchange();
        self.planned
    }

    /// F of the next chunk of a phase: received, computed and sent on.
    pub fn forward(&mut self, phase: usize) {
        self.receive_forward(phase);
        self.compute_forward(phase);
        self.send_forward(phase);
    }

    /// B of the next chunk of a phase: its gradient received, computed and sent on.
    pub fn backward(&mut self, phase: usize, weights: WeightGradients) {
        self.receive_backward(phase);
        self.compute_backward(phase, weights);
        self.send_backward(phase);
    }

    /// F&B of the next chunks of two phases, both received, computed and sent on.
    pub fn overlapped(&mut self, forward_phase: usize, backward_phase: usize) {
        self.receive_forward(forward_phase);
        self.overlapped_received(forward_phase, backward_phase);
    }

    /// F&B whose forward chunk has been received before.
    pub fn overlapped_received(&mut self, forward_phase: usize, backward_phase: usize) {
        self.receive_backward(backward_phase);
        self.exchange();
        let (forward, backward) =
            (self.next_forward(forward_phase), self.next_backward(backward_phase));
        self.plan(Action::Overlapped { forward, backward });
        self.send_forward(forward_phase);
        self.send_backward(backward_phase);
    }

    /// W of the chunk that has waited longest.
    pub fn weights(&mut self) {
        self.exchange();
        let chunk = self.deferred.pop_front().expect("invariant: as many W as B that put them off");
        self.plan(Action::Weights(chunk));
    }

    /// The number of chunks whose weight gradients wait.
    pub fn deferred(&self) -> usize {
        self.deferred.len()
    }

    /// F alone, without its messages.
    pub fn compute_forward(&mut self, phase: usize) {
        self.exchange();
        let chunk = self.next_forward(phase);
        self.plan(Action::Forward(chunk));
    }

    /// B alone, without its messages.
    pub fn compute_backward(&mut self, phase: usize, weights: WeightGradients) {
        self.exchange();
        let chunk = self.next_backward(phase);
        let defer_weights = weights == WeightGradients::Deferred;
        if defer_weights {
            self.deferred.push_back(chunk);
        }
        self.plan(Action::Backward { chunk, defer_weights });
    }

    pub fn receive_forward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::ReceiveForward, direction, self.before(direction));
    }

    pub fn send_forward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::SendForward, direction, self.after(direction));
    }

    pub fn receive_backward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::ReceiveBackward, direction, self.after(direction));
    }

    pub fn send_backward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::SendBackward, direction, self.before(direction));
    }

    fn direction(&self, phase: usize) -> usize {
        self.kind.phase(self.rank, self.ranks, phase)
    }

    /// The rank that a chunk of a direction comes from; none where it begins here or was here just
    /// before.
    fn before(&self, direction: usize) -> Option<usize> {
        if direction == 0 {
            self.rank.checked_sub(1)
        } else {
            Some(self.rank + 1).filter(|&next| next < self.ranks)
        }
    }

    /// The rank that it goes to.
    fn after(&self, direction: usize) -> Option<usize> {
        self.before(1 - direction)
    }

    fn post(&mut self, kind: TransferKind, direction: usize, peer: Option<usize>) {
        let index = next(&mut self.messages[direction][kind as usize]);
        if let Some(peer) = peer {
            self.posted.push(Transfer { kind, direction, index, peer });
        }
    }

    /// Writes down the messages posted since the last time.
    fn exchange(&mut self) {
        if !self.posted.is_empty() {
            let posted = std::mem::take(&mut self.posted);
            self.plan(Action::Exchange(posted));
        }
    }

    fn next_forward(&mut self, phase: usize) -> Chunk {
        let direction = self.direction(phase);
        let index = next(&mut self.forwards[direction]);
        self.chunk(direction, index)
    }

    fn next_backward(&mut self, phase: usize) -> Chunk {
        let direction = self.direction(phase);
        let index = next(&mut self.backwards[direction]);
        self.chunk(direction, index)
    }

    fn chunk(&self, direction: usize, index: usize) -> Chunk {
        let stage = self.kind.stages_of(self.rank, self.ranks)[direction]
            .expect("invariant: a direction with chunks has a stage");
        Chunk { direction, index, stage }
    }

    fn plan(&mut self, action: Action) {
        self.planned.push(Planned { step: self.step, action });
    }
}

/// The number of things so far, and one more from now on.
fn next(count: &mut usize) -> usize {
    *count += 1;
    *count - 1
}
