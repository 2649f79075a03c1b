//! The passes of a chunk on a rank, with the messages that they wait for and send.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;
use burn_deepseek::Compute;

use super::chunk::{ChunkSettings, Differentiated, InFlight, Measured};
use super::rank::Rank;
use super::step::{Progress, StepJob};
use crate::data::TokenBatch;
use crate::dualpipe::action::Chunk;
use crate::failure::Result;
use crate::parallel::{ChunkExchange, ExpertParallelGroup, Subject};

impl Rank {
    /// How a micro-batch is computed whose experts are shared with a group, if they are.
    pub fn compute_with(
        &self,
        experts: Option<&Arc<ExpertParallelGroup>>,
        micro_batch: usize,
    ) -> Compute {
        let exchange = experts.map(|group| ChunkExchange::new(group.clone(), micro_batch));
        match exchange {
            Some(exchange) => self.compute.with_expert_dispatch(Arc::new(exchange)),
            None => self.compute.clone(),
        }
    }

    /// Runs a stage forward and sends what comes out of it.
    pub fn forward(
        &self,
        job: &StepJob,
        chunk: Chunk,
        input: Option<Tensor<2>>,
    ) -> (Measured, InFlight) {
        let micro_batch = job.schedule.micro_batch(chunk);
        let stage = self.part.stage(&self.stages[chunk.stage]);
        let compute = self.compute_with(self.experts.as_ref(), micro_batch);
        let settings = ChunkSettings {
            compute,
            engine: self.settings,
            weights: &job.weights,
            device: &self.device,
        };
        let batch = self.batches(job)[micro_batch].clone();
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
    pub fn backward(
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
    pub fn input(&self, progress: &mut Progress, chunk: Chunk) -> Result<Option<Tensor<2>>> {
        if chunk.stage == 0 {
            return Ok(None);
        }
        let micro_batch = progress.job.schedule.micro_batch(chunk);
        let from = self.rank_of(progress.job, chunk, chunk.stage - 1);
        self.receive(progress, from, Subject::Activations { micro_batch, stage: chunk.stage })
            .map(Some)
    }

    /// The gradient of the rows that left a stage; none at the last.
    pub fn gradient(&self, progress: &mut Progress, chunk: Chunk) -> Result<Option<Tensor<2>>> {
        if self.stages[chunk.stage].ends {
            return Ok(None);
        }
        let micro_batch = progress.job.schedule.micro_batch(chunk);
        let from = self.rank_of(progress.job, chunk, chunk.stage + 1);
        self.receive(progress, from, Subject::Gradients { micro_batch, stage: chunk.stage })
            .map(Some)
    }

    /// The rank that has a stage of a chunk's micro-batch.
    pub fn rank_of(&self, job: &StepJob, chunk: Chunk, stage: usize) -> usize {
        self.first_rank + job.schedule.rank_of(chunk, stage)
    }

    /// The micro-batches of the rank's pipeline.
    pub fn batches<'a>(&self, job: &'a StepJob) -> &'a [TokenBatch] {
        &job.batches[self.first_rank / job.schedule.ranks]
    }

    fn send(&self, to: usize, subject: Subject, rows: Tensor<2>) {
        self.post.send(self.place.rank, to, subject, rows, &self.devices[to]);
    }

    fn receive(&self, progress: &mut Progress, from: usize, subject: Subject) -> Result<Tensor<2>> {
        let start = Instant::now();
        let rows = self.post.receive(from, self.place.rank, subject, &self.device)?;
        progress.waited += start.elapsed();
        Ok(rows)
    }
}
