//! Carries a schedule out symbolically, in an order in which everything can happen.

use std::collections::HashSet;

use super::action::{Action, Planned, Transfer, TransferKind};
use super::fault::{Fault, Rule};
use super::schedule::PipelineSchedule;

/// A message, the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub from: usize,
    pub to: usize,
    /// Gradients, else activations.
    gradients: bool,
    direction: usize,
    index: usize,
}

impl Message {
    /// What a rank posts.
    pub fn of(rank: usize, transfer: &Transfer) -> Self {
        let Transfer { kind, direction, index, peer } = *transfer;
        let sends = matches!(kind, TransferKind::SendForward | TransferKind::SendBackward);
        let gradients = matches!(kind, TransferKind::SendBackward | TransferKind::ReceiveBackward);
        let (from, to) = if sends { (rank, peer) } else { (peer, rank) };
        Self { from, to, gradients, direction, index }
    }
}

/// Something that happens on a rank.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// It computes.
    Computes(&'a Planned),
    /// It comes to an exchange and posts its messages.
    Posts(&'a [Transfer]),
    /// The messages have all been posted on the other side too.
    Meets(&'a [Transfer]),
}

/// Shows `visit` what happens on which rank, each thing after all that it waits for: an exchange
/// ends when each of its messages has been posted on both sides.
///
/// # Errors
///
/// Ranks that wait for each other.
pub(super) fn walk<'a>(
    schedule: &'a PipelineSchedule,
    mut visit: impl FnMut(usize, Event<'a>),
) -> Result<(), Fault> {
    let mut positions = vec![0; schedule.ranks];
    let mut waits = vec![false; schedule.ranks];
    let mut posted: HashSet<(usize, Message)> = HashSet::new();
    loop {
        let mut moved = false;
        for (rank, actions) in schedule.actions.iter().enumerate() {
            while let Some(planned) = actions.get(positions[rank]) {
                match &planned.action {
                    Action::Exchange(transfers) => {
                        if !waits[rank] {
                            posted.extend(
                                transfers
                                    .iter()
                                    .map(|transfer| (rank, Message::of(rank, transfer))),
                            );
                            visit(rank, Event::Posts(transfers));
                            (waits[rank], moved) = (true, true);
                        }
                        if !transfers.iter().all(|transfer| {
                            posted.contains(&(transfer.peer, Message::of(rank, transfer)))
                        }) {
                            break;
                        }
                        visit(rank, Event::Meets(transfers));
                        waits[rank] = false;
                    }
                    _ => visit(rank, Event::Computes(planned)),
                }
                positions[rank] += 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let stuck = |&(rank, position): &(usize, usize)| position < schedule.actions[rank].len();
    let waiting: Vec<(usize, usize)> = positions.into_iter().enumerate().filter(stuck).collect();
    match waiting.first() {
        None => Ok(()),
        Some(&(rank, position)) => Err(Fault { rank, position, rule: Rule::Deadlock { waiting } }),
    }
}
