//! Whether the messages of a schedule match: what a rank sends to another, the other receives.

use std::collections::BTreeMap;

use super::action::{Action, Planned, Transfer};
use super::fault::{Fault, Rule};
use super::schedule::PipelineSchedule;
use super::walk::Message;

/// Checks that what a rank sends to another, the other receives, in the same order.
///
/// # Errors
///
/// The first message without a partner, or that meets another one.
pub(super) fn matched(schedule: &PipelineSchedule) -> Result<(), Fault> {
    let mut lanes: BTreeMap<(usize, usize), [Vec<Posted>; 2]> = BTreeMap::new();
    for (rank, actions) in schedule.actions.iter().enumerate() {
        for (position, Planned { action, .. }) in actions.iter().enumerate() {
            let Action::Exchange(transfers) = action else { continue };
            for &transfer in transfers {
                let message = Message::of(rank, &transfer);
                let lane = lanes.entry((message.from, message.to)).or_default();
                lane[usize::from(message.to == rank)].push(Posted {
                    rank,
                    position,
                    transfer,
                    message,
                });
            }
        }
    }
    // Of two that differ, one whose partner is nowhere says more than that they differ.
    let alone =
        |one: &Posted, others: &[Posted]| !others.iter().any(|other| other.message == one.message);
    for [sent, received] in lanes.values() {
        for index in 0..sent.len().max(received.len()) {
            return match (sent.get(index), received.get(index)) {
                (Some(one), Some(other)) if one.message == other.message => continue,
                (Some(one), Some(other)) if !alone(one, received) && !alone(other, sent) => {
                    Err(one.fault(Rule::Crossed { transfer: one.transfer, other: other.transfer }))
                }
                (Some(one), _) if alone(one, received) => {
                    Err(one.fault(Rule::Unmatched(one.transfer)))
                }
                (_, Some(one)) | (Some(one), None) => Err(one.fault(Rule::Unmatched(one.transfer))),
                (None, None) => continue,
            };
        }
    }
    Ok(())
}

/// A message and where it is posted.
#[derive(Clone, Copy, Debug)]
struct Posted {
    rank: usize,
    position: usize,
    transfer: Transfer,
    message: Message,
}

impl Posted {
    fn fault(&self, rule: Rule) -> Fault {
        Fault { rank: self.rank, position: self.position, rule }
    }
}
