//! The node-limited route of two hops (3.2.2): a token crosses to a node once, to the rank there
//! that has the sender's place in its own node, and fans out inside.
//!
//! Back it is the same in reverse: a rank sums the rows of a token that it has, weighted by their
//! gate values, the rank of the crossing sums what its node has of the token, and one row crosses.
//! So both directions are each other's gradient: what carries activations to experts carries the
//! gradients of sums, what sums results sums the gradients of activations. The sums are in FP32,
//! and rounded to the format of the wire at each hop: other than on the direct route, results
//! depend (by such roundings, and in FP32 by the order of sums) on which experts share a node.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_deepseek::definition::{DispatchedRows, ExpertGroups};
use burn_deepseek::ops;
use burn_deepseek::ops::wire::{RowSums, WireFormat};

use super::exchange::{Link, WithoutAutodiff, cut};
use super::post::Leg;
use super::wire::{Rows, Wire};

/// What a sender says of the rows that cross to a node.
#[derive(Debug)]
struct Crossing {
    /// Rows of each expert of the node.
    counts: Vec<u32>,
    /// For each of them, expert by expert, which of the parcel's rows it is.
    positions: Vec<u32>,
}

/// What fans out to a rank of one sender's rows.
#[derive(Debug)]
struct Fanned {
    /// Rows of the parcel that are this sender's.
    rows: usize,
    /// Rows of each expert of the rank.
    counts: Vec<u32>,
    /// For each of them, expert by expert, which of the sender's rows in the parcel it is.
    positions: Vec<u32>,
}

/// A gather, and the sums that are its gradient.
struct Gather {
    index: Vec<u32>,
    sums: Arc<RowSums>,
}

impl Gather {
    fn new(index: Vec<u32>, rows: usize) -> Self {
        let sums = RowSums::of_gather(&index, rows).unwrap_or_else(|error| {
            unreachable!("invariant: a route stays inside its parcels: {error}")
        });
        Self { index, sums: Arc::new(sums) }
    }
}

/// The way that the rows of one layer and micro-batch take, as one rank sees it: as sender, at the
/// crossing, and with its experts.
struct Route {
    link: Arc<Link>,
    /// From this rank's tokens to the rows that cross, node by node, and how many cross to each.
    crossing: Gather,
    to_node: Vec<usize>,
    /// From the rows that have crossed to this rank to those that fan out, rank by rank; how many
    /// came of each node, and go to each rank.
    fan: Gather,
    from_node: Vec<usize>,
    to_rank: Vec<usize>,
    /// From the rows that have come to this rank's experts to those that they compute; how many
    /// came from each crossing.
    expert: Gather,
    from_crossing: Vec<usize>,
    /// Of each computed row, its expert.
    experts: Vec<u32>,
}

/// Sends each token to its experts in two hops.
pub(super) fn dispatch(link: Arc<Link>, x: Tensor<2>) -> DispatchedRows {
    let (route, rows) = Route::open(link, x.clone().inner_or_self());
    let route = Arc::new(route);
    let experts = ExpertGroups::new(&route.experts, 1, route.link.experts_here());
    let back = route.clone();
    let rows = ops::with_gradient(x, rows, move |dy| back.sum(dy, Leg::DispatchBackward));
    let combine = move |results: Tensor<2>, weights: Tensor<2>| {
        let gates = route.gates(weights);
        let weighted = results * gates;
        let sums = route.sum(weighted.clone().inner_or_self(), Leg::Combine);
        ops::with_gradient(weighted, sums, move |dout| route.spread(dout, Leg::CombineBackward))
    };
    DispatchedRows { rows, groups: experts, combine: Box::new(combine) }
}

impl Route {
    /// Carries x to the experts, and finds out the way as it goes.
    fn open(link: Arc<Link>, x: Tensor<2>) -> (Self, Tensor<2>) {
        const ROUTE: &str = "invariant: nodes divide the experts";
        let group = link.group.clone();
        let (nodes, size) = (group.nodes(), group.members_a_node);
        let (plan, format) = (link.sent.plan(), group.formats.dispatch);
        let here = link.experts_here();

        // Across: each token once to each node.
        let lists: Vec<Vec<u32>> =
            (0..nodes).map(|node| plan.tokens_of(node, nodes).expect(ROUTE)).collect();
        let to_node: Vec<usize> = lists.iter().map(Vec::len).collect();
        let notes: Vec<Crossing> = (0..nodes)
            .map(|node| {
                let rows = plan.rows_of(node, nodes).expect(ROUTE);
                let place = |token: &u32| {
                    lists[node].binary_search(token).expect("invariant: a row's token crosses")
                        as u32
                };
                let positions = plan.token_of_row()[rows].iter().map(place).collect();
                let offsets = &plan.offsets()[node * size * here..=(node + 1) * size * here];
                Crossing {
                    counts: offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect(),
                    positions,
                }
            })
            .collect();
        let crossing = Gather::new(lists.concat(), plan.tokens());
        let parcels = cut(link.wire.pack(x, &crossing.index, format), &to_node);
        let messages = parcels
            .into_iter()
            .zip(notes)
            .enumerate()
            .map(|(node, (rows, note))| (crossing_at(&link, node), rows, note));
        link.send(messages, Leg::Dispatch, 1);
        link.count_direct_rows(format);
        let (rows, notes): (Vec<_>, Vec<Crossing>) =
            link.receive(crossings(&link), Leg::Dispatch, 1).into_iter().unzip();

        // Inside: each row once to each rank that has an expert of its token.
        let from_node: Vec<usize> =
            rows.iter().map(|rows| rows.as_ref().map_or(0, Rows::count)).collect();
        let (index, to_rank, notes) = fanned(&notes, &from_node, size, here);
        let fan = Gather::new(index, from_node.iter().sum());
        let parcels = fan_out(Rows::joined(rows), &fan.index, &to_rank);
        let messages = parcels
            .into_iter()
            .zip(notes)
            .enumerate()
            .map(|(rank, (rows, note))| (in_node(&link, rank), rows, note));
        link.send(messages, Leg::Dispatch, 2);
        let (rows, notes): (Vec<_>, Vec<Vec<Fanned>>) =
            link.receive(neighbours(&link), Leg::Dispatch, 2).into_iter().unzip();

        let from_crossing: Vec<usize> =
            notes.iter().map(|senders| senders.iter().map(|sender| sender.rows).sum()).collect();
        let (index, experts) = arranged(&notes, here);
        let expert = Gather::new(index, from_crossing.iter().sum());
        let rows = link.wire.unpack(Rows::joined(rows), &expert.index, format);
        (
            Self {
                link,
                crossing,
                to_node,
                fan,
                from_node,
                to_rank,
                expert,
                from_crossing,
                experts,
            },
            rows,
        )
    }

    /// Carries one row a token, `[tokens, d]`, to the experts' rows: the way of the tokens again.
    fn spread(&self, x: Tensor<2>, leg: Leg) -> Tensor<2> {
        let (link, format) = (&self.link, self.link.group.formats.dispatch);
        let parcels = cut(link.wire.pack(x, &self.crossing.index, format), &self.to_node);
        link.send(
            parcels.into_iter().enumerate().map(|(node, rows)| (crossing_at(link, node), rows, ())),
            leg,
            1,
        );
        link.count_direct_rows(format);
        let crossed = joined(link.receive(crossings(link), leg, 1));
        let parcels = fan_out(crossed, &self.fan.index, &self.to_rank);
        link.send(
            parcels.into_iter().enumerate().map(|(rank, rows)| (in_node(link, rank), rows, ())),
            leg,
            2,
        );
        link.wire.unpack(joined(link.receive(neighbours(link), leg, 2)), &self.expert.index, format)
    }

    /// Sums the experts' rows back to one a token, `[tokens, d]`.
    fn sum(&self, rows: Tensor<2>, leg: Leg) -> Tensor<2> {
        let (link, format) = (&self.link, self.link.group.formats.combine);
        let here = link.wire.sum_values(rows, &self.expert.sums);
        let parcels = cut(link.wire.pack_all(here, format), &self.from_crossing);
        link.send(
            parcels.into_iter().enumerate().map(|(rank, rows)| (in_node(link, rank), rows, ())),
            leg,
            1,
        );
        link.count_direct_rows(format);
        let of_node =
            link.wire.sum(joined(link.receive(neighbours(link), leg, 1)), &self.fan.sums, format);
        let parcels = cut(link.wire.pack_all(of_node, format), &self.from_node);
        link.send(
            parcels.into_iter().enumerate().map(|(node, rows)| (crossing_at(link, node), rows, ())),
            leg,
            2,
        );
        link.wire.sum(joined(link.receive(crossings(link), leg, 2)), &self.crossing.sums, format)
    }

    /// The gate value of each row that the experts compute, `[rows here, 1]`, straight from the
    /// tokens' ranks, in FP32.
    fn gates(&self, weights: Tensor<2>) -> Tensor<2> {
        let link = self.link.clone();
        let plan = link.sent.plan();
        // Rows and slots are each other's permutation: the gradient goes the other way.
        let mut slot_of_row = vec![0; plan.rows()];
        for (slot, &row) in (0u32..).zip(plan.row_of_slot()) {
            slot_of_row[row as usize] = slot;
        }
        let slots = weights.reshape([plan.rows(), 1]);
        let wire = Wire { width: 1, ..link.wire.clone() };
        let (gates, arrived) = link.to_experts(
            &wire,
            slots.clone().inner_or_self(),
            &slot_of_row,
            WireFormat::F32,
            Leg::Gates,
        );
        ops::with_gradient(slots, gates, move |d| {
            let home = link.to_tokens(&wire, d, &arrived, WireFormat::F32, Leg::GatesBackward);
            wire.unpack(home, link.sent.row_of_slot(), WireFormat::F32)
        })
    }
}

impl Link {
    /// Counts what the direct route would send of this rank's rows, or send back to it.
    fn count_direct_rows(&self, format: WireFormat) {
        let bytes =
            self.rows_of_members().into_iter().map(|rows| rows * format.row_bytes(self.wire.width));
        self.count_direct(bytes.enumerate());
    }
}

/// The member of a node whose place in it is this rank's in its own.
fn crossing_at(link: &Link, node: usize) -> usize {
    node * link.group.members_a_node + link.group.index % link.group.members_a_node
}

/// The members whose tokens cross to this rank, and to which its own cross: one in each node.
fn crossings(link: &Link) -> impl Iterator<Item = usize> + Clone {
    (0..link.group.nodes()).map(move |node| crossing_at(link, node))
}

/// A member of this rank's node.
fn in_node(link: &Link, place: usize) -> usize {
    link.group.index / link.group.members_a_node * link.group.members_a_node + place
}

/// The members of this rank's node.
fn neighbours(link: &Link) -> impl Iterator<Item = usize> + Clone {
    (0..link.group.members_a_node).map(move |place| in_node(link, place))
}

fn joined(parcels: Vec<(Option<Rows>, ())>) -> Option<Rows> {
    Rows::joined(parcels.into_iter().map(|(rows, ())| rows))
}

/// The parcels of the ranks of a node.
fn fan_out(crossed: Option<Rows>, index: &[u32], to_rank: &[usize]) -> Vec<Option<Rows>> {
    cut(crossed.and_then(|rows| rows.select(index)), to_rank)
}

/// Which of the rows that have crossed, `from_node` of each node, fan out to each of `size` ranks
/// with `here` experts; how many to each; and what each is told of them, node by node.
fn fanned(
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

/// Which of the rows that have come, crossing by crossing and node by node, each computed row is,
/// and its expert: sorted by expert, then by sender, then by token, as the direct route has them.
/// Sender `node * size + place` came over crossing `place`.
fn arranged(notes: &[Vec<Fanned>], here: usize) -> (Vec<u32>, Vec<u32>) {
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
