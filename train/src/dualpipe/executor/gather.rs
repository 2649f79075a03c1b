//! The whole model and the optimizer's state, put together from what each rank owns.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::Tensor;
use burn_deepseek::ops;

use super::flat::flat_values;
use super::rank::Rank;
use super::rank_threads::RankThreads;
use super::shards::{Shards, by_parameter};
use super::task::Gather;
use crate::failure::Result;
use crate::learner::Moments;

/// Values and moments of all parameters of the model, flat.
#[derive(Debug)]
pub(super) struct Gathered {
    pub values: HashMap<ParamId, Tensor<1>>,
    pub moments: HashMap<ParamId, Moments>,
}

/// A shard as its owner has it.
#[derive(Debug)]
pub(super) struct Owned {
    pub index: usize,
    /// The values, flat.
    pub value: Tensor<1>,
    pub moments: Option<Moments>,
}

/// Gathers some shards from their owners: all parts of the parameters that they are of.
///
/// # Errors
///
/// A rank that failed.
pub(super) fn gather(ranks: &RankThreads, shards: &Shards, some: Gather) -> Result<Gathered> {
    let begin = some.shards.start;
    let of_parameters = by_parameter(&shards.0[some.shards.clone()]);
    let mut owned: Vec<Option<Owned>> = some.shards.clone().map(|_| None).collect();
    let all = ranks.each(some)?;
    for shard in all.into_iter().flatten() {
        let index = shard.index;
        if let Some(place) = index.checked_sub(begin).and_then(|place| owned.get_mut(place)) {
            *place = Some(shard);
        }
    }
    let (mut values, mut moments) = (HashMap::new(), HashMap::new());
    for parts in of_parameters.into_values() {
        let id = parts[0].id;
        let parts = parts.iter().map(|shard| {
            owned[shard.index - begin].take().expect("invariant: every shard has an owner")
        });
        let (mut value, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for Owned { value: part, moments, .. } in parts {
            value.push(part);
            if let Some(moments) = moments {
                first.push(moments.first);
                second.push(moments.second);
            }
        }
        if !first.is_empty() {
            moments.insert(id, Moments { first: joined(first), second: joined(second) });
        }
        values.insert(id, joined(value));
    }
    Ok(Gathered { values, moments })
}

impl Rank {
    /// Some of the shards that this rank owns: copied by the rank's own thread, since its device may
    /// fail.
    pub fn owned(&self, some: &Gather) -> Vec<Owned> {
        let Gather { device, moments: with_moments, shards } = some;
        let mut values = flat_values(&self.part);
        let all = self.optimizer.moments();
        let there = |x: Tensor<1>| ops::moved(x, device);
        let owned = self.shards.owned_by(self.place.rank);
        let owned = owned.filter(|shard| shards.contains(&shard.index)).map(|shard| Owned {
            index: shard.index,
            value: there(values.remove(&shard.id).expect("invariant: a holder holds")),
            moments: all.get(&shard.id).filter(|_| *with_moments).map(|moments| Moments {
                first: there(moments.first.clone()),
                second: there(moments.second.clone()),
            }),
        });
        owned.collect()
    }
}

fn joined(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}
