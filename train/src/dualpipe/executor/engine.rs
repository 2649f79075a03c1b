//! The engine of a run over ranks: sends each step to all of them and puts together what comes
//! back.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::module::ParamId;

use super::cluster::Cluster;
use super::flat::replaced;
use super::gather::{Gathered, gather};
use super::rank_threads::RankThreads;
use super::reduce::UpdateJob;
use super::report::{StageReport, micro_batch_report, passes_of};
use super::shards::Shards;
use super::start::Cut;
use super::step::StepJob;
use super::task::Reduce;
use super::timeline::StepTimeline;
use crate::dualpipe::schedule::PipelineSchedule;
use crate::failure::{Failure, Result};
use crate::learner::{
    AdamW, EngineSettings, LanguageModel, LayerLoad, NextBatch, Norms, PassDetail, StepEngine,
    StepReport, Updated, norm_of,
};
use crate::parallel::{Post, TrafficCounter};
use crate::record::Timelines;
use crate::schedule::StepSettings;

/// The engine: as many pipelines as the axes say.
#[derive(Debug)]
pub struct Pipelines {
    cluster: Cluster,
    ranks: RankThreads,
    shards: Arc<Shards>,
    /// The whole model, as it was when it was last put together.
    whole: LanguageModel,
    /// The optimizer's state of that time.
    optimizer: AdamW,
    /// Steps of the optimizer since the training began.
    steps: u64,
    /// Whether weights have changed since.
    stale: bool,
    schedules: HashMap<usize, Arc<PipelineSchedule>>,
    /// Bytes of the exchanges since they were last asked for.
    traffic: Arc<TrafficCounter>,
    settings: EngineSettings,
    /// What the ranks did in the last step.
    timeline: Option<StepTimeline>,
}

impl Pipelines {
    /// Cuts `model` (without autodiff) into stages, hands them to their ranks, wherever those are,
    /// and starts a thread for each.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that a rank's device does not have.
    pub fn start(
        model: LanguageModel,
        optimizer: AdamW,
        cluster: &Cluster,
        settings: EngineSettings,
    ) -> Result<Self> {
        let post = match &cluster.processes {
            Some(processes) => processes.post.clone(),
            None => Arc::new(Post::new(cluster.timeout)),
        };
        let traffic = Arc::new(TrafficCounter::default());
        let cut = Cut::new(&model, cluster)?;
        let ranks = cut.holders(&optimizer, cluster, settings, &post, &traffic)?;
        let shards = cut.shards.clone();
        Ok(Self {
            cluster: cluster.clone(),
            ranks: RankThreads::start(ranks, post)?,
            shards,
            whole: model,
            steps: optimizer.step_count(),
            optimizer,
            stale: false,
            schedules: HashMap::new(),
            traffic,
            settings,
            timeline: None,
        })
    }

    /// The schedule of a step of so many micro-batches.
    fn schedule(&mut self, micro_batches: usize) -> Result<Arc<PipelineSchedule>> {
        let (pipelines, ranks) = (self.cluster.axes.pipelines(), self.cluster.axes.pipeline);
        if !micro_batches.is_multiple_of(pipelines) {
            return Err(Failure::new(format!(
                "a step of {micro_batches} micro-batches cannot be shared between {pipelines} \
                 pipelines (parallel.expert * parallel.data)"
            )));
        }
        let chunks = micro_batches / pipelines;
        if let Some(schedule) = self.schedules.get(&chunks) {
            return Ok(schedule.clone());
        }
        let schedule = Arc::new(PipelineSchedule::new(self.cluster.schedule, ranks, chunks)?);
        self.schedules.insert(chunks, schedule.clone());
        Ok(schedule)
    }

    /// Sums of squares that ranks gave for the places of shards which they own, in the order of the
    /// model: each shard has one owner, so what is held twice counts once.
    fn by_parameter(&self, of_ranks: Vec<Vec<(usize, f64)>>) -> Vec<(ParamId, f64)> {
        let mut squares: Vec<(usize, f64)> = of_ranks.into_iter().flatten().collect();
        squares.sort_unstable_by_key(|(index, _)| *index);
        squares.into_iter().map(|(index, square)| (self.shards.0[index].id, square)).collect()
    }

    /// Puts the whole model and the optimizer's state together.
    fn gather(&mut self) -> Result<()> {
        if !self.stale {
            return Ok(());
        }
        let device = self.whole.model.device().inner();
        let Gathered { values, moments } = gather(&self.ranks, &self.shards, &device)?;
        self.whole.model = replaced(self.whole.model.clone(), values);
        self.whole.weights_changed();
        self.optimizer = AdamW::resumed(self.optimizer.settings(), self.steps, moments);
        self.stale = false;
        Ok(())
    }
}

impl StepEngine for Pipelines {
    fn accumulate(
        &mut self,
        next: &mut NextBatch,
        settings: &StepSettings,
        detailed: bool,
    ) -> Result<StepReport> {
        let micro_batches = settings.global_batch / self.settings.micro_batch;
        self.whole.prepare(
            settings.loss_weights(),
            micro_batches,
            settings.global_batch * self.settings.seq_len,
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
            detailed,
        };
        let done = self.ranks.each(job)?;
        self.timeline = (detailed || self.cluster.timeline.is_some()).then(|| {
            let spans = done.iter().map(|report| report.spans.clone());
            StepTimeline::new(&self.cluster.ranks, &schedule, spans)
        });
        if let Some(cell) = &self.cluster.timeline {
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = self.timeline.clone();
        }
        let passes = passes_of(&done, self.cluster.axes.expert > 1);
        let mut exchange = self.traffic.take();
        done.iter().for_each(|report| exchange.absorb(&report.exchange));
        let mut reports: Vec<Vec<StageReport>> = vec![Vec::new(); micro_batches];
        for (rank, report) in done.into_iter().enumerate() {
            let first = self.cluster.axes.pipeline_of(rank) * schedule.chunks;
            for stage in report.stages {
                reports[first + stage.micro_batch].push(stage);
            }
        }
        let device = self.whole.model.device().inner();
        let mut sum = StepReport::default();
        for stages in reports {
            sum.absorb(&micro_batch_report(stages, &weights, &device));
        }
        sum.passes = PassDetail { gate_entropy: sum.passes.gate_entropy, ..passes };
        sum.exchange = (self.cluster.axes.expert > 1).then_some(exchange);
        Ok(sum)
    }

    fn timelines(&self, step: u64) -> Option<Timelines> {
        self.timeline.as_ref()?.beside_its_simulation(step)
    }

    fn update(
        &mut self,
        settings: &StepSettings,
        loads: &[LayerLoad],
        detailed: bool,
    ) -> Result<Updated> {
        let gradients = self.by_parameter(self.ranks.each(Reduce)?);
        let scale = self.whole.gradient_scale();
        let norm = norm_of(&gradients) / scale;
        let job = UpdateJob {
            norm,
            scale,
            lr: settings.lr,
            loads: Arc::new(loads.to_vec()),
            bias_update_speed: settings.bias_update_speed,
            detailed,
        };
        let done = self.ranks.each(job)?;
        let sent_bytes = done.iter().map(|rank| rank.sent_bytes).collect();
        self.steps += 1;
        self.stale = true;
        let norms = detailed.then(|| {
            let parameters = self.by_parameter(done.into_iter().map(|rank| rank.squares).collect());
            Norms::of(&self.whole.model, &gradients, scale, &parameters)
        });
        Ok(Updated { grad_norm: norm, norms, sent_bytes })
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
