//! A step as a rank is given it, while it is under way, and what comes of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use burn_deepseek::LossWeights;
use burn_deepseek::backend::fp8::Casts;

use super::chunk::{Differentiated, InFlight, Measured};
use super::report::StageReport;
use super::routings::Chosen;
use super::sums::GradientSums;
use super::timeline::Span;
use crate::data::TokenBatch;
use crate::dualpipe::action::Chunk;
use crate::dualpipe::schedule::PipelineSchedule;
use crate::failure::{Context, Result};
use crate::parallel::{ExchangeBytes, Mail};

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
    /// Whether what takes time is measured, too.
    pub detailed: bool,
}

impl RankReport {
    /// What it came to, for the rank's log.
    pub fn describe(&self) -> String {
        let PassTimes { forward, backward, idle } = self.times;
        format!(
            "a step: {:.3} s forward, {:.3} s backward, {:.3} s idle, {:.3} s waiting for rows of \
             experts, {} bytes sent",
            forward.as_secs_f64(),
            backward.as_secs_f64(),
            idle.as_secs_f64(),
            self.mail.waited_for_experts.as_secs_f64(),
            self.mail.sent_bytes
        )
    }
}

/// What comes of a rank's step.
#[derive(Debug)]
pub(super) struct RankReport {
    pub stages: Vec<StageReport>,
    pub spans: Vec<Span>,
    pub times: PassTimes,
    /// What casts to FP8 did, in a detailed step.
    pub casts: Option<Casts>,
    /// What the rank sent and waited for.
    pub mail: Mail,
    /// What its routers chose, where somebody in another process asked.
    pub chosen: Vec<Chosen>,
    /// Bytes of its exchanges, where it counts its own.
    pub exchange: ExchangeBytes,
}

impl StepJob {
    /// The same step for the ranks of one pipeline, which need no other's micro-batches.
    pub fn of_pipeline(&self, pipeline: usize) -> Self {
        let own = |(number, batches): (usize, &Vec<TokenBatch>)| {
            if number == pipeline { batches.clone() } else { Vec::new() }
        };
        Self {
            batches: Arc::new(self.batches.iter().enumerate().map(own).collect()),
            ..self.clone()
        }
    }
}

/// What the time of a rank's passes went into.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PassTimes {
    /// In forward passes; where one overlaps with a backward pass, from its beginning to its end.
    pub forward: Duration,
    /// In backward passes.
    pub backward: Duration,
    /// In passes, with nothing to compute: rows of experts were on their way.
    pub idle: Duration,
}

/// A step under way.
pub(super) struct Progress<'a> {
    pub job: &'a StepJob,
    /// Forward passes that wait for their backward pass, by micro-batch and stage.
    in_flight: HashMap<(usize, usize), InFlight>,
    /// Backward passes whose weight gradients wait, the longest first.
    pub deferred: VecDeque<(Chunk, Differentiated)>,
    pub measured: Vec<(Chunk, Measured)>,
    pub gradients: GradientSums,
    /// Gradients of the embedding from the model's end, until its beginning's of the same
    /// micro-batch come: summed first, as in one graph.
    pub embedding: HashMap<usize, Tensor<2>>,
    /// How long the action has waited for messages.
    pub waited: Duration,
    pub times: PassTimes,
}

impl<'a> Progress<'a> {
    pub fn new(job: &'a StepJob) -> Self {
        Self {
            job,
            in_flight: HashMap::new(),
            deferred: VecDeque::new(),
            measured: Vec::new(),
            gradients: GradientSums::default(),
            embedding: HashMap::new(),
            waited: Duration::ZERO,
            times: PassTimes::default(),
        }
    }

    /// Keeps what a forward pass leaves.
    pub fn keep(&mut self, chunk: Chunk, measured: Measured, in_flight: InFlight) {
        self.measured.push((chunk, measured));
        self.in_flight.insert((self.job.schedule.micro_batch(chunk), chunk.stage), in_flight);
    }

    /// What the forward pass of a chunk has left.
    pub fn take(&mut self, chunk: Chunk) -> Result<InFlight> {
        let key = (self.job.schedule.micro_batch(chunk), chunk.stage);
        self.in_flight
            .remove(&key)
            .with_context(|| format!("invariant: {chunk:?} has been run forward"))
    }
}
