//! Who holds which parameter and who owns it: gradients are summed at the owner, which alone keeps
//! the optimizer's state and sends the updated value to the other holders (ZeRO-1).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use burn::module::ParamId;
use burn_deepseek::weights::{HeldParameter, parameter_ids};
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
    /// The parameter's path in the model.
    pub path: String,
    /// Its elements, of all that the parameter has in the whole model.
    pub elements: Range<usize>,
}

impl From<&Shard> for HeldParameter {
    fn from(shard: &Shard) -> Self {
        Self { id: shard.id, path: shard.path.clone(), elements: shard.elements.clone() }
    }
}

/// Every shard of a model, in the order of the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards(pub Vec<Shard>);

impl Shards {
    /// The shards of a model, with all experts in each MoE layer or those of one rank, whose ranks
    /// each hold some parameters (given with the rank's place in its expert-parallel group). Owners
    /// are chosen so that each rank owns about as many numbers as any other that it shares
    /// parameters with.
    pub fn new(model: &DeepSeek, held: &[(usize, HashSet<ParamId>)], expert_degree: usize) -> Self {
        let of_experts = expert_parameters(model);
        let experts = model.config().n_routed_experts / expert_degree;
        let paths: HashMap<ParamId, (String, Vec<usize>)> = parameter_ids(model)
            .into_iter()
            .map(|(path, (id, shape))| (id, (path, shape)))
            .collect();
        let mut owned = vec![0usize; held.len()];
        let mut shards = Vec::new();
        for id in parameters_in_order(model) {
            let (path, shape) = &paths[&id];
            let (parts, count) = match of_experts.contains(&id) {
                true => (expert_degree, experts * shape[1..].iter().product::<usize>()),
                false => (1, shape.iter().product()),
            };
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
                owned[owner] += count;
                shards.push(Shard {
                    id,
                    index: shards.len(),
                    part,
                    holders,
                    owner,
                    path: path.clone(),
                    elements: part * count..(part + 1) * count,
                });
            }
        }
        Self(shards)
    }

    /// The shards that a rank holds, by parameter.
    pub fn held_by(&self, rank: usize) -> impl Iterator<Item = &Shard> {
        self.0.iter().filter(move |shard| shard.holders.contains(&rank))
    }

    /// The shards that a rank owns.
    pub fn owned_by(&self, rank: usize) -> impl Iterator<Item = &Shard> {
        self.0.iter().filter(move |shard| shard.owner == rank)
    }

    /// The places of all shards in runs, each of whole parameters: all of them at once, or, where
    /// their values are to come in pieces, of so many values or a parameter.
    pub fn runs(&self, most: Option<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut values = 0;
        for shard in &self.0 {
            let begins = shard.part == 0 && most.is_some_and(|most| values > most);
            match runs.last_mut() {
                Some(run) if !begins => run.end = shard.index + 1,
                _ => {
                    runs.push(shard.index..shard.index + 1);
                    values = 0;
                }
            }
            values += shard.elements.len();
        }
        runs
    }
}

/// Shards by their parameter, in the order of their parts.
pub(super) fn by_parameter(shards: &[Shard]) -> BTreeMap<u64, Vec<&Shard>> {
    let mut by_parameter: BTreeMap<u64, Vec<&Shard>> = BTreeMap::new();
    for shard in shards {
        by_parameter.entry(shard.id.val()).or_default().push(shard);
    }
    by_parameter
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_every_shard_once_and_whole_parameters() {
        let shard = |index: usize, part: usize, values: usize| Shard {
            id: ParamId::new(),
            index,
            part,
            holders: vec![0],
            owner: 0,
            path: String::new(),
            elements: 0..values,
        };
        let parts = [(0, 5), (0, 9), (1, 9), (2, 9), (0, 1), (0, 30), (0, 2)];
        let shards = parts.into_iter().enumerate();
        let shards = Shards(shards.map(|(index, (part, n))| shard(index, part, n)).collect());
        assert_eq!(shards.runs(None), std::slice::from_ref(&(0..7)));
        // More than ten values end a run, but not within a parameter.
        assert_eq!(shards.runs(Some(10)), [0..4, 4..6, 6..7]);
        assert_eq!(shards.runs(Some(0)), [0..1, 1..4, 4..5, 5..6, 6..7]);
        assert!(Shards::default().runs(Some(1)).is_empty());
    }
}
