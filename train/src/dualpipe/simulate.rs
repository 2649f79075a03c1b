//! Times a schedule: when each action would begin and end, with given costs.

use std::collections::HashMap;

use serde::Serialize;

use super::action::{Action, Chunk, Planned};
use super::fault::Fault;
use super::schedule::PipelineSchedule;
use super::validate::{Proof, validate};
use super::walk::{Event, Message, walk};

/// What actions cost, in any unit of time. A backward chunk B with its weight gradients costs
/// `backward_input + weights`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// F, a forward chunk.
    pub forward: f64,
    /// The part of a backward chunk that gives the gradient of its input.
    pub backward_input: f64,
    /// W, weight gradients.
    pub weights: f64,
    /// F&B, a forward and a whole backward chunk overlapped.
    pub overlapped: f64,
    /// A message, from one rank to the next.
    pub communication: f64,
}

impl Costs {
    /// The costs of the report's comparison: F = 1, B = 2, W = 1, F&B = 3, messages at no cost.
    pub const UNIT: Self = Self {
        forward: 1.0,
        backward_input: 1.0,
        weights: 1.0,
        overlapped: 3.0,
        communication: 0.0,
    };

    /// B, weight gradients included.
    pub fn backward(&self) -> f64 {
        self.backward_input + self.weights
    }

    /// What an action costs; an exchange what one of its messages does, as they travel together.
    pub fn of(&self, action: &Action) -> f64 {
        match action {
            Action::Forward(_) => self.forward,
            Action::Backward { defer_weights: true, .. } => self.backward_input,
            Action::Backward { .. } => self.backward(),
            Action::Weights(_) => self.weights,
            Action::Overlapped { .. } => self.overlapped,
            Action::Exchange(_) => self.communication,
        }
    }
}

/// How ranks wait for each other. Neither way does a rank wait until what it has sent is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Messages are posted where the schedule has an exchange, and a rank goes on when what it
    /// receives there has come: what the schedules were made for.
    AtExchanges,
    /// Messages leave as soon as they are computed, and are waited for by the action that needs
    /// them: what the executor does.
    WhereNeeded,
}

/// An action and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// The action; never an exchange.
    pub planned: Planned,
    /// Its start.
    pub start: f64,
    /// Its end.
    pub end: f64,
}

/// A schedule with times.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// The actions of each rank but the exchanges, in order.
    pub ranks: Vec<Vec<Timed>>,
    /// What is known of the schedule without times.
    pub proof: Proof,
}

/// Carries a schedule out on paper; it is proved first.
///
/// # Errors
///
/// A rule that the schedule breaks.
pub fn simulate(
    schedule: &PipelineSchedule,
    costs: &Costs,
    waiting: Waiting,
) -> Result<Simulation, Fault> {
    let proof = validate(schedule)?;
    let mut clock = Clock {
        schedule,
        costs,
        now: vec![0.0; schedule.ranks],
        sent: HashMap::new(),
        outputs: HashMap::new(),
    };
    let mut ranks: Vec<Vec<Timed>> = vec![Vec::new(); schedule.ranks];
    walk(schedule, |rank, event| match (event, waiting) {
        (Event::Computes(planned), _) => {
            if waiting == Waiting::WhereNeeded {
                clock.now[rank] = clock.now[rank].max(clock.inputs_of(rank, &planned.action));
            }
            let start = clock.now[rank];
            let end = start + costs.of(&planned.action);
            clock.now[rank] = end;
            clock.computed(&planned.action, end);
            ranks[rank].push(Timed { planned: planned.clone(), start, end });
        }
        (Event::Posts(transfers), Waiting::AtExchanges) => {
            let sent = transfers
                .iter()
                .map(|transfer| Message::of(rank, transfer))
                .filter(|message| message.from == rank);
            clock.sent.extend(sent.map(|message| (message, clock.now[rank])));
        }
        (Event::Meets(transfers), Waiting::AtExchanges) => {
            let received = transfers
                .iter()
                .map(|transfer| Message::of(rank, transfer))
                .filter(|message| message.to == rank);
            let arrivals = received.map(|message| clock.sent[&message] + costs.communication);
            clock.now[rank] = arrivals.fold(clock.now[rank], f64::max);
        }
        (_, Waiting::WhereNeeded) => {}
    })?;
    Ok(Simulation { ranks, proof })
}

/// The time on each rank, and of what has left it.
struct Clock<'a> {
    schedule: &'a PipelineSchedule,
    costs: &'a Costs,
    /// Time of each rank.
    now: Vec<f64>,
    /// When messages left.
    sent: HashMap<Message, f64>,
    /// When a micro-batch left a stage, forward or backward.
    outputs: HashMap<(usize, usize, bool), f64>,
}

impl Clock<'_> {
    /// When all that an action needs is on its rank.
    fn inputs_of(&self, rank: usize, action: &Action) -> f64 {
        let forward = |chunk: &Chunk| match chunk.stage {
            0 => 0.0,
            stage => self.arrival(rank, chunk, stage - 1, false),
        };
        let backward = |chunk: &Chunk| match chunk.stage + 1 {
            next if next == self.schedule.stages => 0.0,
            next => self.arrival(rank, chunk, next, true),
        };
        match action {
            Action::Forward(chunk) => forward(chunk),
            Action::Backward { chunk, .. } => backward(chunk),
            Action::Overlapped { forward: f, backward: b } => forward(f).max(backward(b)),
            Action::Weights(_) | Action::Exchange(_) => 0.0,
        }
    }

    fn arrival(&self, rank: usize, chunk: &Chunk, stage: usize, backward: bool) -> f64 {
        let hop = if self.schedule.rank_of(*chunk, stage) == rank {
            0.0
        } else {
            self.costs.communication
        };
        self.outputs[&(self.schedule.micro_batch(*chunk), stage, backward)] + hop
    }

    fn computed(&mut self, action: &Action, end: f64) {
        let (forward, backward) = match action {
            Action::Forward(chunk) => (Some(chunk), None),
            Action::Backward { chunk, .. } => (None, Some(chunk)),
            Action::Overlapped { forward, backward } => (Some(forward), Some(backward)),
            Action::Weights(_) | Action::Exchange(_) => (None, None),
        };
        for (chunk, backward) in [(forward, false), (backward, true)] {
            if let Some(chunk) = chunk {
                self.outputs
                    .insert((self.schedule.micro_batch(*chunk), chunk.stage, backward), end);
            }
        }
    }
}

impl Simulation {
    /// When the last rank is done.
    pub fn makespan(&self) -> f64 {
        self.ranks.iter().flat_map(|rank| rank.last()).map(|timed| timed.end).fold(0.0, f64::max)
    }

    /// Time in which each rank computes.
    pub fn busy(&self) -> Vec<f64> {
        self.ranks
            .iter()
            .map(|rank| rank.iter().map(|timed| timed.end - timed.start).sum())
            .collect()
    }

    /// Time in which each rank does not.
    pub fn idle(&self) -> Vec<f64> {
        let makespan = self.makespan();
        self.busy().into_iter().map(|busy| makespan - busy).collect()
    }

    /// The bubble: idle time of the rank with the most.
    pub fn bubble(&self) -> f64 {
        self.idle().into_iter().fold(0.0, f64::max)
    }
}
