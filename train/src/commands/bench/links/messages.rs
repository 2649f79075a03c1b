//! Messages between two ranks, by size: a tensor there and back, as rows of a pipeline go.

use std::time::Instant;

use burn::tensor::Tensor;
use serde_json::{Value, json};

use super::super::Repetitions;
use super::super::table::median;
use super::party::Party;
use crate::failure::Result;
use crate::fold::Columns;
use crate::parallel::Subject;

/// Bytes of the messages.
const SIZES: [usize; 7] = [1 << 8, 1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24];
/// Messages of a repetition are so many bytes together, and at most so many messages.
const BYTES_A_REPETITION: usize = 1 << 22;
const MOST_MESSAGES: usize = 64;

/// Messages of one size: microseconds of one, in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    bytes: usize,
    /// Inside a node, where one has several ranks, and between nodes, where there are several.
    us: [Option<f64>; 2],
}

/// What a link comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub latency_us: f64,
    pub gb_per_s: f64,
}

/// Times messages of all sizes.
pub(super) fn measure(party: &Party, reps: Repetitions) -> Result<Vec<Message>> {
    let peers =
        [(party.ranks_a_node > 1).then_some(1), (party.nodes() > 1).then_some(party.ranks_a_node)];
    let message = |bytes: usize| {
        let mut us = [None; 2];
        for (us, peer) in us.iter_mut().zip(peers) {
            *us = peer.map(|peer| there_and_back(party, peer, bytes, reps)).transpose()?;
        }
        Ok(Message { bytes, us })
    };
    SIZES.into_iter().map(message).collect()
}

/// Microseconds of a message between rank 0 and another: half of the way there and back.
fn there_and_back(party: &Party, peer: usize, bytes: usize, reps: Repetitions) -> Result<f64> {
    let count = (BYTES_A_REPETITION / bytes).clamp(1, MOST_MESSAGES);
    let values = Tensor::<1>::zeros([bytes / size_of::<f32>()], party.device());
    let mut times = Vec::new();
    for rep in 0..reps.warmup.saturating_add(reps.timed) {
        party.all(0.0)?;
        let begin = Instant::now();
        for round in party.rounds(count) {
            let subject = Subject::Parameter(round);
            if party.rank == 0 {
                party.send(peer, subject.clone(), values.clone());
                drop(party.receive(peer, subject)?);
            } else if party.rank == peer {
                let values = party.receive(0, subject.clone())?;
                party.send(0, subject, values);
            }
        }
        if rep >= reps.warmup {
            times.push(begin.elapsed().as_secs_f64() * 1e6 / (2 * count) as f64);
        }
    }
    Ok(party.all(median(&times))?[0])
}

/// Latency and bandwidth of the link inside a node and of the one between nodes: what a message
/// costs whatever its size, and what more bytes cost.
pub(super) fn links(messages: &[Message]) -> [Option<Link>; 2] {
    [0, 1].map(|kind| {
        let (first, last) = (messages.first()?, messages.last()?);
        let (small, large) = (first.us[kind]?, last.us[kind]?);
        let bytes = (last.bytes - first.bytes) as f64;
        Some(Link { latency_us: small, gb_per_s: bytes / 1e3 / (large - small).max(1e-3) })
    })
}

/// A row a size.
pub(super) fn text(messages: &[Message], width: usize) -> String {
    let mut table = Columns::new(["<message", "us", "GB/s", "between nodes, us", "GB/s "]);
    for message in messages {
        let cells = message.us.into_iter().flat_map(|us| {
            let rate = us.map(|us| message.bytes as f64 / us / 1e3);
            [us, rate].map(|value| value.map_or_else(String::new, |value| format!("{value:.2}")))
        });
        table.row(std::iter::once(named(message.bytes)).chain(cells));
    }
    table.text(width)
}

/// The same for programs.
pub(super) fn results(messages: &[Message]) -> Value {
    let row = |message: &Message| {
        let [us, slow_us] = message.us;
        json!({ "bytes": message.bytes, "us": us, "between_nodes_us": slow_us })
    };
    messages.iter().map(row).collect()
}

/// Bytes in the largest unit that they are a whole number of.
pub(super) fn named(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_latency_and_bandwidth() {
        let message = |bytes: usize| Message { bytes, us: [Some(20.0 + bytes as f64 / 5e3), None] };
        let [fast, slow] = links(&SIZES.map(message));
        let fast = fast.unwrap();
        assert!((fast.gb_per_s - 5.0).abs() < 1e-9 && (fast.latency_us - 20.0512).abs() < 1e-9);
        assert!(slow.is_none());
        let text = text(&SIZES.map(message), 80);
        assert!(text.contains("256 B") && text.contains("16 MiB"), "{text}");
    }
}
