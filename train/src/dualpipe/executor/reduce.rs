//! From the gradients of micro-batches to new weights: sums over the ranks that hold a parameter,
//! the update at its owner, and its new value back to the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use burn::module::ParamId;
use burn::tensor::Tensor;
use burn_deepseek::moe::update_biases;
use burn_deepseek::ops;

use super::flat::{flat_values, replaced, shaped_gradients};
use super::rank::Rank;
use super::shards::Shard;
use crate::failure::Result;
use crate::learner::LayerLoad;
use crate::parallel::Subject;

/// What an update needs beside the gradients.
#[derive(Clone, Debug)]
pub(super) struct UpdateJob {
    /// Global norm of the gradients, those of the loss itself.
    pub norm: f64,
    /// How many times too large the gradients are.
    pub scale: f64,
    pub lr: f64,
    /// Loads of the whole global batch.
    pub loads: Arc<Vec<LayerLoad>>,
    /// gamma.
    pub bias_update_speed: f64,
    /// Whether the sums of squares of the parameters are wanted.
    pub detailed: bool,
}

/// What a rank's update came to.
#[derive(Debug)]
pub(super) struct RankUpdate {
    /// The sum of squares of each shard that it owns, by its place, where they are wanted.
    pub squares: Vec<(usize, f64)>,
    /// Bytes of gradients and parameters that it sent to others.
    pub sent_bytes: u64,
}

impl Rank {
    /// Sums the gradients of the shards that this rank owns, and gives the sum of squares of each.
    pub fn reduce(&mut self) -> Result<Vec<(usize, f64)>> {
        let rank = self.place.rank;
        let shards = self.shards.clone();
        let mut flat = std::mem::take(&mut self.gradients);
        if let Some(processes) = self.collective.clone() {
            self.group_once(&processes);
            self.gradients = self.summed_together(&processes, flat)?;
            return Ok(self.squares());
        }
        for shard in shards.held_by(rank).filter(|shard| shard.owner != rank) {
            let subject = Subject::ParameterGradient(shard.index);
            let device = &self.devices[shard.owner];
            self.post.send(rank, shard.owner, subject, flat.remove(&shard.id), device);
        }
        for shard in shards.owned_by(rank) {
            if let Some(sum) = self.summed(shard, flat.remove(&shard.id))? {
                self.gradients.insert(shard.id, sum);
            }
        }
        Ok(self.squares())
    }

    /// The sum of squares of each gradient that this rank has the sum of, by its shard's place.
    fn squares(&self) -> Vec<(usize, f64)> {
        let owned = self.shards.owned_by(self.place.rank);
        let (indices, sums): (Vec<usize>, Vec<_>) = owned
            .filter_map(|shard| Some((shard.index, self.gradients.get(&shard.id)?.clone())))
            .unzip();
        indices.into_iter().zip(ops::sums_of_squares(sums)).collect()
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
                    &self.device,
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
    pub fn update(&mut self, job: &UpdateJob) -> Result<RankUpdate> {
        let rank = self.place.rank;
        let updated: HashSet<ParamId> = self.gradients.keys().copied().collect();
        let grads = shaped_gradients(&self.part, std::mem::take(&mut self.gradients));
        let part = self.take_part();
        self.part = self.optimizer.update_by_norm(part, grads, job.norm, job.scale, job.lr);

        let shards = self.shards.clone();
        let values = flat_values(&self.part);
        if self.collective.is_none() {
            self.send_owned(&values, &updated);
        }
        let owned = || {
            let shards = shards.owned_by(rank);
            let owned = shards.filter_map(|shard| Some((shard.index, values.get(&shard.id)?)));
            owned.map(|(index, value)| (index, value.clone())).unzip()
        };
        let (indices, owned): (Vec<usize>, Vec<_>) =
            if job.detailed { owned() } else { Default::default() };
        let squares = indices.into_iter().zip(ops::sums_of_squares(owned)).collect();
        let others = match &self.collective {
            Some(processes) => self.gathered_together(processes, &values)?,
            None => self.received_from_owners()?,
        };
        drop(values); // or what is replaced would be held once more
        self.part = replaced(self.take_part(), others);
        update_biases(
            self.part.routers_mut(),
            |layer| LayerLoad::of_layer(&job.loads, layer),
            job.bias_update_speed,
        );
        self.compute = self.compute.next_step();
        Ok(RankUpdate { squares, sent_bytes: self.post.take_mail(rank).sent_bytes })
    }

    /// Sends the other holders what was updated of `values`, and of the rest that it was not.
    fn send_owned(&self, values: &HashMap<ParamId, Tensor<1>>, updated: &HashSet<ParamId>) {
        let rank = self.place.rank;
        for shard in self.shards.owned_by(rank) {
            let value = values.get(&shard.id).filter(|_| updated.contains(&shard.id));
            for &holder in shard.holders.iter().filter(|&&holder| holder != rank) {
                let subject = Subject::Parameter(shard.index);
                self.post.send(rank, holder, subject, value.cloned(), &self.devices[holder]);
            }
        }
    }

    /// What owners have updated and send.
    ///
    /// # Errors
    ///
    /// A rank that has failed, or is late.
    fn received_from_owners(&self) -> Result<HashMap<ParamId, Tensor<1>>> {
        let rank = self.place.rank;
        let mut values = HashMap::new();
        for shard in self.shards.held_by(rank).filter(|shard| shard.owner != rank) {
            let (from, subject) = (shard.owner, Subject::Parameter(shard.index));
            if let Some(value) = self.post.receive(from, rank, subject, &self.device)? {
                values.insert(shard.id, value);
            }
        }
        Ok(values)
    }
}
