//! DualPipe and DualPipeV: eight steps in which chunks of two directions meet on every rank (3.2.1,
//! Figure 5).

use super::action::{Action, Chunk, Planned, Transfer, TransferKind};

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
    folded.actions(rank, ranks)
}

/// The actions of a rank of DualPipeV: every chunk goes down the ranks and up again.
pub(super) fn dualpipev(rank: usize, ranks: usize, chunks: usize) -> Vec<Planned> {
    let folded =
        Folded { depth: rank, width: ranks, chunks, turns: rank == ranks - 1, v_shaped: true };
    folded.actions(rank, ranks)
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
    v_shaped: bool,
}

impl Folded {
    fn actions(&self, rank: usize, ranks: usize) -> Vec<Planned> {
        let mut writer = Writer::new(rank, ranks, self.v_shaped);
        let w = &mut writer;
        let beyond = self.width - self.depth - 1;

        w.step = 1;
        for _ in 0..2 * beyond {
            w.forward(0, true, true);
        }
        w.step = 2;
        let both = self.depth + 1;
        w.receive_forward(0);
        for i in 0..both {
            w.forward(0, false, self.turns && !self.v_shaped);
            w.receive_forward(0);
            w.forward(1, true, !self.turns || i + 1 < both);
            if !self.turns || self.v_shaped {
                w.send_forward(0);
            }
        }
        w.step = 3;
        for _ in 0..beyond {
            w.backward(1, true, true);
            w.receive_forward(1);
            w.weights();
            w.forward(1, false, true);
        }
        w.step = 4;
        for i in 0..self.chunks - 2 * self.width + self.depth + 1 {
            if i > 0 {
                w.overlapped(0, 1, true);
            } else if self.turns {
                w.forward(0, false, false);
                w.send_forward(1);
                w.backward(1, false, false);
                w.send_forward(0);
                w.send_backward(1);
            } else {
                w.overlapped(0, 1, false);
            }
            w.overlapped(1, 0, true);
        }
        w.step = 5;
        for _ in 0..beyond {
            w.backward(1, false, true);
            w.overlapped(1, 0, true);
        }
        w.step = 6;
        let mut deferred = false;
        for i in 0..both {
            let half_way = i == both / 2;
            deferred |= half_way && self.depth % 2 == 1;
            w.backward(1, deferred, true);
            deferred |= half_way;
            w.backward(0, deferred, true);
        }
        w.step = 7;
        for _ in 0..beyond {
            w.weights();
            w.backward(0, true, true);
        }
        w.step = 8;
        for _ in 0..both {
            w.weights();
        }
        w.exchange();
        writer.planned
    }
}

/// Counts chunks and gathers messages while actions are written down. A phase is 0 for chunks that
/// come from this rank's open end.
struct Writer {
    rank: usize,
    ranks: usize,
    v_shaped: bool,
    step: usize,
    planned: Vec<Planned>,
    posted: Vec<Transfer>,
    /// Chunks so far: run forward, run backward, and those of each kind of message, by direction.
    forwards: [usize; 2],
    backwards: [usize; 2],
    messages: [[usize; 4]; 2],
    deferred: std::collections::VecDeque<Chunk>,
}

impl Writer {
    fn new(rank: usize, ranks: usize, v_shaped: bool) -> Self {
        Self {
            rank,
            ranks,
            v_shaped,
            step: 0,
            planned: Vec::new(),
            posted: Vec::new(),
            forwards: [0; 2],
            backwards: [0; 2],
            messages: [[0; 4]; 2],
            deferred: Default::default(),
        }
    }

    /// In DualPipe's second half of ranks the open end is the last rank.
    fn direction(&self, phase: usize) -> usize {
        if !self.v_shaped && self.rank >= self.ranks / 2 { 1 - phase } else { phase }
    }

    fn stage(&self, direction: usize) -> usize {
        match (direction, self.v_shaped) {
            (0, _) => self.rank,
            (_, false) => self.ranks - 1 - self.rank,
            (_, true) => 2 * self.ranks - 1 - self.rank,
        }
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

    fn forward(&mut self, phase: usize, receive: bool, send: bool) {
        if receive {
            self.receive_forward(phase);
        }
        self.exchange();
        let chunk = self.next_forward(phase);
        self.plan(Action::Forward(chunk));
        if send {
            self.send_forward(phase);
        }
    }

    fn backward(&mut self, phase: usize, defer_weights: bool, send: bool) {
        self.receive_backward(phase);
        self.exchange();
        let chunk = self.next_backward(phase);
        if defer_weights {
            self.deferred.push_back(chunk);
        }
        self.plan(Action::Backward { chunk, defer_weights });
        if send {
            self.send_backward(phase);
        }
    }

    fn overlapped(&mut self, forward_phase: usize, backward_phase: usize, receive_forward: bool) {
        if receive_forward {
            self.receive_forward(forward_phase);
        }
        self.receive_backward(backward_phase);
        self.exchange();
        let (forward, backward) =
            (self.next_forward(forward_phase), self.next_backward(backward_phase));
        self.plan(Action::Overlapped { forward, backward });
        self.send_forward(forward_phase);
        self.send_backward(backward_phase);
    }

    fn weights(&mut self) {
        self.exchange();
        let chunk = self.deferred.pop_front().expect("invariant: as many W as B that put them off");
        self.plan(Action::Weights(chunk));
    }

    fn receive_forward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::ReceiveForward, direction, self.before(direction));
    }

    fn send_forward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::SendForward, direction, self.after(direction));
    }

    fn receive_backward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::ReceiveBackward, direction, self.after(direction));
    }

    fn send_backward(&mut self, phase: usize) {
        let direction = self.direction(phase);
        self.post(TransferKind::SendBackward, direction, self.before(direction));
    }

    fn post(&mut self, kind: TransferKind, direction: usize, peer: Option<usize>) {
        let count = &mut self.messages[direction][kind as usize];
        let index = *count;
        *count += 1;
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
        self.forwards[direction] += 1;
        Chunk { direction, index: self.forwards[direction] - 1, stage: self.stage(direction) }
    }

    fn next_backward(&mut self, phase: usize) -> Chunk {
        let direction = self.direction(phase);
        self.backwards[direction] += 1;
        Chunk { direction, index: self.backwards[direction] - 1, stage: self.stage(direction) }
    }

    fn plan(&mut self, action: Action) {
        self.planned.push(Planned { step: self.step, action });
    }
}
