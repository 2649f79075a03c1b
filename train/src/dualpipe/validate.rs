//! Proves a schedule: dependencies, messages, no deadlock, what is in flight.
//!
//! Three things are looked at, and together they prove every dependency across ranks. On each rank,
//! in the order of its actions: what an action needs was computed here or received before, what is
//! sent was computed before, and everything is done once. Between two ranks: what one sends, the
//! other receives, in the same order. Of all ranks: carried out symbolically, with an exchange
//! waiting until each of its messages is posted on both sides, they come to their ends. Nothing is
//! proved of an engine that is stricter than that; one that sends without waiting is not.

use std::collections::VecDeque;

use super::action::{Action, Chunk, Planned, Transfer, TransferKind};
use super::fault::{Fault, Pass, Rule};
use super::matched::matched;
use super::schedule::PipelineSchedule;
use super::walk::walk;

/// What is known of a schedule that has been proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The most chunks whose activations each rank holds at once, from the start of F to the end of
    /// B or, where weight gradients are put off, of W.
    pub peak_activations: Vec<usize>,
}

/// Proves a schedule.
///
/// # Errors
///
/// The first rule found broken, and where.
pub fn validate(schedule: &PipelineSchedule) -> Result<Proof, Fault> {
    if schedule.actions.len() != schedule.ranks {
        let rule = Rule::Ranks { found: schedule.actions.len(), ranks: schedule.ranks };
        return Err(Fault { rank: 0, position: 0, rule });
    }
    let peak_activations = (0..schedule.ranks)
        .map(|rank| Local::new(schedule, rank).check())
        .collect::<Result<_, _>>()?;
    matched(schedule)?;
    walk(schedule, |_, _| {})?;
    Ok(Proof { peak_activations })
}

/// What a rank knows of one of its chunks.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    forward: bool,
    backward: bool,
    weights: bool,
    /// Messages posted, by kind.
    posted: [bool; 4],
}

/// One rank's actions, in order.
struct Local<'a> {
    schedule: &'a PipelineSchedule,
    rank: usize,
    position: usize,
    known: [Vec<Known>; 2],
    deferred: VecDeque<Chunk>,
    held: usize,
    peak: usize,
}

impl<'a> Local<'a> {
    fn new(schedule: &'a PipelineSchedule, rank: usize) -> Self {
        let chunks = |direction: usize| match schedule.stages_of(rank)[direction] {
            Some(_) => vec![Known::default(); schedule.chunks_of_direction()],
            None => Vec::new(),
        };
        Self {
            schedule,
            rank,
            position: 0,
            known: [chunks(0), chunks(1)],
            deferred: VecDeque::new(),
            held: 0,
            peak: 0,
        }
    }

    /// The most chunks in flight.
    fn check(mut self) -> Result<usize, Fault> {
        for (position, Planned { action, .. }) in
            self.schedule.actions[self.rank].iter().enumerate()
        {
            self.position = position;
            self.act(action).map_err(|rule| self.fault(rule))?;
        }
        self.position += 1;
        for (direction, known) in self.known.iter().enumerate() {
            for (index, known) in known.iter().enumerate() {
                let done = [
                    (Pass::Forward, known.forward),
                    (Pass::Backward, known.backward),
                    (Pass::Weights, known.weights),
                ];
                if let Some((pass, _)) = done.into_iter().find(|(_, done)| !done) {
                    return Err(
                        self.fault(Rule::Missing { pass, chunk: self.chunk(direction, index) })
                    );
                }
            }
        }
        Ok(self.peak)
    }

    fn act(&mut self, action: &Action) -> Result<(), Rule> {
        match action {
            Action::Forward(chunk) => self.forward(*chunk),
            Action::Backward { chunk, defer_weights } => {
                self.backward(*chunk)?;
                match defer_weights {
                    true => self.deferred.push_back(*chunk),
                    false => self.release(*chunk),
                }
                Ok(())
            }
            Action::Weights(chunk) => {
                self.known(*chunk)?;
                match self.deferred.front() {
                    _ if !self.deferred.contains(chunk) => Err(Rule::NothingDeferred(*chunk)),
                    Some(longest) if longest != chunk => {
                        Err(Rule::WeightsOutOfOrder { chunk: *chunk, longest: *longest })
                    }
                    _ => {
                        self.deferred.pop_front();
                        self.release(*chunk);
                        Ok(())
                    }
                }
            }
            // Both run at once, so neither may need what the other computes.
            Action::Overlapped { forward, backward } => {
                self.ready_backward(*backward)?;
                self.forward(*forward)?;
                self.backward(*backward)?;
                self.release(*backward);
                Ok(())
            }
            Action::Exchange(transfers) => {
                transfers.iter().try_for_each(|transfer| self.post(*transfer))
            }
        }
    }

    fn forward(&mut self, chunk: Chunk) -> Result<(), Rule> {
        let known = self.known(chunk)?;
        if known.forward {
            return Err(Rule::Twice { pass: Pass::Forward, chunk });
        }
        if let Some(previous) = chunk.stage.checked_sub(1)
            && !self.has(chunk, previous, |known| known.forward, TransferKind::ReceiveForward)
        {
            return Err(Rule::InputMissing { pass: Pass::Forward, chunk });
        }
        self.known[chunk.direction][chunk.index].forward = true;
        self.held += 1;
        self.peak = self.peak.max(self.held);
        Ok(())
    }

    fn ready_backward(&self, chunk: Chunk) -> Result<(), Rule> {
        let known = self.known(chunk)?;
        if known.backward {
            return Err(Rule::Twice { pass: Pass::Backward, chunk });
        }
        if !known.forward {
            return Err(Rule::BackwardFirst(chunk));
        }
        let next = chunk.stage + 1;
        if next < self.schedule.stages
            && !self.has(chunk, next, |known| known.backward, TransferKind::ReceiveBackward)
        {
            return Err(Rule::InputMissing { pass: Pass::Backward, chunk });
        }
        Ok(())
    }

    /// Whether what a chunk needs of another stage is here: computed on this rank, or received.
    fn has(
        &self,
        chunk: Chunk,
        stage: usize,
        computed: fn(&Known) -> bool,
        received: TransferKind,
    ) -> bool {
        match self.neighbour(chunk, stage) {
            None => self.known[1 - chunk.direction].get(chunk.index).is_some_and(computed),
            Some(_) => self.known[chunk.direction][chunk.index].posted[received as usize],
        }
    }

    fn backward(&mut self, chunk: Chunk) -> Result<(), Rule> {
        self.ready_backward(chunk)?;
        self.known[chunk.direction][chunk.index].backward = true;
        Ok(())
    }

    /// Weight gradients are there: the activations are needed no more.
    fn release(&mut self, chunk: Chunk) {
        self.known[chunk.direction][chunk.index].weights = true;
        self.held -= 1;
    }

    fn post(&mut self, transfer: Transfer) -> Result<(), Rule> {
        let Transfer { kind, direction, index, peer } = transfer;
        let wrong = || Rule::NoSuchTransfer(transfer);
        let known =
            *self.known.get(direction).and_then(|known| known.get(index)).ok_or_else(wrong)?;
        let chunk = self.chunk(direction, index);
        let other = match kind {
            TransferKind::SendForward | TransferKind::ReceiveBackward => {
                Some(chunk.stage + 1).filter(|&next| next < self.schedule.stages)
            }
            TransferKind::ReceiveForward | TransferKind::SendBackward => chunk.stage.checked_sub(1),
        };
        if other.and_then(|stage| self.neighbour(chunk, stage)) != Some(peer) {
            return Err(wrong());
        }
        if known.posted[kind as usize] {
            return Err(Rule::TransferTwice(transfer));
        }
        let computed = match kind {
            TransferKind::SendForward => known.forward,
            TransferKind::SendBackward => known.backward,
            TransferKind::ReceiveForward | TransferKind::ReceiveBackward => true,
        };
        if !computed {
            return Err(Rule::SentTooEarly(transfer));
        }
        self.known[direction][index].posted[kind as usize] = true;
        Ok(())
    }

    /// The other rank that has a stage of a chunk's micro-batch; none where it is this one.
    fn neighbour(&self, chunk: Chunk, stage: usize) -> Option<usize> {
        Some(self.schedule.rank_of(chunk, stage)).filter(|&rank| rank != self.rank)
    }

    fn known(&self, chunk: Chunk) -> Result<Known, Rule> {
        let known = self.known.get(chunk.direction).and_then(|known| known.get(chunk.index));
        let stage = self.schedule.stages_of(self.rank).get(chunk.direction).copied().flatten();
        known.copied().filter(|_| stage == Some(chunk.stage)).ok_or(Rule::NotHere(chunk))
    }

    fn chunk(&self, direction: usize, index: usize) -> Chunk {
        let stage = self.schedule.stages_of(self.rank)[direction]
            .expect("invariant: a direction with chunks has a stage");
        Chunk { direction, index, stage }
    }

    fn fault(&self, rule: Rule) -> Fault {
        Fault { rank: self.rank, position: self.position, rule }
    }
}
