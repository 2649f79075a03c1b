//! A rank: the part of the model that one device has, and how it carries out its actions of a
//! schedule.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::ParamId;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, LossWeights, ModelPart, Stage, ops};

use super::chunk::{ChunkSettings, Differentiated, InFlight, Measured};
use super::reduce::flat_gradients;
use super::workers::THREAD;
use crate::data::TokenBatch;
use crate::dualpipe::{Action, Chunk, PipelineSchedule};
use crate::failure::{Context, Result};
use crate::learner::{AdamW, LayerLoad};
use crate::parallel::{ChunkExchange, ComputeToken, ExpertParallelGroup, Place, Post, Subject};

/// One rank, owned by its thread.
#[derive(Debug)]
pub(super) struct Rank {
    pub place: Place,
    pub device: Device,
    /// Stages of the whole pipeline.
    pub stages: Arc<Vec<Stage>>,
    /// The layers and ends that are here, without autodiff.
    pub part: ModelPart,
    pub compute: Compute,
    pub recompute: bool,
    /// State of the parameters that the rank owns.
    pub optimizer: AdamW,
    /// Gradients of the step, flat.
    pub gradients: HashMap<ParamId, Tensor<1>>,
    pub post: Arc<Post>,
    /// Device of every rank.
    pub devices: Arc<Vec<Device>>,
    /// Number of the first rank of this rank's pipeline.
    pub first_rank: usize,
    /// Whom experts are shared with; none where all are here.
    pub experts: Option<Arc<ExpertParallelGroup>>,
}

/// What a rank does in a step.
#[derive(Clone, Debug)]
pub(super) struct StepJob {
    pub schedule: Arc<PipelineSchedule>,
    /// Micro-batches of each pipeline, in order.
    pub batches: Arc<Vec<Vec<TokenBatch>>>,
    pub weights: LossWeights,
    /// What losses are multiplied by before they are differentiated.
    pub share: f64,
    /// When the step began.
    pub started: Instant,
}

/// Something that a rank did, for the timeline.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub action: Action,
    pub start: Duration,
    pub end: Duration,
    /// Of it, time that was waited for messages.
    pub waited: Duration,
}

/// What a stage measured of a micro-batch.
#[derive(Clone, Debug)]
pub(super) struct StageReport {
    pub micro_batch: usize,
    pub main: Option<f32>,
    pub mtp: Vec<f32>,
    /// Layer and loss at alpha = 1.
    pub balances: Vec<(usize, f32)>,
    pub loads: Vec<LayerLoad>,
    pub tokens: usize,
}

/// What comes of a rank's step.
#[derive(Debug)]
pub(super) struct RankReport {
    pub stages: Vec<StageReport>,
    pub spans: Vec<Span>,
}

/// A step under way.
struct Progress<'a> {
    job: &'a StepJob,
    in_flight: HashMap<(usize, usize), InFlight>,
    deferred: VecDeque<(Chunk, Differentiated)>,
    measured: Vec<(Chunk, Measured)>,
    gradients: GradientsAccumulator<ModelPart>,
    /// Gradients of the embedding from the model's end, until its beginning's of the same
    /// micro-batch come: summed first, as in one graph.
    embedding: HashMap<usize, Tensor<2>>,
    waited: Duration,
}

impl Rank {
    /// Carries out the rank's actions of one step. Gradients are left in `gradients`.
    pub fn run(&mut self, job: &StepJob) -> Result<RankReport> {
        let mut progress = Progress {
            job,
            in_flight: HashMap::new(),
            deferred: VecDeque::new(),
            measured: Vec::new(),
            gradients: GradientsAccumulator::new(),
            embedding: HashMap::new(),
            waited: Duration::ZERO,
        };
        let mut spans = Vec::new();
        for planned in &job.schedule.actions[self.place.pipeline] {
            let start = job.started.elapsed();
            progress.waited = Duration::ZERO;
            match &planned.action {
                Action::Forward(chunk) => {
                    let input = self.input(&mut progress, *chunk)?;
                    let (measured, in_flight) = self.forward(job, *chunk, input, None);
                    progress.keep(*chunk, measured, in_flight);
                }
                Action::Backward { chunk, defer_weights } => {
                    let gradient = self.gradient(&mut progress, *chunk)?;
                    let done = self.backward(job, *chunk, progress.take(*chunk)?, gradient);
                    match defer_weights {
                        true => progress.deferred.push_back((*chunk, done)),
                        false => self.accumulate(&mut progress, *chunk, done),
                    }
                }
                Action::Weights(chunk) => {
                    let (deferred, done) = progress
                        .deferred
                        .pop_front()
                        .context("invariant: weight gradients that wait")?;
                    debug_assert_eq!(deferred, *chunk);
                    self.accumulate(&mut progress, deferred, done);
                }
                Action::Overlapped { forward, backward } => {
                    self.overlapped(&mut progress, *forward, *backward)?
                }
                // Messages are sent as soon as there is something to send and waited for where they
                // are needed, which can only be earlier and later than the schedule's points of
                // exchange.
                Action::Exchange(_) => continue,
            }
            self.post.sign_of_life();
            spans.push(Span {
                action: planned.action.clone(),
                start,
                end: job.started.elapsed(),
                waited: progress.waited,
            });
        }
        let Progress { measured, mut gradients, .. } = progress;
        self.gradients = flat_gradients(&self.part, gradients.grads());
        let stages = measured
            .into_iter()
            .map(|(chunk, measured)| report(job, self.replica_batches(job), chunk, measured))
            .collect();
        Ok(RankReport { stages, spans })
    }

    /// A forward pass and a backward pass together: where experts are shared one computes while the
    /// other's rows are in flight.
    fn overlapped(&self, progress: &mut Progress, forward: Chunk, backward: Chunk) -> Result<()> {
        let job = progress.job;
        let input = self.input(progress, forward)?;
        let gradient = self.gradient(progress, backward)?;
        let in_flight = progress.take(backward)?;
        let ((measured, kept), done) = if self.experts.is_none() {
            let forward = self.forward(job, forward, input, None);
            (forward, self.backward(job, backward, in_flight, gradient))
        } else {
            let token = Arc::new(ComputeToken::default());
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new()
                    .name(format!("{THREAD}{}, forward", self.place.rank));
                let forward =
                    || token.holding(|| self.forward(job, forward, input, Some(token.clone())));
                let forward = thread
                    .spawn_scoped(scope, forward)
                    .context("the thread of a forward pass cannot be started")?;
                let done = token.holding(|| self.backward(job, backward, in_flight, gradient));
                Result::<_>::Ok((
                    forward.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    done,
                ))
            })?
        };
        progress.keep(forward, measured, kept);
        self.accumulate(progress, backward, done);
        Ok(())
    }

    /// Runs a stage forward and sends what comes out of it.
    fn forward(
        &self,
        job: &StepJob,
        chunk: Chunk,
        input: Option<Tensor<2>>,
        token: Option<Arc<ComputeToken>>,
    ) -> (Measured, InFlight) {
        let micro_batch = job.schedule.micro_batch(chunk);
        let stage = self.part.stage(&self.stages[chunk.stage]);
        let compute = match &self.experts {
            None => self.compute.clone(),
            Some(group) => self.compute.dispatching_with(Arc::new(ChunkExchange::new(
                group.clone(),
                micro_batch,
                token,
            ))),
        };
        let settings = ChunkSettings {
            compute,
            recompute: self.recompute,
            weights: &job.weights,
            device: &self.device,
        };
        let batch = self.replica_batches(job)[micro_batch].clone();
        let (output, measured, in_flight) = InFlight::forward(stage, input, batch, settings);
        if let Some(rows) = output {
            let next = chunk.stage + 1;
            self.send(
                self.rank_of(job, chunk, next),
                Subject::Activations { micro_batch, stage: next },
                rows,
            );
        }
        (measured, in_flight)
    }

    /// Runs a stage backward and sends what comes out of it.
    fn backward(
        &self,
        job: &StepJob,
        chunk: Chunk,
        in_flight: InFlight,
        gradient: Option<Tensor<2>>,
    ) -> Differentiated {
        let (input, done) = in_flight.backward(gradient, job.share);
        if let Some(rows) = input {
            let micro_batch = job.schedule.micro_batch(chunk);
            let previous = chunk.stage - 1;
            self.send(
                self.rank_of(job, chunk, previous),
                Subject::Gradients { micro_batch, stage: previous },
                rows,
            );
        }
        done
    }

    /// The rows that enter a stage; none at the first.
    fn input(&self, progress: &mut Progress, chunk: Chunk) -> Result<Option<Tensor<2>>> {
        if chunk.stage == 0 {
            return Ok(None);
        }
        let micro_batch = progress.job.schedule.micro_batch(chunk);
        let from = self.rank_of(progress.job, chunk, chunk.stage - 1);
        self.receive(progress, from, Subject::Activations { micro_batch, stage: chunk.stage })
            .map(Some)
    }

    /// The gradient of the rows that left a stage; none at the last.
    fn gradient(&self, progress: &mut Progress, chunk: Chunk) -> Result<Option<Tensor<2>>> {
        if self.stages[chunk.stage].ends {
            return Ok(None);
        }
        let micro_batch = progress.job.schedule.micro_batch(chunk);
        let from = self.rank_of(progress.job, chunk, chunk.stage + 1);
        self.receive(progress, from, Subject::Gradients { micro_batch, stage: chunk.stage })
            .map(Some)
    }

    /// Adds a micro-batch's gradients to those of the step.
    fn accumulate(&self, progress: &mut Progress, chunk: Chunk, done: Differentiated) {
        let (module, mut grads) = done.weight_gradients();
        let (first, last) = (chunk.stage == 0, self.stages[chunk.stage].ends);
        if let Some(id) = module.embed_tokens.as_ref().map(|embedding| embedding.weight.id)
            && first != last
        {
            let micro_batch = progress.job.schedule.micro_batch(chunk);
            if first {
                join(&mut grads, id, progress.embedding.remove(&micro_batch));
            } else if self.begins_too(progress.job, chunk)
                && let Some(gradient) = grads.remove::<2>(id)
            {
                progress.embedding.insert(micro_batch, gradient);
            }
        }
        progress.gradients.accumulate(&module, grads);
    }

    /// Whether this rank also has the first stage of the micro-batch that it has the last of.
    fn begins_too(&self, job: &StepJob, chunk: Chunk) -> bool {
        self.rank_of(job, chunk, 0) == self.place.rank
    }

    /// The rank that has a stage of a chunk's micro-batch.
    fn rank_of(&self, job: &StepJob, chunk: Chunk, stage: usize) -> usize {
        self.first_rank + job.schedule.rank_of(chunk, stage)
    }

    fn replica_batches<'a>(&self, job: &'a StepJob) -> &'a [TokenBatch] {
        &job.batches[self.first_rank / job.schedule.ranks]
    }

    fn send(&self, to: usize, subject: Subject, rows: Tensor<2>) {
        self.post.send(self.place.rank, to, subject, ops::moved(rows, &self.devices[to]));
    }

    fn receive(&self, progress: &mut Progress, from: usize, subject: Subject) -> Result<Tensor<2>> {
        let start = Instant::now();
        let rows = self.post.receive(from, self.place.rank, subject)?;
        progress.waited += start.elapsed();
        Ok(rows)
    }
}

impl Progress<'_> {
    fn keep(&mut self, chunk: Chunk, measured: Measured, in_flight: InFlight) {
        self.measured.push((chunk, measured));
        self.in_flight.insert((self.job.schedule.micro_batch(chunk), chunk.stage), in_flight);
    }

    fn take(&mut self, chunk: Chunk) -> Result<InFlight> {
        let key = (self.job.schedule.micro_batch(chunk), chunk.stage);
        self.in_flight
            .remove(&key)
            .with_context(|| format!("invariant: {chunk:?} has been run forward"))
    }
}

fn join(grads: &mut GradientsParams, id: ParamId, held: Option<Tensor<2>>) {
    let Some(held) = held else { return };
    let sum = match grads.remove::<2>(id) {
        Some(gradient) => held + gradient,
        None => held,
    };
    grads.register::<2>(id, sum);
}

/// Reads what a stage measured; waits for the device.
fn report(job: &StepJob, batches: &[TokenBatch], chunk: Chunk, measured: Measured) -> StageReport {
    let micro_batch = job.schedule.micro_batch(chunk);
    let Measured { main, mtp, balances, loads } = measured;
    let counts = (usize::from(main.is_some()), mtp.len());
    let scalars: Vec<Tensor<1>> = main.into_iter().chain(mtp).chain(balances).collect();
    let values: Vec<f32> = if scalars.is_empty() {
        Vec::new()
    } else {
        Tensor::cat(scalars, 0).into_data().iter::<f32>().collect()
    };
    let (main, rest) = values.split_at(counts.0);
    let (mtp, balances) = rest.split_at(counts.1);
    StageReport {
        micro_batch,
        main: main.first().copied(),
        mtp: mtp.to_vec(),
        balances: loads.iter().map(|load| load.layer).zip(balances.iter().copied()).collect(),
        loads,
        tokens: batches[micro_batch].tokens,
    }
}
