//! What ranks are asked to do, all of them at the same time: a step, the sums of its gradients, the
//! update, and to give what they own.

use burn::tensor::Device;

use super::gather::Owned;
use super::portion::Portion;
use super::rank::Rank;
use super::reduce::{RankUpdate, UpdateJob};
use super::step::{RankReport, StepJob};
use crate::failure::Result;
use crate::parallel::{Packed, Unpacking};

/// Something that every rank does.
pub(super) trait Task: Packed + Clone + Send + Sync + 'static {
    /// The number by which another process knows it.
    const NUMBER: u8;

    /// What comes of it.
    type Done: Packed + Send + 'static;

    /// Has a rank do it.
    fn carry_out(&self, rank: &mut Rank) -> Result<Self::Done>;

    /// What a rank needs to be told of it.
    fn for_rank(&self, _rank: usize) -> Self {
        self.clone()
    }
}

impl Task for StepJob {
    const NUMBER: u8 = 1;
    type Done = RankReport;

    fn carry_out(&self, rank: &mut Rank) -> Result<RankReport> {
        rank.run(self)
    }

    fn for_rank(&self, rank: usize) -> Self {
        self.of_pipeline(rank / self.schedule.ranks)
    }
}

/// Sums the gradients of the shards that the rank owns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reduce;

impl Task for Reduce {
    const NUMBER: u8 = 2;
    type Done = Vec<(usize, f64)>;

    fn carry_out(&self, rank: &mut Rank) -> Result<Self::Done> {
        rank.reduce()
    }
}

impl Packed for Reduce {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut Unpacking) -> Option<Self> {
        Some(Self)
    }
}

impl Task for UpdateJob {
    const NUMBER: u8 = 3;
    type Done = RankUpdate;

    fn carry_out(&self, rank: &mut Rank) -> Result<RankUpdate> {
        rank.update(self)
    }
}

/// Gives the shards that the rank owns, on a device; in another process that is the rank's own, and
/// they come to this one packed.
#[derive(Clone, Debug)]
pub(super) struct Gather(pub Device);

impl Task for Gather {
    const NUMBER: u8 = 4;
    type Done = Vec<Owned>;

    fn carry_out(&self, rank: &mut Rank) -> Result<Vec<Owned>> {
        Ok(rank.owned(&self.0))
    }
}

impl Packed for Gather {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        Some(Self(from.device().clone()))
    }
}

/// Takes the weights and moments that the rank begins with.
#[derive(Clone, Debug)]
pub(super) struct Begin(pub Portion);

impl Task for Begin {
    const NUMBER: u8 = 5;
    type Done = ();

    fn carry_out(&self, rank: &mut Rank) -> Result<()> {
        rank.begin(&self.0);
        Ok(())
    }
}

impl Packed for Begin {
    fn pack(&self, into: &mut Vec<u8>) {
        self.0.pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        Portion::unpack(from).map(Self)
    }
}
