//! A rank: the part of the model that one device has, and what it knows of the others.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::ParamId;
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, ModelPart, Stage, ops};

use super::flat::flat_values;
use super::routings::{Chosen, taken};
use super::shards::{Shard, Shards};
use crate::data::{TokenBatch, TrainWindows};
use crate::learner::{AdamW, EngineSettings};
use crate::parallel::{ExpertParallelGroup, Place, Post, Processes, TrafficCounter};

/// What the names of ranks' threads begin with.
pub(super) const THREAD: &str = "rank ";

/// One rank, owned by its thread.
#[derive(Debug)]
pub(super) struct Rank {
    pub place: Place,
    pub device: Device,
    /// Stages of the whole pipeline.
    pub stages: Arc<Vec<Stage>>,
    /// The layers and ends that are here, without autodiff.
    pub part: ModelPart,
    pub compute: Compute,
    pub settings: EngineSettings,
    /// State of the parameters that the rank owns.
    pub optimizer: AdamW,
    /// The average of the parameters that the rank owns, flat, in host memory; empty where none is
    /// kept, or somebody else keeps it.
    pub average: HashMap<ParamId, Tensor<1>>,
    /// Gradients of the step, flat.
    pub gradients: HashMap<ParamId, Tensor<1>>,
    pub post: Arc<Post>,
    /// By whose calls gradients become sums; none where their owners add them.
    pub collective: Option<Arc<Processes>>,
    /// Whether the library has been told of the groups that make those calls.
    pub grouped: bool,
    /// Who holds and owns which parameter.
    pub shards: Arc<Shards>,
    /// Device of every rank.
    pub devices: Arc<Vec<Device>>,
    /// Number of the first rank of this rank's pipeline.
    pub first_rank: usize,
    /// Whom experts are shared with; none where all are here.
    pub experts: Option<Arc<ExpertParallelGroup>>,
    /// Where the bytes of its exchanges are counted, where no other rank's are.
    pub own_traffic: Option<Arc<TrafficCounter>>,
    /// The text, where it reads its own windows.
    pub text: Option<TrainWindows>,
}

impl Rank {
    /// What its routers chose for a pipeline's micro-batches, where rank 0, who asked, is in another
    /// process.
    pub fn chosen(&self, batches: &[TokenBatch]) -> Vec<Chosen> {
        if self.own_traffic.is_some() { taken(batches) } else { Vec::new() }
    }

    /// Begins an average with the parameters that the rank owns, as a part of the model has them.
    pub fn begin_average(&mut self, from: &ModelPart) {
        let mut values = flat_values(from);
        let owned = self.shards.owned_by(self.place.rank);
        let value = |shard: &Shard| Some((shard.id, values.remove(&shard.id)?));
        let host = Device::flex();
        self.average =
            owned.filter_map(value).map(|(id, value)| (id, value.to_device(&host))).collect();
    }

    /// Moves the average towards the weights.
    pub fn approach(&mut self, rate: f64) {
        let mut values = flat_values(&self.part);
        for (id, average) in &mut self.average {
            let value = values.remove(id).expect("invariant: an owner holds");
            let nothing = Tensor::zeros([0], &average.device());
            let before = std::mem::replace(average, nothing); // nobody else holds it then
            *average = ops::average_into(before, value, rate);
        }
    }

    /// The rank's part, of which nothing is left behind: nobody else holds it then, and it can be
    /// changed in place. It is to be put back.
    pub fn take_part(&mut self) -> ModelPart {
        let nothing = self.part.stage(&Stage { layers: 0..0, begins: false, ends: false });
        std::mem::replace(&mut self.part, nothing)
    }
}
