//! What each rank keeps, by whose formats.

use std::fmt::Write;

use super::super::Planned;
use super::{line, numbers};
use crate::fold::Columns;
use crate::plan::RankMemory;
use crate::schedule::rounded_count;

const GIB: f64 = (1u64 << 30) as f64;

pub(super) fn write(text: &mut String, planned: &Planned, width: usize) {
    let plan = &planned.plan;
    let room = planned.cluster.gpu.memory_gib;
    let other_way = if plan.workload.recompute { "not recomp." } else { "recomputed" };
    for (title, ranks) in [
        ("as the report keeps things", &plan.report),
        ("as this program keeps them", &plan.program),
    ] {
        let numbers::Unit(name, unit) =
            numbers::binary(ranks.iter().map(|rank| rank.total_bytes).fold(0.0, f64::max));
        line!(text);
        line!(text, "memory of a GPU in {name}, {title}; a GPU has {room} GiB");
        let other_way = format!("({other_way})");
        let mut table = Columns::new([
            "<ranks",
            "params",
            "weights",
            "in FP8",
            "gradients",
            "master",
            "moments",
            "chunks",
            "activations",
            &other_way,
            "head",
            "total",
            "<",
        ]);
        for (names, rank) in alike(ranks) {
            let of = |bytes: f64| format!("{:.2}", bytes / unit);
            let other = if plan.workload.recompute {
                rank.without_recompute_bytes
            } else {
                rank.with_recompute_bytes
            };
            table.row([
                names,
                rounded_count(rank.parameters.replicated + rank.parameters.experts),
                of(rank.weights_bytes),
                of(rank.fp8_weights_bytes),
                of(rank.gradients_bytes),
                of(rank.master_bytes),
                of(rank.moments_bytes),
                rank.chunks.to_string(),
                of(rank.activations_bytes),
                of(other),
                of(rank.head_bytes),
                of(rank.total_bytes),
                if rank.total_bytes > room * GIB { "does not fit".into() } else { String::new() },
            ]);
        }
        *text += &table.text(width);
    }
    line!(text, "buffers of messages and of allocators are not counted");
}

/// Ranks that keep the same, together: `0, 15`.
fn alike(ranks: &[RankMemory]) -> Vec<(String, &RankMemory)> {
    let mut rows: Vec<(Vec<usize>, &RankMemory)> = Vec::new();
    for memory in ranks {
        let same = |other: &RankMemory| RankMemory { rank: memory.rank, ..*other } == *memory;
        match rows.iter_mut().find(|(_, first)| same(first)) {
            Some((names, _)) => names.push(memory.rank),
            None => rows.push((vec![memory.rank], memory)),
        }
    }
    rows.into_iter().map(|(names, memory)| (spans(&names), memory)).collect()
}

/// Ascending numbers, consecutive ones as `first..last`: `0, 3..14`.
fn spans(numbers: &[usize]) -> String {
    let spans = numbers.chunk_by(|a, b| a + 1 == *b).map(|span| match span {
        [one] => one.to_string(),
        [one, other] => format!("{one}, {other}"),
        _ => format!("{}..{}", span[0], span[span.len() - 1]),
    });
    spans.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named_shortly() {
        assert_eq!(spans(&[0, 15]), "0, 15");
        assert_eq!(spans(&[1, 2, 3, 4, 7, 9, 10]), "1..4, 7, 9, 10");
    }
}
