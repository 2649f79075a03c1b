//! A step over ranks: pipelines that carry out a schedule, experts shared between pipelines,
//! gradients summed and weights updated where they are owned (3.2).
//!
//! Each rank is a thread bound to a Burn device, and owns a part of the model. The engine sends
//! work to all of them and puts together what comes back; between steps it can put the whole model
//! together, for evaluation, averages and checkpoints, which therefore do not depend on the layout.

mod chunk;
mod rank;
mod reduce;
mod shards;
mod timeline;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, LossWeights, ModelPart, PartialLoss, Stage};

use self::rank::{Rank, StageReport, StepJob};
use self::reduce::{Owned, Replaced, UpdateJob};
use self::shards::{Shards, parameters_in_order};
use self::workers::Workers;
use super::{Schedule, ScheduleKind, schedule};
use crate::learner::{
    AdamW, LanguageModel, LayerLoad, Moments, NextBatch, RunPlan, StepEngine, StepReport,
};
use crate::parallel::{Axes, ExpertParallelGroup, Post, Traffic, WireFormats, cut};
use crate::schedule::StepSettings;

pub use timeline::{RankTime, StepTimeline};

/// The ranks that a run is spread over.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many there are in which direction.
    pub axes: Axes,
    /// The schedule of each pipeline.
    pub schedule: ScheduleKind,
    /// Name and device of each rank.
    pub ranks: Vec<(String, Device)>,
    /// What rows travel in between ranks that share experts.
    pub formats: WireFormats,
    /// Of the ranks that share experts, how many consecutive ones are in one node.
    pub members_a_node: usize,
    /// How long a rank waits for another.
    pub timeout: Duration,
    /// Where the timeline of each step is left.
    pub timeline: Option<TimelineCell>,
}

impl Cluster {
    /// In words: how many ranks, their axes, schedule and devices.
    pub fn describe(&self) -> String {
        let Axes { pipeline, expert, data } = self.axes;
        let mut devices: Vec<(&str, usize)> = Vec::new();
        for (name, _) in &self.ranks {
            match devices.last_mut() {
                Some((last, count)) if last == name => *count += 1,
                _ => devices.push((name, 1)),
            }
        }
        let devices: Vec<String> =
            devices.into_iter().map(|(name, count)| format!("{count} on {name}")).collect();
        format!(
            "{} = pipeline {pipeline} ({}) x expert {expert} x data {data}: {}",
            self.axes.ranks(),
            self.schedule,
            devices.join(", ")
        )
    }
}

/// Where the engine leaves the timeline of the last step.
pub type TimelineCell = Arc<std::sync::Mutex<Option<StepTimeline>>>;

/// The engine: as many pipelines as the axes say.
#[derive(Debug)]
pub struct Pipelines {
    cluster: Cluster,
    workers: Workers,
    shards: Arc<Shards>,
    /// The whole model, as it was when it was last put together.
    whole: LanguageModel,
    /// The optimizer's state of that time.
    optimizer: AdamW,
    /// Steps of the optimizer since the training began.
    steps: u64,
    /// Whether weights have changed since.
    stale: bool,
    schedules: HashMap<usize, Arc<Schedule>>,
    /// Bytes of the exchanges since they were last asked for.
    traffic: Arc<Traffic>,
    micro_batch: usize,
    seq_len: usize,
}

impl Pipelines {
    /// Cuts `model` (without autodiff) into stages, hands them to their ranks, and starts the
    /// ranks' threads.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that a rank's device does not have.
    pub fn start(
        model: LanguageModel,
        optimizer: AdamW,
        cluster: &Cluster,
        plan: &RunPlan,
    ) -> Result<Self> {
        let axes = cluster.axes;
        let stages = cluster.schedule.stages(axes.pipeline);
        let stages = Arc::new(cut(model.model.config(), stages, stages / axes.pipeline)?);
        let post = Arc::new(Post::new(cluster.timeout));
        let traffic = Arc::new(Traffic::default());
        let devices: Arc<Vec<Device>> =
            Arc::new(cluster.ranks.iter().map(|(_, device)| device.clone().inner()).collect());
        let parts: Vec<ModelPart> =
            (0..axes.ranks()).map(|rank| part_of(&model, cluster, &stages, rank)).collect();
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
                recompute: plan.recompute,
                optimizer: owned_state(&optimizer, &shards, rank, &device),
                gradients: HashMap::new(),
                post: post.clone(),
                devices: devices.clone(),
                first_rank: rank - place.pipeline,
                experts: group,
                device,
            };
            ranks.push((name.clone(), rank));
        }
        Ok(Self {
            cluster: cluster.clone(),
            workers: Workers::start(ranks, post)?,
            shards,
            whole: model,
            steps: optimizer.step_count(),
            optimizer,
            stale: false,
            schedules: HashMap::new(),
            traffic,
            micro_batch: plan.micro_batch,
            seq_len: plan.seq_len,
        })
    }

    /// The schedule of a step of so many micro-batches.
    fn schedule(&mut self, micro_batches: usize) -> Result<Arc<Schedule>> {
        let (pipelines, ranks) = (self.cluster.axes.pipelines(), self.cluster.axes.pipeline);
        anyhow::ensure!(
            micro_batches.is_multiple_of(pipelines),
            "a step of {micro_batches} micro-batches cannot be shared between {pipelines} \
             pipelines (parallel.expert * parallel.data)"
        );
        let chunks = micro_batches / pipelines;
        if let Some(schedule) = self.schedules.get(&chunks) {
            return Ok(schedule.clone());
        }
        let schedule = Arc::new(schedule(self.cluster.schedule, ranks, chunks)?);
        self.schedules.insert(chunks, schedule.clone());
        Ok(schedule)
    }

    /// Puts the whole model and the optimizer's state together.
    fn gather(&mut self) -> Result<()> {
        if !self.stale {
            return Ok(());
        }
        let shards = self.shards.clone();
        let mut owned: Vec<Option<Owned>> = shards.0.iter().map(|_| None).collect();
        let device = self.whole.model.device().inner();
        for shard in
            self.workers.each(move |rank| Ok(rank.owned(&shards, &device)))?.into_iter().flatten()
        {
            let index = shard.index;
            owned[index] = Some(shard);
        }
        let (mut values, mut moments) = (HashMap::new(), HashMap::new());
        for parts in self.shards.by_parameter().into_values() {
            let id = parts[0].id;
            let parts = parts.iter().map(|shard| {
                owned[shard.index].take().expect("invariant: every shard has an owner")
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
        self.whole.model = self.whole.model.clone().map(&mut Replaced(values));
        self.whole.weights_changed();
        self.optimizer = AdamW::resumed(self.optimizer.settings(), self.steps, moments);
        self.stale = false;
        Ok(())
    }
}

impl StepEngine for Pipelines {
    fn accumulate(&mut self, next: &mut NextBatch, settings: &StepSettings) -> Result<StepReport> {
        let micro_batches = settings.global_batch / self.micro_batch;
        self.whole.prepare(
            settings.loss_weights(),
            micro_batches,
            settings.global_batch * self.seq_len,
        );
        let schedule = self.schedule(micro_batches)?;
        let batches = (0..micro_batches).map(|_| next()).collect::<Result<Vec<_>>>()?;
        let batches: Arc<Vec<_>> =
            Arc::new(batches.chunks(schedule.chunks).map(<[_]>::to_vec).collect());
        let weights = settings.loss_weights();
        let job = StepJob {
            schedule: schedule.clone(),
            batches,
            weights,
            share: self.whole.share(),
            started: Instant::now(),
        };
        let done = self.workers.each(move |rank| rank.run(&job))?;
        if let Some(cell) = &self.cluster.timeline {
            let spans = done.iter().map(|report| report.spans.clone()).collect();
            *cell.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some(StepTimeline::new(&self.cluster, &schedule, spans));
        }
        let mut reports: Vec<Vec<StageReport>> = vec![Vec::new(); micro_batches];
        for (rank, report) in done.into_iter().enumerate() {
            let first = self.cluster.axes.place(rank).replica(&self.cluster.axes) * schedule.chunks;
            for stage in report.stages {
                reports[first + stage.micro_batch].push(stage);
            }
        }
        let device = self.whole.model.device().inner();
        let mut sum = StepReport::default();
        for stages in reports {
            sum.absorb(&micro_batch_report(stages, &weights, &device));
        }
        sum.exchange = (self.cluster.axes.expert > 1).then(|| self.traffic.take());
        Ok(sum)
    }

    fn update(&mut self, settings: &StepSettings, loads: &[LayerLoad]) -> Result<f64> {
        let shards = self.shards.clone();
        let mut squares: Vec<(usize, f64)> =
            self.workers.each(move |rank| rank.reduce(&shards))?.into_iter().flatten().collect();
        squares.sort_unstable_by_key(|(index, _)| *index);
        let scale = self.whole.gradient_scale();
        let norm = squares.into_iter().map(|(_, square)| square).sum::<f64>().sqrt() / scale;
        let job = UpdateJob {
            shards: self.shards.clone(),
            norm,
            scale,
            lr: settings.lr,
            loads: Arc::new(loads.to_vec()),
            bias_update_speed: settings.bias_update_speed,
        };
        self.workers.each(move |rank| rank.update(&job))?;
        self.steps += 1;
        self.stale = true;
        Ok(norm)
    }

    fn model(&mut self) -> Result<&LanguageModel> {
        self.gather()?;
        Ok(&self.whole)
    }

    fn state(&mut self) -> Result<(&LanguageModel, &AdamW)> {
        self.gather()?;
        Ok((&self.whole, &self.optimizer))
    }

    fn last_state(&self) -> Option<(&LanguageModel, &AdamW)> {
        Some((&self.whole, &self.optimizer))
    }

    fn into_model(self: Box<Self>) -> LanguageModel {
        self.whole
    }
}

/// The part of the model that a rank holds.
fn part_of(model: &LanguageModel, cluster: &Cluster, stages: &[Stage], rank: usize) -> ModelPart {
    let (axes, last) = (cluster.axes, stages.len() - 1);
    let place = axes.place(rank);
    let mut held = vec![stages[place.pipeline].clone()];
    if matches!(cluster.schedule, ScheduleKind::DualPipe | ScheduleKind::DualPipeV) {
        held.push(stages[last - place.pipeline].clone());
    }
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

fn joined(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}

/// What all stages measured of a micro-batch, summed as [`burn_deepseek::DeepSeek::loss`] does.
fn micro_batch_report(
    mut stages: Vec<StageReport>,
    weights: &LossWeights,
    device: &Device,
) -> StepReport {
    let scalar = |value: f32| Tensor::<1>::from_data([value], device);
    let read = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
    stages.sort_by_key(|stage| stage.loads.first().map_or(0, |load| load.layer));
    let end = stages
        .iter()
        .find(|stage| stage.main.is_some())
        .expect("invariant: some stage has the end of the model");
    let (main, mtp) = (end.main.unwrap_or_default(), end.mtp.clone());
    let tokens = end.tokens;
    let mut balances: Vec<(usize, f32)> =
        stages.iter().flat_map(|stage| stage.balances.iter().copied()).collect();
    balances.sort_by_key(|(layer, _)| *layer);
    let mut layer_loads: Vec<LayerLoad> =
        stages.iter().flat_map(|stage| stage.loads.iter().cloned()).collect();
    layer_loads.sort_by_key(|load| load.layer);
    let mtp_losses: Vec<Tensor<1>> = mtp.iter().map(|&loss| scalar(loss)).collect();
    let balances = balances.into_iter().map(|(_, loss)| scalar(loss)).collect();
    let PartialLoss { total, balance } =
        PartialLoss::new(Some((scalar(main), &mtp_losses)), balances, weights);
    StepReport {
        total_loss: read(total.expect("invariant: there is a main loss")),
        loss: f64::from(main),
        mtp_losses: mtp.into_iter().map(f64::from).collect(),
        balance_loss: balance.map_or(0.0, read),
        tokens,
        layer_loads,
        ..StepReport::default()
    }
}
