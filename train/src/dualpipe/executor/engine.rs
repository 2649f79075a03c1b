//! The engine of a run over ranks: sends each step to all of them and puts together what comes
//! back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use burn::module::ParamId;
use burn_deepseek::weights::{WeightsError, describe_model};
use burn_deepseek::{DeepSeek, LossWeights};

use super::cluster::Cluster;
use super::evaluate::{at_once, evaluated};
use super::flat::replaced;
use super::gather::{Gathered, gather};
use super::holder::{Away, Holder};
use super::own::{OwnPart, own_rank};
use super::rank_threads::RankThreads;
use super::reduce::UpdateJob;
use super::report::{StageReport, micro_batch_reports, passes_of};
use super::routings::told;
use super::shards::Shards;
use super::start::Cut;
use super::step::StepJob;
use super::task::{Approach, Biases, Gather, Peak, Reduce, WithMoments};
use super::timeline::StepTimeline;
use super::write::{Files, WriteJob};
use crate::data::TokenBatch;
use crate::dualpipe::schedule::PipelineSchedule;
use crate::failure::{Context, Failure, Result};
use crate::learner::{
    AdamW, EngineSettings, LanguageModel, LayerLoad, NextBatch, Norms, PassDetail, StepEngine,
    StepReport, Updated, measured_whole, norm_of,
};
use crate::parallel::{Post, TrafficCounter};
use crate::record::Timelines;
use crate::schedule::StepSettings;

/// Values that come from other processes at one time, or a parameter.
const VALUES_AT_ONCE: usize = 1 << 20;

/// What is not as the ranks have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    Nothing,
    Moments,
    All,
}

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
    /// What has changed since.
    stale: Stale,
    /// The whole model with nothing in it, where the ranks are processes: it is put together for
    /// as long as it is needed.
    empty: Option<DeepSeek>,
    schedules: HashMap<usize, Arc<PipelineSchedule>>,
    /// Bytes of the exchanges since they were last asked for.
    traffic: Arc<TrafficCounter>,
    settings: EngineSettings,
    /// What the ranks did in the last step.
    timeline: Option<StepTimeline>,
}

impl Pipelines {
    /// Whether ranks evaluate each its part: processes, which have no other; and ranks that share
    /// experts, so that either has the same numbers. (An expert gets the rows of several
    /// micro-batches then, and FP32 products of few rows add in another order than those of many.)
    fn evaluates_in_place(&self) -> bool {
        self.empty.is_some() || self.cluster.axes.expert > 1
    }

    /// Cuts `model` (without autodiff) into stages, hands them to their ranks, on whatever devices
    /// those are, and starts a thread for each.
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
        let post = Arc::new(Post::new(cluster.timeout));
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
            stale: Stale::Nothing,
            empty: None,
            schedules: HashMap::new(),
            traffic,
            settings,
            timeline: None,
        })
    }

    /// Leads ranks of several processes, each of which makes its own parts as this one does, of which
    /// the first is rank 0. `whole` is a model of the run's shapes, whatever its weights are.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that the device does not have, weights
    /// that cannot be read.
    pub fn lead(
        whole: LanguageModel,
        own: Vec<OwnPart>,
        cluster: &Cluster,
        settings: EngineSettings,
    ) -> Result<Self> {
        let processes =
            cluster.processes.as_ref().context("invariant: who leads is one of several")?;
        let traffic = Arc::new(TrafficCounter::default());
        let shards = Cut::new(&whole, cluster)?.shards.clone();
        let own = processes.own().zip(own);
        let own =
            own.map(|(rank, own)| own_rank(rank, own, processes, cluster, settings, &traffic));
        let own = own.collect::<Result<Vec<_>>>()?;
        let first = own.first().context("invariant: a process has a rank")?;
        let (steps, optimizer) =
            (first.optimizer.step_count(), AdamW::new(first.optimizer.settings()));
        let device = whole.model.device().inner();
        let away = |rank| {
            Holder::Away(Away { rank, processes: processes.clone(), device: device.clone() })
        };
        let others = (own.len()..cluster.axes.ranks()).map(away);
        let holders = own.into_iter().map(|rank| Holder::Here(Box::new(rank))).chain(others);
        let named = cluster.ranks.iter().map(|(name, _)| name.clone()).zip(holders).collect();
        Ok(Self {
            cluster: cluster.clone(),
            ranks: RankThreads::start(named, processes.post.clone())?,
            shards,
            empty: Some(whole.model.clone()),
            whole,
            steps,
            optimizer,
            stale: Stale::All,
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

    /// Puts the whole model together, and the optimizer's state where that is wanted, or where the
    /// ranks are here, so that it is known after a failure.
    fn gather(&mut self, with_moments: bool) -> Result<()> {
        if self.stale == Stale::Nothing || (self.stale == Stale::Moments && !with_moments) {
            return Ok(());
        }
        let with_moments = with_moments || self.empty.is_none();
        let device = self.whole.model.device().inner();
        let mut all_moments = HashMap::new();
        // From other processes in pieces, whose bytes are here besides the tensors.
        let most = self.empty.is_some().then_some(VALUES_AT_ONCE);
        for shards in self.shards.runs(most) {
            let some = Gather { device: device.clone(), moments: with_moments, shards };
            let Gathered { values, moments } = gather(&self.ranks, &self.shards, some)?;
            self.whole.model = replaced(self.whole.model.clone(), values);
            all_moments.extend(moments);
        }
        self.whole.weights_changed();
        self.stale = Stale::Moments;
        if with_moments {
            self.optimizer = AdamW::resumed(self.optimizer.settings(), self.steps, all_moments);
            self.stale = Stale::Nothing;
        }
        Ok(())
    }

    /// The files of a folder that has the weights, and the moments of some shards.
    fn files(&self, folder: &Path, moments: &[usize]) -> Result<Files> {
        let format = self.optimizer.settings().moments;
        let files = Files::new(self.whole.model.config(), &self.shards, moments, format);
        let error = |source| WeightsError::Write { path: folder.to_path_buf(), source };
        Ok(files.map_err(error)?)
    }

    /// Has all ranks write their own of a folder's weights, and of what else the job says.
    fn write(&self, files: &Files, job: WriteJob) -> Result<()> {
        let folder = Path::new(&job.folder);
        files.weights.create(folder)?;
        describe_model(self.whole.model.config(), folder)?;
        self.ranks.each(job).map(drop)
    }
}

/// A folder as other processes find it, which may be in another one.
fn absolute(folder: &Path) -> Result<String> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let text = absolute.to_str().with_context(|| format!("{}: not UTF-8", folder.display()))?;
    Ok(text.to_owned())
}

impl StepEngine for Pipelines {
    fn accumulate(
        &mut self,
        next: &mut NextBatch,
        settings: &StepSettings,
        detailed: bool,
    ) -> Result<StepReport> {
        if let Some(empty) = &self.empty {
            // What is needed no more; rank 0 updates its part in place where nobody else has it.
            self.whole.model = empty.clone();
            self.optimizer = AdamW::new(self.optimizer.settings());
            self.stale = Stale::All;
        }
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
            batches: batches.clone(),
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
            let pipeline = self.cluster.axes.pipeline_of(rank);
            let first = pipeline * schedule.chunks;
            told(&batches[pipeline], report.chosen);
            for stage in report.stages {
                reports[first + stage.micro_batch].push(stage);
            }
        }
        let mut sum = StepReport::default();
        let device = self.whole.model.device().inner();
        for report in micro_batch_reports(reports, &weights, &device) {
            sum.absorb(&report);
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
        self.stale = Stale::All;
        let norms = detailed.then(|| {
            let parameters = self.by_parameter(done.into_iter().map(|rank| rank.squares).collect());
            Norms::of(&self.whole.model, &gradients, scale, &parameters)
        });
        Ok(Updated { grad_norm: norm, norms, sent_bytes })
    }

    fn evaluated_at_once(&self) -> usize {
        if self.evaluates_in_place() { at_once(&self.cluster) } else { 1 }
    }

    fn evaluate(
        &mut self,
        batches: Vec<TokenBatch>,
        weights: &LossWeights,
    ) -> Result<Vec<StepReport>> {
        if self.evaluates_in_place() {
            evaluated(&self.ranks, &self.cluster, &batches, weights)
        } else {
            Ok(measured_whole(self.model()?, batches, weights))
        }
    }

    fn balance_biases(&mut self) -> Result<Vec<Vec<f32>>> {
        if self.empty.is_none() {
            return Ok(self.model()?.model.balance_biases());
        }
        let of_ranks = self.ranks.each(Biases)?;
        let by_layer: BTreeMap<usize, Vec<f32>> = of_ranks.into_iter().flatten().collect();
        Ok(by_layer.into_values().collect())
    }

    fn model(&mut self) -> Result<&LanguageModel> {
        self.gather(false)?;
        Ok(&self.whole)
    }

    fn state(&mut self) -> Result<(&LanguageModel, &AdamW)> {
        self.gather(true)?;
        Ok((&self.whole, &self.optimizer))
    }

    fn last_state(&self) -> Option<(&LanguageModel, &AdamW)> {
        // The weights of processes are theirs alone.
        self.empty.is_none().then_some((&self.whole, &self.optimizer))
    }

    fn save(&mut self, folder: &Path) -> Result<()> {
        let mut moments: Vec<usize> = self.ranks.each(WithMoments)?.into_iter().flatten().collect();
        moments.sort_unstable();
        let files = self.files(folder, &moments)?;
        files.moments.create(folder)?;
        self.write(&files, WriteJob { folder: absolute(folder)?, moments, average: false })
    }

    fn average(&mut self, rate: f64) -> Result<()> {
        self.ranks.each(Approach { rate }).map(drop)
    }

    fn save_average(&mut self, folder: &Path) -> Result<()> {
        let job = WriteJob { folder: absolute(folder)?, moments: Vec::new(), average: true };
        self.write(&self.files(folder, &[])?, job)
    }

    fn peak_memory(&mut self) -> Result<Vec<Option<u64>>> {
        match self.empty {
            Some(_) => self.ranks.each(Peak),
            None => Ok(Vec::new()),
        }
    }

    fn into_model(self: Box<Self>) -> LanguageModel {
        self.whole
    }
}
