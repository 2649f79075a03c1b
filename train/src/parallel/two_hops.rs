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

use super::crossing::{Crossing, Fanned, arranged, fanned};
use super::layer_exchange::{LayerExchange, in_parcels, without_autodiff};
use super::subject::Leg;
use super::wire::{Rows, Wire};

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
    exchange: Arc<LayerExchange>,
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
    /// The expert of each computed row.
    experts: Vec<u32>,
}

/// Sends each token to its experts in two hops.
pub(super) fn dispatch(exchange: Arc<LayerExchange>, x: Tensor<2>) -> DispatchedRows {
    let (route, rows) = Route::open(exchange, without_autodiff(x.clone()));
    let route = Arc::new(route);
    let experts = ExpertGroups::new(&route.experts, 1, route.exchange.experts_here());
    let back = route.clone();
    let rows = ops::with_gradient(x, rows, move |dy| back.sum(dy, Leg::DispatchBackward));
    let combine = move |results: Tensor<2>, weights: Tensor<2>| {
        let gates = route.gates(weights);
        let weighted = results * gates;
        let sums = route.sum(without_autodiff(weighted.clone()), Leg::Combine);
        ops::with_gradient(weighted, sums, move |dout| route.spread(dout, Leg::CombineBackward))
    };
    DispatchedRows { rows, groups: experts, combine: Box::new(combine) }
}

impl Route {
    /// Carries x to the experts, and finds out the way as it goes.
    fn open(exchange: Arc<LayerExchange>, x: Tensor<2>) -> (Self, Tensor<2>) {
        const ROUTE: &str = "invariant: nodes divide the experts";
        let group = exchange.group.clone();
        let (nodes, size) = (group.nodes(), group.members_a_node);
        let (plan, format) = (exchange.sent.plan(), group.formats.dispatch);
        let here = exchange.experts_here();

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
        let parcels = in_parcels(exchange.wire.pack(x, &crossing.index, format), &to_node);
        let messages = crossings(&exchange)
            .zip(parcels)
            .zip(notes)
            .map(|((member, rows), note)| (member, rows, note));
        exchange.send(messages, Leg::Dispatch, 1);
        exchange.count_direct_rows(format);
        let (rows, notes): (Vec<_>, Vec<Crossing>) =
            exchange.receive(crossings(&exchange), Leg::Dispatch, 1).into_iter().unzip();

        // Inside: each row once to each rank that has an expert of its token.
        let from_node: Vec<usize> =
            rows.iter().map(|rows| rows.as_ref().map_or(0, Rows::count)).collect();
        let (index, to_rank, notes) = fanned(&notes, &from_node, size, here);
        let fan = Gather::new(index, from_node.iter().sum());
        let parcels = fan_out(Rows::joined(rows), &fan.index, &to_rank);
        let messages = neighbours(&exchange)
            .zip(parcels)
            .zip(notes)
            .map(|((member, rows), note)| (member, rows, note));
        exchange.send(messages, Leg::Dispatch, 2);
        let (rows, notes): (Vec<_>, Vec<Vec<Fanned>>) =
            exchange.receive(neighbours(&exchange), Leg::Dispatch, 2).into_iter().unzip();

        let from_crossing: Vec<usize> =
            notes.iter().map(|senders| senders.iter().map(|sender| sender.rows).sum()).collect();
        let (index, experts) = arranged(&notes, here);
        let expert = Gather::new(index, from_crossing.iter().sum());
        let rows = exchange.wire.unpack(Rows::joined(rows), &expert.index, format);
        (
            Self {
                exchange,
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
        let (exchange, format) = (&self.exchange, self.exchange.group.formats.dispatch);
        let parcels =
            in_parcels(exchange.wire.pack(x, &self.crossing.index, format), &self.to_node);
        exchange.send_rows(crossings(exchange), parcels, leg, 1);
        exchange.count_direct_rows(format);
        let crossed = exchange.receive_rows(crossings(exchange), leg, 1);
        let parcels = fan_out(crossed, &self.fan.index, &self.to_rank);
        exchange.send_rows(neighbours(exchange), parcels, leg, 2);
        exchange.wire.unpack(
            exchange.receive_rows(neighbours(exchange), leg, 2),
            &self.expert.index,
            format,
        )
    }

    /// Sums the experts' rows back to one a token, `[tokens, d]`.
    fn sum(&self, rows: Tensor<2>, leg: Leg) -> Tensor<2> {
        let (exchange, format) = (&self.exchange, self.exchange.group.formats.combine);
        let here = exchange.wire.sum_values(rows, &self.expert.sums);
        let parcels = in_parcels(exchange.wire.pack_all(here, format), &self.from_crossing);
        exchange.send_rows(neighbours(exchange), parcels, leg, 1);
        exchange.count_direct_rows(format);
        let of_node = exchange.wire.sum(
            exchange.receive_rows(neighbours(exchange), leg, 1),
            &self.fan.sums,
            format,
        );
        let parcels = in_parcels(exchange.wire.pack_all(of_node, format), &self.from_node);
        exchange.send_rows(crossings(exchange), parcels, leg, 2);
        exchange.wire.sum(
            exchange.receive_rows(crossings(exchange), leg, 2),
            &self.crossing.sums,
            format,
        )
    }

    /// The gate value of each row that the experts compute, `[rows here, 1]`, straight from the
    /// tokens' ranks, in FP32.
    fn gates(&self, weights: Tensor<2>) -> Tensor<2> {
        let exchange = self.exchange.clone();
        let plan = exchange.sent.plan();
        // Rows and slots are each other's permutation: the gradient goes the other way.
        let mut slot_of_row = vec![0; plan.rows()];
        for (slot, &row) in (0u32..).zip(plan.row_of_slot()) {
            slot_of_row[row as usize] = slot;
        }
        let slots = weights.reshape([plan.rows(), 1]);
        let wire = Wire { width: 1, ..exchange.wire.clone() };
        let (gates, arrived) = exchange.to_experts(
            &wire,
            without_autodiff(slots.clone()),
            &slot_of_row,
            WireFormat::F32,
            Leg::Gates,
        );
        ops::with_gradient(slots, gates, move |d| {
            let home = exchange.to_tokens(&wire, d, &arrived, WireFormat::F32, Leg::GatesBackward);
            wire.unpack(home, exchange.sent.row_of_slot(), WireFormat::F32)
        })
    }
}

/// The member of a node whose place in it is this rank's in its own.
fn crossing_at(exchange: &LayerExchange, node: usize) -> usize {
    node * exchange.group.members_a_node + exchange.group.index % exchange.group.members_a_node
}

/// The members whose tokens cross to this rank, and to which its own cross: one in each node.
fn crossings(exchange: &LayerExchange) -> impl Iterator<Item = usize> + Clone {
    (0..exchange.group.nodes()).map(move |node| crossing_at(exchange, node))
}

/// A member of this rank's node.
fn in_node(exchange: &LayerExchange, place: usize) -> usize {
    exchange.group.index / exchange.group.members_a_node * exchange.group.members_a_node + place
}

/// The members of this rank's node.
fn neighbours(exchange: &LayerExchange) -> impl Iterator<Item = usize> + Clone {
    (0..exchange.group.members_a_node).map(move |place| in_node(exchange, place))
}

/// The parcels of the ranks of a node.
fn fan_out(crossed: Option<Rows>, index: &[u32], to_rank: &[usize]) -> Vec<Option<Rows>> {
    in_parcels(crossed.and_then(|rows| rows.select(index)), to_rank)
}
