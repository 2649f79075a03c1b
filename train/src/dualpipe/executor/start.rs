//! Cuts a model into the parts of its ranks.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, ModelPart, Stage};

use super::cluster::Cluster;
use super::flat::parameters_in_order;
use super::holder::{Away, Holder};
use super::portion::Portion;
use super::rank::Rank;
use super::shards::Shards;
use super::task::Begin;
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
        let held = |rank: usize| {
            let part = part_of(model, cluster, &stages, rank);
            let ids = parameters_in_order(&part).into_iter().map(|(id, _)| id).collect();
            (axes.place(rank).expert, ids)
        };
        let held: Vec<_> = (0..axes.ranks()).map(held).collect();
        let shards = Arc::new(Shards::new(&model.model, &held, axes.expert));
        Ok(Self { model, stages, devices: Arc::new(devices), shards })
    }

    /// Every rank, with the name of its device: here, or in its own process, which is given what it
    /// begins with. They write to each other by `post`.
    ///
    /// # Errors
    ///
    /// A precision that a rank's device does not have; a process that does not answer.
    pub fn holders(
        &self,
        optimizer: &AdamW,
        cluster: &Cluster,
        settings: EngineSettings,
        post: &Arc<Post>,
        traffic: &Arc<TrafficCounter>,
    ) -> Result<Vec<(String, Holder)>> {
        let holder = |rank: usize| {
            let name = cluster.ranks[rank].0.clone();
            if let Some(processes) = cluster.processes.as_ref().filter(|all| all.rank != rank) {
                let device = self.model.model.device().inner();
                let away = Away { rank, processes: processes.clone(), device };
                let part = part_of(self.model, cluster, &self.stages, rank);
                let owned = owned_state(optimizer, &self.shards, rank, &away.device);
                let portion = Portion::of(&part, &owned, &self.shards, rank);
                away.ask(&Begin(portion)).with_context(|| format!("rank {rank} on {name}"))?;
                return Ok((name, Holder::Away(away)));
            }
            let rank = self.rank(rank, optimizer, cluster, settings, post, traffic)?;
            Ok((name, Holder::Here(Box::new(rank))))
        };
        (0..cluster.axes.ranks()).map(holder).collect()
    }

    /// A rank, on its device.
    ///
    /// # Errors
    ///
    /// A precision that the device does not have.
    pub fn rank(
        &self,
        rank: usize,
        optimizer: &AdamW,
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
            })
        });
        Ok(Rank {
            place,
            stages: self.stages.clone(),
            part: part_of(self.model, cluster, &self.stages, rank).to_device(&device),
            compute: Compute::new(*self.model.precision(), &device)
                .with_context(|| format!("rank {rank}"))?,
            settings,
            optimizer: owned_state(optimizer, &self.shards, rank, &device),
            gradients: HashMap::new(),
            post: post.clone(),
            shards: self.shards.clone(),
            devices: self.devices.clone(),
            first_rank: rank - place.pipeline,
            experts: group,
            own_traffic: None,
            device,
        })
    }
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
