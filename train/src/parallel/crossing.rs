//! Rows that take two hops: what ranks tell each other of them, which fan out inside a node, and in
//! which order they are computed. Numbers alone, no tensors.

use super::packed::packed;

packed!(Crossing { counts, positions });
packed!(Fanned { rows, counts, positions });

/// What a sender says of the rows that cross to a node.
#[derive(Debug)]
pub(super) struct Crossing {
    /// Rows of each expert of the node.
    pub counts: Vec<u32>,
    /// For each of them, expert by expert, which of the parcel's rows it is.
    pub positions: Vec<u32>,
}

/// What fans out to a rank of one sender's rows.
#[derive(Debug)]
pub(super) struct Fanned {
    /// Rows of the parcel that are this sender's.
    pub rows: usize,
    /// Rows of each expert of the rank.
    pub counts: Vec<u32>,
    /// For each of them, expert by expert, which of the sender's rows in the parcel it is.
    pub positions: Vec<u32>,
}

/// Fans the rows that have crossed, `from_node` of each node, out to `size` ranks with `here`
/// experts each: gives which of the rows go, rank by rank; how many go to each rank; and what each
/// is told of them, node by node.
pub(super) fn fanned(
    crossings: &[Crossing],
    from_node: &[usize],
    size: usize,
    here: usize,
) -> (Vec<u32>, Vec<usize>, Vec<Vec<Fanned>>) {
    let (mut index, mut to_rank, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    // Where the rows of the next expert begin in each crossing's positions.
    let mut next = vec![0usize; crossings.len()];
    for rank in 0..size {
        let before = index.len();
        let mut first = 0u32;
        let mut told = Vec::with_capacity(crossings.len());
        for (node, crossing) in crossings.iter().enumerate() {
            let counts = crossing.counts[rank * here..(rank + 1) * here].to_vec();
            let total: usize = counts.iter().map(|&count| count as usize).sum();
            let positions = &crossing.positions[next[node]..next[node] + total];
            next[node] += total;
            let mut rows = positions.to_vec();
            rows.sort_unstable();
            rows.dedup();
            let place = |position: &u32| {
                rows.binary_search(position).expect("invariant: a row of an expert fans out") as u32
            };
            told.push(Fanned {
                rows: rows.len(),
                counts,
                positions: positions.iter().map(place).collect(),
            });
            index.extend(rows.iter().map(|row| first + row));
            first += from_node[node] as u32;
        }
        to_rank.push(index.len() - before);
        notes.push(told);
    }
    (index, to_rank, notes)
}

/// Arranges the rows that have come, crossing by crossing and node by node: gives which of them
/// each computed row is, and its expert. Computed rows are sorted by expert, then by sender, then
/// by token, as the direct route has them. Sender `node * size + place` came over crossing `place`.
pub(super) fn arranged(notes: &[Vec<Fanned>], here: usize) -> (Vec<u32>, Vec<u32>) {
    let nodes = notes.first().map_or(0, Vec::len);
    let mut first = 0u32;
    let starts: Vec<Vec<u32>> = notes
        .iter()
        .map(|senders| {
            let start = |sender: &Fanned| {
                let start = first;
                first += sender.rows as u32;
                start
            };
            senders.iter().map(start).collect()
        })
        .collect();
    let mut next = vec![vec![0usize; nodes]; notes.len()];
    let (mut index, mut experts) = (Vec::new(), Vec::new());
    for expert in 0..here {
        for node in 0..nodes {
            for (place, senders) in notes.iter().enumerate() {
                let (sender, next) = (&senders[node], &mut next[place][node]);
                let count = sender.counts[expert] as usize;
                index.extend(
                    sender.positions[*next..*next + count]
                        .iter()
                        .map(|position| starts[place][node] + position),
                );
                experts.extend(std::iter::repeat_n(expert as u32, count));
                *next += count;
            }
        }
    }
    (index, experts)
}
