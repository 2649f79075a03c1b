//! The windows of the text that a rank reads by itself: it is told their numbers.

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{DType, Int, Tensor};

use super::rank::Rank;
use super::step::StepJob;
use crate::data::{TokenBatch, TokenBatcher};
use crate::failure::Result;

impl Rank {
    /// A step whose micro-batches have been read; none where they were given with their tokens.
    pub fn read(&self, job: &StepJob) -> Result<Option<StepJob>> {
        let own = self.batches(job);
        if own.first().is_none_or(|batch| !batch.is_unread()) {
            return Ok(None);
        }
        let read = own.iter().map(|batch| self.read_batch(batch)).collect();
        let pipeline = self.first_rank / job.schedule.ranks;
        let mut batches = vec![Vec::new(); job.batches.len()];
        batches[pipeline] = read;
        Ok(Some(StepJob { batches: Arc::new(batches), ..job.clone() }))
    }

    /// A micro-batch by the numbers of its windows. A rank without an end of the model needs its
    /// shape alone.
    fn read_batch(&self, batch: &TokenBatch) -> TokenBatch {
        let samples = batch.windows.iter().map(|window| window.sample);
        let seq_len = self.settings.seq_len;
        match &self.text {
            Some(text) => TokenBatcher::new(seq_len)
                .batch(samples.map(|sample| text.window(sample)).collect(), &self.device),
            None => {
                let nothing = Tensor::<2, Int>::zeros(
                    [batch.windows.len(), seq_len],
                    (&self.device, DType::I64),
                );
                TokenBatch { inputs: nothing.clone(), targets: nothing, ..batch.clone() }
            }
        }
    }
}
