//! Who holds which parameter and who owns it: gradients are summed at the owner, which alone keeps
//! the optimizer's state and sends the updated value to the other holders (ZeRO-1).

use std::collections::{BTreeMap, HashSet};

use burn::module::ParamId;
use burn_deepseek::{DeepSeek, FeedForward, Weight};

use super::flat::parameters_in_order;

/// A parameter, or the part of a parameter of experts that one rank of an expert-parallel group
/// has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// The parameter.
    pub id: ParamId,
    /// Its place among all shards, in the order of the model.
    pub index: usize,
    /// The number of the part of the experts; 0 where the parameter is whole.
    pub part: usize,
    /// Ranks that hold it, ascending.
    pub holders: Vec<usize>,
    /// The holder that owns it.
    pub owner: usize,
}

/// Every shard of a model, in the order of the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards(pub Vec<Shard>);

impl Shards {
    /// The shards of a model whose ranks each hold some parameters (given with the rank's place in
    /// its expert-parallel group). Owners are chosen so that each rank owns about as many numbers
    /// as any other that it shares parameters with.
    pub fn new(model: &DeepSeek, held: &[(usize, HashSet<ParamId>)], expert_degree: usize) -> Self {
        let of_experts = expert_parameters(model);
        let mut owned = vec![0usize; held.len()];
        let mut shards = Vec::new();
        for (id, count) in parameters_in_order(model) {
            let parts = if of_experts.contains(&id) { expert_degree } else { 1 };
            for part in 0..parts {
                let holds = |(_, (place, ids)): &(usize, &(usize, HashSet<ParamId>))| {
                    ids.contains(&id) && (parts == 1 || *place == part)
                };
                let holders: Vec<usize> =
                    held.iter().enumerate().filter(holds).map(|(rank, _)| rank).collect();
                let owner = *holders
                    .iter()
                    .min_by_key(|&&rank| owned[rank])
                    .expect("invariant: every parameter is held by some rank");
                owned[owner] += count / parts;
                shards.push(Shard { id, index: shards.len(), part, holders, owner });
            }
        }
        Self(shards)
    }

    /// The shards that a rank holds, by parameter.
    pub fn held_by(&self, rank: usize) -> impl Iterator<Item = &Shard> {
        self.0.iter().filter(move |shard| shard.holders.contains(&rank))
    }

    /// The shards of each parameter, in the order of their parts.
    pub fn by_parameter(&self) -> BTreeMap<u64, Vec<&Shard>> {
        let mut by_parameter: BTreeMap<u64, Vec<&Shard>> = BTreeMap::new();
        for shard in &self.0 {
            by_parameter.entry(shard.id.val()).or_default().push(shard);
        }
        by_parameter
    }
}

/// The parameters whose first dim is experts.
fn expert_parameters(model: &DeepSeek) -> HashSet<ParamId> {
    let blocks = model.layers.iter().chain(model.mtp.iter().map(|module| &module.block));
    let experts = blocks.filter_map(|block| match &block.mlp {
        FeedForward::Moe(moe) => Some([&moe.experts.gate_up, &moe.experts.down]),
        FeedForward::Dense(_) => None,
    });
    experts.flatten().filter_map(Weight::parameter).map(|parameter| parameter.id).collect()
}
