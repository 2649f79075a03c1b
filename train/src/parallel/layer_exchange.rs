//! One layer's exchanges of one micro-batch: rows sent to the members of an expert-parallel group,
//! and rows that come from them.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use burn_deepseek::definition::ExpertGroups;
use burn_deepseek::ops::wire::{ArrivalPlan, WireFormat};

use super::contents::{Contents, Reading};
use super::group::ExpertParallelGroup;
use super::message::{Message, PostError};
use super::packed::Packed;
use super::subject::{Leg, Subject};
use super::wire::{Rows, Wire};

/// One layer's exchanges of one micro-batch.
pub(super) struct LayerExchange {
    pub group: Arc<ExpertParallelGroup>,
    pub micro_batch: usize,
    pub layer: usize,
    pub wire: Wire,
    /// The expert that each of this rank's rows is for.
    pub sent: ExpertGroups,
}

/// Rows, and what the receiver must know of them.
struct Parcel<N> {
    rows: Option<Rows>,
    note: N,
}

impl<N: Packed + Send + 'static> Message for Parcel<N> {
    fn bytes(&self) -> u64 {
        self.rows.as_ref().map_or(0, Rows::bytes) as u64
    }

    fn moved(self, device: &Device) -> Self {
        Self { rows: self.rows.map(|rows| rows.to_device(device)), ..self }
    }

    fn write(self, into: &mut Contents) {
        let Self { rows, note } = self;
        note.pack(&mut into.head);
        rows.is_some().pack(&mut into.head);
        if let Some(rows) = rows {
            rows.write(into);
        }
    }

    fn read(from: &mut Reading) -> Option<Self> {
        let note = N::unpack(&mut from.head)?;
        let rows = match bool::unpack(&mut from.head)? {
            true => Some(Rows::read(from)?),
            false => None,
        };
        Some(Self { rows, note })
    }
}

impl LayerExchange {
    /// The number of experts of the layer that this rank has.
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
        let parcels = in_parcels(wire.pack(x, index, format), &counts);
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
        let parcels = in_parcels(wire.pack(rows, &arrived.inverse(), format), arrived.of_sender());
        self.send_rows(0..self.group.members.len(), parcels, leg, 1);
        if self.group.nodes() == 1 {
            let bytes =
                arrived.of_sender().iter().map(|count| count * format.row_bytes(wire.width));
            self.count_direct(bytes.enumerate());
        }
        self.receive_rows(0..self.group.members.len(), leg, 1)
    }

    /// Counts what the direct route would send of this rank's rows, or send back to it.
    pub fn count_direct_rows(&self, format: WireFormat) {
        let bytes =
            self.rows_of_members().into_iter().map(|rows| rows * format.row_bytes(self.wire.width));
        self.count_direct(bytes.enumerate());
    }

    /// Counts what a direct route sends to members, or gets from them.
    pub fn count_direct(&self, bytes: impl Iterator<Item = (usize, usize)>) {
        for (member, bytes) in bytes {
            self.group.traffic.direct(self.group.crosses(self.group.index, member), bytes);
        }
    }

    /// Sends members their parcels.
    pub fn send<N: Packed + Send + 'static>(
        &self,
        parcels: impl Iterator<Item = (usize, Option<Rows>, N)>,
        leg: Leg,
        hop: u8,
    ) {
        let (me, _) = self.group.members[self.group.index];
        for (member, rows, note) in parcels {
            let (rank, device) = &self.group.members[member];
            let bytes = rows.as_ref().map_or(0, Rows::bytes);
            self.group.traffic.sent(self.group.crosses(self.group.index, member), bytes);
            let parcel = Parcel { rows, note };
            self.group.post.send(me, *rank, self.subject(leg, hop), parcel, device);
        }
    }

    /// One parcel of each of some members, in their order. A failure unwinds: it may come in the
    /// middle of a backward pass, which has no way to return it; the rank's thread catches it.
    pub fn receive<N: Packed + Send + 'static>(
        &self,
        members: impl Iterator<Item = usize> + Clone,
        leg: Leg,
        hop: u8,
    ) -> Vec<(Option<Rows>, N)> {
        let (me, device) = &self.group.members[self.group.index];
        let post = &self.group.post;
        let mut waited = Duration::ZERO;
        let receive = || {
            let parcels = members.clone().map(|member| {
                let (rank, _) = self.group.members[member];
                let subject = self.subject(leg, hop);
                let (parcel, time) = post.receive_timed::<Parcel<N>>(rank, *me, subject, device)?;
                waited += time;
                Ok((parcel.rows, parcel.note))
            });
            parcels.collect::<Result<Vec<_>, PostError>>()
        };
        let (parcels, meanwhile) = self.group.token.given_up(receive);
        // What has come is unpacked before the token is taken again: not a part of the wait.
        post.note_hidden(*me, meanwhile.min(waited));
        parcels.unwrap_or_else(|error| std::panic::panic_any(error))
    }

    /// Sends some members a parcel each, rows alone.
    pub fn send_rows(
        &self,
        members: impl Iterator<Item = usize>,
        parcels: Vec<Option<Rows>>,
        leg: Leg,
        hop: u8,
    ) {
        self.send(members.zip(parcels).map(|(member, rows)| (member, rows, ())), leg, hop);
    }

    /// The rows of one parcel of each of some members, in their order.
    pub fn receive_rows(
        &self,
        members: impl Iterator<Item = usize> + Clone,
        leg: Leg,
        hop: u8,
    ) -> Option<Rows> {
        Rows::joined(self.receive::<()>(members, leg, hop).into_iter().map(|(rows, ())| rows))
    }

    fn subject(&self, leg: Leg, hop: u8) -> Subject {
        Subject::Experts { micro_batch: self.micro_batch, layer: self.layer, leg, hop }
    }
}

/// Rows in parcels of so many each; all parcels are empty where there are no rows.
pub(super) fn in_parcels(rows: Option<Rows>, counts: &[usize]) -> Vec<Option<Rows>> {
    rows.map_or_else(|| vec![None; counts.len()], |rows| rows.cut(counts.iter().copied()))
}

/// A tensor without autodiff, whether it had it or not.
pub(super) fn without_autodiff(x: Tensor<2>) -> Tensor<2> {
    if x.is_autodiff() { x.inner() } else { x }
}
