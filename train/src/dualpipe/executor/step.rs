//! A step as a rank is given it, while it is under way, and what comes of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::optim::GradientsAccumulator;
use burn::tensor::Tensor;
use burn_deepseek::{LossWeights, ModelPart};

use super::chunk::{Differentiated, InFlight, Measured};
use super::report::StageReport;
use crate::data::TokenBatch;
use crate::dualpipe::action::{Action, Chunk};
use crate::dualpipe::schedule::PipelineSchedule;
use crate::failure::{Context, Result};

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
    /// The part of it in which messages were waited for.
    pub waited: Duration,
}

/// What comes of a rank's step.
#[derive(Debug)]
pub(super) struct RankReport {
    pub stages: Vec<StageReport>,
    pub spans: Vec<Span>,
}

/// A step under way.
pub(super) struct Progress<'a> {
    pub job: &'a StepJob,
    /// Forward passes that wait for their backward pass, by micro-batch and stage.
    in_flight: HashMap<(usize, usize), InFlight>,
    /// Backward passes whose weight gradients wait, the longest first.
    pub deferred: VecDeque<(Chunk, Differentiated)>,
    pub measured: Vec<(Chunk, Measured)>,
    pub gradients: GradientsAccumulator<ModelPart>,
    /// Gradients of the embedding from the model's end, until its beginning's of the same
    /// micro-batch come: summed first, as in one graph.
    pub embedding: HashMap<usize, Tensor<2>>,
    /// How long the action has waited for messages.
    pub waited: Duration,
}

impl<'a> Progress<'a> {
    pub fn new(job: &'a StepJob) -> Self {
        Self {
            job,
            in_flight: HashMap::new(),
            deferred: VecDeque::new(),
            measured: Vec::new(),
            gradients: GradientsAccumulator::new(),
            embedding: HashMap::new(),
            waited: Duration::ZERO,
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
