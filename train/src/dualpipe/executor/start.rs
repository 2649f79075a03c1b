//! Cuts a model into the parts of its ranks.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, ModelPart, Stage};

use super::cluster::Cluster;
use super::flat::parameters_in_order;
use super::rank::Rank;
use super::shards::Shards;
use crate::failure::{Context, Result};
use crate::learner::{AdamW, EngineSettings, LanguageModel, Moments};
use crate::parallel::{ExpertParallelGroup, Post, TrafficCounter, cut};

/// Ranks with the names of their devices, and who owns what of the model.
pub(super) struct Parts {
    pub ranks: Vec<(String, Rank)>,
    pub shards: Arc<Shards>,
}

/// Cuts a model (without autodiff) and the optimizer's state into the parts of the ranks, which
/// will write to each other by `post`.
///
/// # Errors
///
/// A model with fewer layers than stages, a precision that a rank's device does not have.
pub(super) fn parts(
    model: &LanguageModel,
    optimizer: &AdamW,
    cluster: &Cluster,
    settings: EngineSettings,
    post: &Arc<Post>,
    traffic: &Arc<TrafficCounter>,
) -> Result<Parts> {
    let axes = cluster.axes;
    let stages = cluster.schedule.stages(axes.pipeline);
    let stages = Arc::new(cut(model.model.config(), stages, stages / axes.pipeline)?);
    let devices: Arc<Vec<Device>> =
        Arc::new(cluster.ranks.iter().map(|(_, device)| device.clone().inner()).collect());
    let parts: Vec<ModelPart> =
        (0..axes.ranks()).map(|rank| part_of(model, cluster, &stages, rank)).collect();
    let held: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(rank, part)| {
            (
                axes.place(rank).expert,
                parameters_in_order(part).into_iter().map(|(id, _)| id).collect(),
            )
        })
        .collect();
    let shards = Arc::new(Shards::new(&model.model, &held, axes.expert));
    let mut ranks = Vec::with_capacity(axes.ranks());
    for (rank, part) in parts.into_iter().enumerate() {
        let place = axes.place(rank);
        let (name, device) = &cluster.ranks[rank];
        let group = (axes.expert > 1).then(|| {
            let members =
                (0..axes.expert).map(|expert| axes.rank_at(place.pipeline, expert, place.data));
            let members = members.map(|member| (member, devices[member].clone())).collect();
            Arc::new(ExpertParallelGroup {
                post: post.clone(),
                members,
                index: place.expert,
                formats: cluster.formats,
                members_a_node: cluster.members_a_node,
                traffic: traffic.clone(),
            })
        });
        let device = device.clone().inner();
        let rank = Rank {
            place,
            stages: stages.clone(),
            part: part.to_device(&device),
            compute: Compute::new(*model.precision(), &device)
                .with_context(|| format!("rank {rank}"))?,
            settings,
            optimizer: owned_state(optimizer, &shards, rank, &device),
            gradients: HashMap::new(),
            post: post.clone(),
            devices: devices.clone(),
            first_rank: rank - place.pipeline,
            experts: group,
            device,
        };
        ranks.push((name.clone(), rank));
    }
    Ok(Parts { ranks, shards })
}

/// The part of the model that a rank holds.
fn part_of(model: &LanguageModel, cluster: &Cluster, stages: &[Stage], rank: usize) -> ModelPart {
    let axes = cluster.axes;
    let place = axes.place(rank);
    let held = cluster.schedule.stages_of(place.pipeline, axes.pipeline);
    let held: Vec<Stage> = held.into_iter().flatten().map(|stage| stages[stage].clone()).collect();
    let experts = model.model.config().n_routed_experts / axes.expert;
    ModelPart::new(&model.model, &held, place.expert * experts..(place.expert + 1) * experts)
}

/// The optimizer with the state of the shards that a rank owns.
fn owned_state(optimizer: &AdamW, shards: &Shards, rank: usize, device: &Device) -> AdamW {
    let parts: HashMap<ParamId, usize> =
        shards.0.iter().map(|shard| (shard.id, shard.part + 1)).collect();
    let owned = shards.held_by(rank).filter(|shard| shard.owner == rank);
    let moments = owned.filter_map(|shard| {
        let Moments { first, second } = optimizer.moments().get(&shard.id)?;
        let count = first.dims()[0] / parts[&shard.id];
        let part = |tensor: &Tensor<1>| {
            tensor.clone().narrow(0, shard.part * count, count).to_device(device)
        };
        Some((shard.id, Moments { first: part(first), second: part(second) }))
    });
    AdamW::resumed(optimizer.settings(), optimizer.step_count(), moments.collect())
}
