//! What a rank in another process begins with: the values of the parameters that it holds, and the
//! optimizer's state of those that it owns.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::Tensor;
use burn_deepseek::ModelPart;

use super::flat::{flat_values, replaced};
use super::rank::Rank;
use super::shards::Shards;
use crate::learner::{AdamW, Moments};
use crate::parallel::packed;

/// Values and moments, each by the place of its shard; parameters are known by other numbers in
/// another process.
#[derive(Clone, Debug)]
pub(super) struct Portion {
    /// The parameters that the rank holds, flat.
    values: Vec<(usize, Tensor<1>)>,
    /// The state of those that it owns and which have had a gradient.
    moments: Vec<(usize, Moments)>,
    /// Steps of the optimizer.
    steps: u64,
}

packed!(Portion { values, moments, steps });
packed!(Moments { first, second });

impl Portion {
    /// Of a rank that holds `part` and updates with `optimizer`.
    pub fn of(part: &ModelPart, optimizer: &AdamW, shards: &Shards, rank: usize) -> Self {
        let mut values = flat_values(part);
        let held = || shards.held_by(rank);
        let values =
            held().filter_map(|shard| Some((shard.index, values.remove(&shard.id)?))).collect();
        let owned = held().filter(|shard| shard.owner == rank);
        let moments = owned
            .filter_map(|shard| Some((shard.index, optimizer.moments().get(&shard.id)?.clone())))
            .collect();
        Self { values, moments, steps: optimizer.step_count() }
    }
}

impl Rank {
    /// Takes what it begins with.
    pub fn begin(&mut self, portion: &Portion) {
        let id = |index: &usize| self.shards.0[*index].id;
        let values: HashMap<ParamId, Tensor<1>> =
            portion.values.iter().map(|(index, value)| (id(index), value.clone())).collect();
        let moments =
            portion.moments.iter().map(|(index, moments)| (id(index), moments.clone())).collect();
        self.part = replaced(self.part.clone(), values);
        self.optimizer = AdamW::resumed(self.optimizer.settings(), portion.steps, moments);
        self.compute = self.compute.next_step();
    }
}
