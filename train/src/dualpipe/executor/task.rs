//! What ranks are asked to do, all of them at the same time: a step, the sums of its gradients, the
//! update, and to give what they own.

use std::ops::Range;

use burn::tensor::Device;

use super::evaluate::{Evaluated, EvaluationJob};
use super::gather::Owned;
use super::rank::Rank;
use super::reduce::{RankUpdate, UpdateJob};
use super::step::{RankReport, StepJob};
use super::write::WriteJob;
use crate::failure::Result;
use crate::parallel::{Packed, Unpacking, packed};
use crate::peak_memory::peak_bytes;

/// Something that every rank does.
pub(super) trait Task: Packed + Clone + Send + Sync + 'static {
    /// The number by which another process knows it.
    const NUMBER: u8;

    /// What comes of it.
    type Done: Packed + Send + 'static;

    /// Has a rank do it.
    fn carry_out(&self, rank: &mut Rank) -> Result<Self::Done>;

    /// What there is to say of it in the log of a rank that has done it.
    fn said(&self, _done: &Self::Done) -> Option<String> {
        None
    }

    /// What a rank needs to be told of it.
    fn for_rank(&self, _rank: usize) -> Self {
        self.clone()
    }
}

impl Task for StepJob {
    const NUMBER: u8 = 1;
    type Done = RankReport;

    fn carry_out(&self, rank: &mut Rank) -> Result<RankReport> {
        match rank.read(self)? {
            Some(read) => rank.run(&read),
            None => rank.run(self),
        }
    }

    fn said(&self, done: &RankReport) -> Option<String> {
        Some(done.describe())
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

    fn said(&self, done: &RankUpdate) -> Option<String> {
        Some(format!("an update: {} bytes sent", done.sent_bytes))
    }
}

/// Gives some of the shards that the rank owns, on a device, with their moments where they are
/// wanted; in another process the device is the rank's own, and they come to this one packed.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    pub device: Device,
    pub moments: bool,
    /// The places of the shards.
    pub shards: Range<usize>,
}

impl Task for Gather {
    const NUMBER: u8 = 4;
    type Done = Vec<Owned>;

    fn carry_out(&self, rank: &mut Rank) -> Result<Vec<Owned>> {
        Ok(rank.owned(self))
    }
}

impl Packed for Gather {
    fn pack(&self, into: &mut Vec<u8>) {
        self.moments.pack(into);
        (self.shards.start, self.shards.end).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (moments, (start, end)) = Packed::unpack(from)?;
        Some(Self { moments, shards: start..end, device: from.device().clone() })
    }
}

/// Says which of the shards that the rank owns have moments, by their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithMoments;

impl Task for WithMoments {
    const NUMBER: u8 = 5;
    type Done = Vec<usize>;

    fn carry_out(&self, rank: &mut Rank) -> Result<Vec<usize>> {
        Ok(rank.with_moments())
    }
}

impl Packed for WithMoments {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut Unpacking) -> Option<Self> {
        Some(Self)
    }
}

impl Task for WriteJob {
    const NUMBER: u8 = 6;
    type Done = u64;

    fn carry_out(&self, rank: &mut Rank) -> Result<u64> {
        rank.write(self)
    }

    fn said(&self, bytes: &u64) -> Option<String> {
        Some(format!("wrote {bytes} bytes of a checkpoint, in {}", self.folder))
    }
}

/// Says the most memory that the rank's process has had, in bytes, where the system says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak;

impl Task for Peak {
    const NUMBER: u8 = 7;
    type Done = Option<u64>;

    fn carry_out(&self, _: &mut Rank) -> Result<Option<u64>> {
        Ok(peak_bytes())
    }

    fn said(&self, bytes: &Option<u64>) -> Option<String> {
        bytes.map(|bytes| format!("at most {bytes} bytes of memory"))
    }
}

impl Packed for Peak {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut Unpacking) -> Option<Self> {
        Some(Self)
    }
}

impl Task for EvaluationJob {
    const NUMBER: u8 = 8;
    type Done = Evaluated;

    fn carry_out(&self, rank: &mut Rank) -> Result<Self::Done> {
        rank.evaluate(self)
    }

    fn said(&self, done: &Self::Done) -> Option<String> {
        Some(format!("an evaluation: {} passes", done.stages.len()))
    }

    fn for_rank(&self, rank: usize) -> Self {
        Self::for_rank(self, rank)
    }
}

/// Gives the balance bias of each router that the rank has, with the index of its layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Biases;

impl Task for Biases {
    const NUMBER: u8 = 9;
    type Done = Vec<(usize, Vec<f32>)>;

    fn carry_out(&self, rank: &mut Rank) -> Result<Self::Done> {
        Ok(rank.part.routers_mut().map(|(layer, router)| (layer, router.bias())).collect())
    }
}

impl Packed for Biases {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut Unpacking) -> Option<Self> {
        Some(Self)
    }
}

/// Moves the average that the rank keeps towards the weights that it owns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Approach {
    pub rate: f64,
}

packed!(Approach { rate });

impl Task for Approach {
    const NUMBER: u8 = 10;
    type Done = ();

    fn carry_out(&self, rank: &mut Rank) -> Result<()> {
        rank.approach(self.rate);
        Ok(())
    }
}
