//! Cuts a model into the parts of its ranks.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Block, Compute, DeepSeek, FeedForward, ModelPart, Stage};

use super::cluster::Cluster;
use super::flat::parameters_in_order;
use super::holder::Holder;
use super::rank::Rank;
use super::shards::Shards;
use crate::failure::{Context, Result};
use crate::learner::{AdamW, EngineSettings, LanguageModel, Moments};
use crate::parallel::{ExpertParallelGroup, Post, TrafficCounter, cut};

/// A model (without autodiff) as it is cut for a cluster.
pub(super) struct Cut<'a> {
    model: &'a LanguageModel,
    stages: Arc<Vec<Stage>>,
    devices: Arc<Vec<Device>>,
    /// Who owns what of it.
    pub shards: Arc<Shards>,
}

impl<'a> Cut<'a> {
    /// Cuts a model for a cluster.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages.
    pub fn new(model: &'a LanguageModel, cluster: &Cluster) -> Result<Self> {
        let axes = cluster.axes;
        let stages = cluster.schedule.stages(axes.pipeline);
        let stages = Arc::new(cut(model.model.config(), stages, stages / axes.pipeline)?);
        let devices: Vec<Device> =
            cluster.ranks.iter().map(|(_, device)| device.clone().inner()).collect();
        // Which parameters a rank holds does not depend on how many experts there are of a layer.
        let here = experts_here(&model.model);
        let held = |rank: usize| {
            let part = part_of(model, cluster, &stages, rank, 0..here);
            (axes.place(rank).expert, parameters_in_order(&part).into_iter().collect())
        };
        let held: Vec<_> = (0..axes.ranks()).map(held).collect();
        let shards = Arc::new(Shards::new(&model.model, &held, axes.expert));
        Ok(Self { model, stages, devices: Arc::new(devices), shards })
    }

    /// Every rank, with the name of its device, all of them in this process. They write to each
    /// other by `post`.
    ///
    /// # Errors
    ///
    /// A precision that a rank's device does not have.
    pub fn holders(
        &self,
        optimizer: &AdamW,
        cluster: &Cluster,
        settings: EngineSettings,
        post: &Arc<Post>,
        traffic: &Arc<TrafficCounter>,
    ) -> Result<Vec<(String, Holder)>> {
        let holder = |number: usize| {
            let device = &self.devices[number];
            let part = self.part(cluster, number).to_device(device);
            let owned = owned_state(optimizer, &self.shards, number, device);
            let rank = self.rank(number, part, owned, cluster, settings, post, traffic)?;
            Ok((cluster.ranks[number].0.clone(), Holder::Here(Box::new(rank))))
        };
        (0..cluster.axes.ranks()).map(holder).collect()
    }

    /// The part of the model that a rank holds.
    pub fn part(&self, cluster: &Cluster, rank: usize) -> ModelPart {
        let axes = cluster.axes;
        let experts = self.model.model.config().n_routed_experts / axes.expert;
        let first = axes.place(rank).expert * experts;
        part_of(self.model, cluster, &self.stages, rank, first..first + experts)
    }

    /// A rank, with its part of the model and the optimizer's state of what it owns, both on its
    /// device.
    ///
    /// # Errors
    ///
    /// A precision that the device does not have.
    #[expect(clippy::too_many_arguments, reason = "what a rank is made of")]
    pub fn rank(
        &self,
        rank: usize,
        part: ModelPart,
        optimizer: AdamW,
        cluster: &Cluster,
        settings: EngineSettings,
        post: &Arc<Post>,
        traffic: &Arc<TrafficCounter>,
    ) -> Result<Rank> {
        let (axes, place) = (cluster.axes, cluster.axes.place(rank));
        let device = self.devices[rank].clone();
        let group = (axes.expert > 1).then(|| {
            let members =
                (0..axes.expert).map(|expert| axes.rank_at(place.pipeline, expert, place.data));
            let members = members.map(|member| (member, self.devices[member].clone())).collect();
            Arc::new(ExpertParallelGroup {
                post: post.clone(),
                members,
                index: place.expert,
                formats: cluster.formats,
                members_a_node: cluster.members_a_node,
                traffic: traffic.clone(),
                token: Default::default(),
            })
        });
        Ok(Rank {
            place,
            stages: self.stages.clone(),
            part,
            compute: Compute::new(*self.model.precision(), &device)
                .with_context(|| format!("rank {rank}"))?,
            settings,
            optimizer,
            average: HashMap::new(),
            gradients: HashMap::new(),
            post: post.clone(),
            collective: None,
            grouped: false,
            shards: self.shards.clone(),
            devices: self.devices.clone(),
            first_rank: rank - place.pipeline,
            experts: group,
            own_traffic: None,
            text: None,
            device,
        })
    }
}

/// The stages that a rank holds, with these experts of each MoE layer.
fn part_of(
    model: &LanguageModel,
    cluster: &Cluster,
    stages: &[Stage],
    rank: usize,
    experts: Range<usize>,
) -> ModelPart {
    let axes = cluster.axes;
    let held = cluster.schedule.stages_of(axes.place(rank).pipeline, axes.pipeline);
    let held: Vec<Stage> = held.into_iter().flatten().map(|stage| stages[stage].clone()).collect();
    ModelPart::new(&model.model, &held, experts)
}

/// The experts that a MoE layer of the model has: all of them, or those of one rank.
fn experts_here(model: &DeepSeek) -> usize {
    let blocks = model.layers.iter().chain(model.mtp.iter().map(|module| &module.block));
    let experts = |block: &Block| match &block.mlp {
        FeedForward::Moe(moe) => Some(moe.experts.gate_up.dims()[0]),
        FeedForward::Dense(_) => None,
    };
    blocks.filter_map(experts).next().unwrap_or(0)
}

/// The optimizer with the state of the shards that a rank owns.
fn owned_state(optimizer: &AdamW, shards: &Shards, rank: usize, device: &Device) -> AdamW {
    let parts: HashMap<ParamId, usize> =
        shards.0.iter().map(|shard| (shard.id, shard.part + 1)).collect();
    let moments = shards.owned_by(rank).filter_map(|shard| {
        let Moments { first, second } = optimizer.moments().get(&shard.id)?;
        let count = first.dims()[0] / parts[&shard.id];
        let part = |tensor: &Tensor<1>| {
            tensor.clone().narrow(0, shard.part * count, count).to_device(device)
        };
        Some((shard.id, Moments { first: part(first), second: part(second) }))
    });
    AdamW::resumed(optimizer.settings(), optimizer.step_count(), moments.collect())
}
