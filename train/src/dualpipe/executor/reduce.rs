//! From the gradients of micro-batches to new weights: sums over the ranks that hold a parameter,
//! the update at its owner, and its new value back to the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Result;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_deepseek::moe::update_biases;
use burn_deepseek::{ModelPart, ops};

use super::rank::Rank;
use super::shards::{Shard, Shards, flat_values};
use crate::learner::{LayerLoad, Moments};
use crate::parallel::Subject;

/// What an update needs beside the gradients.
#[derive(Clone, Debug)]
pub(super) struct UpdateJob {
    pub shards: Arc<Shards>,
    /// Global norm of the gradients, those of the loss itself.
    pub norm: f64,
    /// How many times too large the gradients are.
    pub scale: f64,
    pub lr: f64,
    /// Loads of the whole global batch.
    pub loads: Arc<Vec<LayerLoad>>,
    /// gamma.
    pub bias_update_speed: f64,
}

/// A shard as its owner has it.
#[derive(Debug)]
pub(super) struct Owned {
    pub index: usize,
    /// Flat.
    pub value: Tensor<1>,
    pub moments: Option<Moments>,
}

impl Rank {
    /// Sums the gradients of the shards that this rank owns, and gives the sum of squares of each.
    pub fn reduce(&mut self, shards: &Shards) -> Result<Vec<(usize, f64)>> {
        let rank = self.place.rank;
        let mut flat = std::mem::take(&mut self.gradients);
        for shard in shards.held_by(rank).filter(|shard| shard.owner != rank) {
            let gradient = flat
                .remove(&shard.id)
                .map(|gradient| ops::moved(gradient, &self.devices[shard.owner]));
            self.post.send(rank, shard.owner, Subject::ParameterGradient(shard.index), gradient);
        }
        let (mut indices, mut sums) = (Vec::new(), Vec::new());
        for shard in shards.held_by(rank).filter(|shard| shard.owner == rank) {
            if let Some(sum) = self.summed(shard, flat.remove(&shard.id))? {
                indices.push(shard.index);
                sums.push(sum.clone());
                self.gradients.insert(shard.id, sum);
            }
        }
        Ok(indices.into_iter().zip(ops::sums_of_squares(sums)).collect())
    }

    /// The gradients of all holders, in the order of their ranks.
    fn summed(&self, shard: &Shard, own: Option<Tensor<1>>) -> Result<Option<Tensor<1>>> {
        let (rank, mut own) = (self.place.rank, own);
        let mut sum: Option<Tensor<1>> = None;
        for &holder in &shard.holders {
            let gradient = match holder == rank {
                true => own.take(),
                false => self.post.receive::<Option<Tensor<1>>>(
                    holder,
                    rank,
                    Subject::ParameterGradient(shard.index),
                )?,
            };
            sum = match (sum, gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
        Ok(sum)
    }

    /// Updates what this rank owns, brings the rest up to date, and moves the balance biases.
    pub fn update(&mut self, job: &UpdateJob) -> Result<()> {
        let rank = self.place.rank;
        let updated: HashSet<ParamId> = self.gradients.keys().copied().collect();
        let mut shaped =
            Shaped { flat: std::mem::take(&mut self.gradients), grads: GradientsParams::new() };
        self.part.visit(&mut shaped);
        let grads = shaped.grads;
        self.part =
            self.optimizer.update_by_norm(self.part.clone(), grads, job.norm, job.scale, job.lr);

        let mut values = flat_values(&self.part);
        for shard in job.shards.held_by(rank).filter(|shard| shard.owner == rank) {
            let value = values.get(&shard.id).filter(|_| updated.contains(&shard.id));
            for &holder in shard.holders.iter().filter(|&&holder| holder != rank) {
                let value = value.map(|value| ops::moved(value.clone(), &self.devices[holder]));
                self.post.send(rank, holder, Subject::Parameter(shard.index), value);
            }
        }
        values.clear();
        for shard in job.shards.held_by(rank).filter(|shard| shard.owner != rank) {
            if let Some(value) = self.post.receive::<Option<Tensor<1>>>(
                shard.owner,
                rank,
                Subject::Parameter(shard.index),
            )? {
                values.insert(shard.id, value);
            }
        }
        self.part = self.part.clone().map(&mut Replaced(values));
        let loads_of = |layer| {
            job.loads.iter().find(|load| load.layer == layer).map(|load| load.loads.as_slice())
        };
        update_biases(self.part.routers_mut(), loads_of, job.bias_update_speed);
        self.compute = self.compute.next_step();
        Ok(())
    }

    /// The shards that this rank owns, with their moments, on a device: copied by the rank's own
    /// thread, since its device may fail.
    pub fn owned(&self, shards: &Shards, device: &Device) -> Vec<Owned> {
        let mut values = flat_values(&self.part);
        let owned = shards.held_by(self.place.rank).filter(|shard| shard.owner == self.place.rank);
        let owned = owned.map(|shard| Owned {
            index: shard.index,
            value: values.remove(&shard.id).expect("invariant: a holder holds").to_device(device),
            moments: self.optimizer.moments().get(&shard.id).map(|moments| Moments {
                first: moments.first.clone().to_device(device),
                second: moments.second.clone().to_device(device),
            }),
        });
        owned.collect()
    }
}

/// The gradients of a part, by parameter, flat.
pub(super) fn flat_gradients(
    part: &ModelPart,
    grads: GradientsParams,
) -> HashMap<ParamId, Tensor<1>> {
    struct Flattened {
        grads: GradientsParams,
        flat: HashMap<ParamId, Tensor<1>>,
    }
    impl ModuleVisitor for Flattened {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.grads.remove::<D>(param.id) {
                let count = gradient.shape().num_elements();
                self.flat.insert(param.id, gradient.reshape([count]));
            }
        }
    }
    let mut flattened = Flattened { grads, flat: HashMap::new() };
    part.visit(&mut flattened);
    flattened.flat
}

/// Flat gradients in the shapes of their parameters.
struct Shaped {
    flat: HashMap<ParamId, Tensor<1>>,
    grads: GradientsParams,
}

impl ModuleVisitor for Shaped {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.flat.remove(&param.id) {
            self.grads.register::<D>(param.id, gradient.reshape(param.val().dims()));
        }
    }
}

/// New values for some parameters, flat.
pub(super) struct Replaced(pub HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Replaced {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id) {
            Some(value) => param.map(|old| value.reshape(old.dims())),
            None => param,
        }
    }
}
