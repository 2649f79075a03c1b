//! Experts on other ranks: the rows of a MoE layer sent to them and back, forward and backward
//! (3.2.2).
//!
//! Every row takes the same way, those for the rank's own experts too: whatever a row loses to its
//! format it loses wherever its expert is, so that the experts' results do not depend on how many
//! ranks share them. (Sums that are made on the way back, on the route of two hops, are rounded
//! once more for each hop; see [`super::route`].)

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};
use burn_deepseek::ops;
use burn_deepseek::ops::wire::{self, ArrivalPlan, WireFormat};

use super::post::{Leg, Post, Subject};
use super::route;
use super::token::ComputeToken;
use super::traffic::{Crosses, Traffic};
use super::wire::{Rows, Wire, WireFormats, identity, words_between};

/// The ranks that share the experts of their layers, as one of them sees it. Rank `i` of `n` has
/// the `i`-th `n`-th of the experts.
#[derive(Debug)]
pub struct ExpertParallelGroup {
    /// Where messages go.
    pub post: Arc<Post>,
    /// Number and device of each rank.
    pub members: Vec<(usize, Device)>,
    /// Which of them this is.
    pub index: usize,
    /// What rows travel in on their way to experts and, combined, back.
    pub formats: WireFormats,
    /// Consecutive members that are in one node; divides their number.
    pub members_a_node: usize,
    /// Where bytes are counted.
    pub traffic: Arc<Traffic>,
}

impl ExpertParallelGroup {
    /// Nodes that the members are in.
    pub(super) fn nodes(&self) -> usize {
        self.members.len() / self.members_a_node.max(1)
    }

    /// What a message between two members crosses.
    fn crosses(&self, from: usize, to: usize) -> Crosses {
        let node = |member: usize| member / self.members_a_node.max(1);
        match (from == to, node(from) == node(to)) {
            (true, _) => Crosses::Nothing,
            (_, true) => Crosses::Fast,
            _ => Crosses::Slow,
        }
    }
}

/// The exchanges of one micro-batch.
#[derive(Debug)]
pub struct ChunkExchange {
    group: Arc<ExpertParallelGroup>,
    micro_batch: usize,
    token: Option<Arc<ComputeToken>>,
}

impl ChunkExchange {
    /// The exchanges of a micro-batch; where two micro-batches overlap, `token` is given up while
    /// rows are in flight.
    pub fn new(
        group: Arc<ExpertParallelGroup>,
        micro_batch: usize,
        token: Option<Arc<ComputeToken>>,
    ) -> Self {
        Self { group, micro_batch, token }
    }
}

impl ExpertDispatch for ChunkExchange {
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, layer: usize) -> DispatchedRows {
        let link = Arc::new(Link {
            group: self.group.clone(),
            micro_batch: self.micro_batch,
            token: self.token.clone(),
            layer,
            wire: Wire {
                as_words: words_between(self.group.members.iter().map(|(_, device)| device)),
                width: x.dims()[1],
                device: x.device().inner(),
            },
            sent: groups.clone(),
        });
        if self.group.nodes() > 1 { route::dispatch(link, x) } else { direct(link, x) }
    }
}

/// A row for each expert of a token, straight to the expert's rank and straight back.
fn direct(link: Arc<Link>, x: Tensor<2>) -> DispatchedRows {
    let plan = link.sent.plan();
    let formats = link.group.formats;
    let (rows, arrived) = link.to_experts(
        &link.wire,
        x.clone().inner_or_self(),
        plan.token_of_row(),
        formats.dispatch,
        Leg::Dispatch,
    );
    let arrived = Arc::new(arrived);
    let experts = ExpertGroups::new(arrived.experts(), 1, link.experts_here());
    let (back, back_arrived) = (link.clone(), arrived.clone());
    let rows = ops::with_gradient(x, rows, move |dy| {
        let sums = wire::token_sums(&back.sent, &dy);
        let home =
            back.to_tokens(&back.wire, dy, &back_arrived, formats.combine, Leg::DispatchBackward);
        back.wire.sum(home, &sums, formats.combine)
    });
    let combine = move |results: Tensor<2>, weights: Tensor<2>| {
        let index = identity(link.sent.rows());
        let home = link.to_tokens(
            &link.wire,
            results.clone().inner_or_self(),
            &arrived,
            formats.combine,
            Leg::Combine,
        );
        let home = link.wire.unpack(home, &index, formats.combine);
        let sent = link.sent.clone();
        let home = ops::with_gradient(results, home, move |dz| {
            link.to_experts(&link.wire, dz, &index, formats.dispatch, Leg::CombineBackward).0
        });
        ops::combine(home, weights, &sent)
    };
    DispatchedRows { rows, groups: experts, combine: Box::new(combine) }
}

/// One layer's exchanges of one micro-batch.
pub(super) struct Link {
    pub group: Arc<ExpertParallelGroup>,
    micro_batch: usize,
    token: Option<Arc<ComputeToken>>,
    layer: usize,
    pub wire: Wire,
    pub sent: ExpertGroups,
}

/// Rows, and what the receiver must know of them.
struct Parcel<N> {
    rows: Option<Rows>,
    note: N,
}

impl Link {
    pub fn experts_here(&self) -> usize {
        self.sent.experts() / self.group.members.len()
    }

    /// Rows that this rank has for each member.
    pub fn rows_of_members(&self) -> Vec<usize> {
        let here = self.experts_here();
        let offsets = self.sent.offsets();
        (0..self.group.members.len())
            .map(|member| offsets[(member + 1) * here] - offsets[member * here])
            .collect()
    }

    /// Sends rows of x, one for each row of the plan, to whoever has the expert, and takes what
    /// arrives here, sorted by expert.
    pub fn to_experts(
        &self,
        wire: &Wire,
        x: Tensor<2>,
        index: &[u32],
        format: WireFormat,
        leg: Leg,
    ) -> (Tensor<2>, ArrivalPlan) {
        let here = self.experts_here();
        let counts = self.rows_of_members();
        let parcels = cut(wire.pack(x, index, format), &counts);
        let messages = parcels.into_iter().enumerate().map(|(member, rows)| {
            let offsets = &self.sent.offsets()[member * here..=(member + 1) * here];
            let note: Vec<u32> =
                offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect();
            (member, rows, note)
        });
        self.send(messages, leg, 1);
        let members = 0..self.group.members.len();
        if self.group.nodes() == 1 {
            self.count_direct(
                members
                    .clone()
                    .map(|member| (member, counts[member] * format.row_bytes(wire.width))),
            );
        }
        let (rows, counts): (Vec<_>, Vec<Vec<u32>>) =
            self.receive(members, leg, 1).into_iter().unzip();
        let arrived = ArrivalPlan::new(&counts).unwrap_or_else(|error| {
            unreachable!("invariant: ranks have equally many experts: {error}")
        });
        (wire.unpack(Rows::joined(rows), arrived.order(), format), arrived)
    }

    /// Sends rows, sorted by expert, back to whoever sent them, and takes what comes home, sorted
    /// as it was sent.
    pub fn to_tokens(
        &self,
        wire: &Wire,
        rows: Tensor<2>,
        arrived: &ArrivalPlan,
        format: WireFormat,
        leg: Leg,
    ) -> Option<Rows> {
        let parcels = cut(wire.pack(rows, &arrived.inverse(), format), arrived.of_sender());
        self.send(parcels.into_iter().enumerate().map(|(member, rows)| (member, rows, ())), leg, 1);
        if self.group.nodes() == 1 {
            let bytes =
                arrived.of_sender().iter().map(|count| count * format.row_bytes(wire.width));
            self.count_direct(bytes.enumerate());
        }
        Rows::joined(
            self.receive::<()>(0..self.group.members.len(), leg, 1)
                .into_iter()
                .map(|(rows, ())| rows),
        )
    }

    /// Counts what a direct route sends to members, or gets from them.
    pub fn count_direct(&self, bytes: impl Iterator<Item = (usize, usize)>) {
        for (member, bytes) in bytes {
            self.group.traffic.direct(self.group.crosses(self.group.index, member), bytes);
        }
    }

    /// Sends members their parcels.
    pub fn send<N: Send + 'static>(
        &self,
        parcels: impl Iterator<Item = (usize, Option<Rows>, N)>,
        leg: Leg,
        hop: u8,
    ) {
        let (me, _) = self.group.members[self.group.index];
        for (member, rows, note) in parcels {
            let (rank, device) = &self.group.members[member];
            let rows = rows.map(|rows| rows.to_device(device));
            let bytes = rows.as_ref().map_or(0, Rows::bytes);
            self.group.traffic.sent(self.group.crosses(self.group.index, member), bytes);
            self.group.post.send(me, *rank, self.subject(leg, hop), Parcel { rows, note });
        }
    }

    /// One parcel of each of some members, in their order. A failure unwinds: it may come in the
    /// middle of a backward pass, which has no way to return it; the rank's thread catches it.
    pub fn receive<N: Send + 'static>(
        &self,
        members: impl Iterator<Item = usize> + Clone,
        leg: Leg,
        hop: u8,
    ) -> Vec<(Option<Rows>, N)> {
        let (me, _) = self.group.members[self.group.index];
        let receive = || {
            let parcels = members.clone().map(|member| {
                let (rank, _) = self.group.members[member];
                self.group
                    .post
                    .receive::<Parcel<N>>(rank, me, self.subject(leg, hop))
                    .map(|parcel| (parcel.rows, parcel.note))
            });
            parcels.collect::<Result<Vec<_>, _>>()
        };
        let parcels = match &self.token {
            Some(token) => token.given_up(receive),
            None => receive(),
        };
        parcels.unwrap_or_else(|error| std::panic::panic_any(error))
    }

    fn subject(&self, leg: Leg, hop: u8) -> Subject {
        Subject::Experts { micro_batch: self.micro_batch, layer: self.layer, leg, hop }
    }
}

/// Consecutive runs of rows, all of them none where there are no rows.
pub(super) fn cut(rows: Option<Rows>, counts: &[usize]) -> Vec<Option<Rows>> {
    rows.map_or_else(|| vec![None; counts.len()], |rows| rows.cut(counts.iter().copied()))
}

/// A tensor without autodiff, whether it had it or not.
pub(super) trait WithoutAutodiff {
    fn inner_or_self(self) -> Self;
}

impl WithoutAutodiff for Tensor<2> {
    fn inner_or_self(self) -> Self {
        if self.is_autodiff() { self.inner() } else { self }
    }
}
