//! One rank among those that measure the way between them. All of them make the same calls in the
//! same order, so that each message has its own subject.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::tensor::{Device, Tensor};

use super::super::Repetitions;
use super::super::table::median;
use crate::device::SelectedDevice;
use crate::failure::{Context, Result};
use crate::parallel::{Post, Processes, Subject};

/// A rank and those that measure with it.
pub(super) struct Party {
    pub post: Arc<Post>,
    pub rank: usize,
    pub ranks: usize,
    /// Consecutive ranks that are in one node.
    pub ranks_a_node: usize,
    pub selected: SelectedDevice,
    /// None where ranks are threads of this process.
    pub processes: Option<Arc<Processes>>,
    /// The number of the next subject.
    pub next: AtomicUsize,
}

impl Party {
    pub fn device(&self) -> &Device {
        &self.selected.device
    }

    /// Nodes that the ranks are in.
    pub fn nodes(&self) -> usize {
        self.ranks / self.ranks_a_node
    }

    /// So many numbers that nothing has been sent under.
    pub fn rounds(&self, count: usize) -> std::ops::Range<usize> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    /// The other ranks.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.rank;
        (0..self.ranks).filter(move |&other| other != rank)
    }

    pub fn send(&self, to: usize, subject: Subject, values: Tensor<1>) {
        self.post.send(self.rank, to, subject, values, self.device());
    }

    pub fn receive(&self, from: usize, subject: Subject) -> Result<Tensor<1>> {
        Ok(self.post.receive(from, self.rank, subject, self.device())?)
    }

    /// A number of each rank, on every rank; nobody goes on before all are here.
    pub fn all(&self, value: f64) -> Result<Vec<f64>> {
        let round = self.rounds(1).start;
        let own = Tensor::<1>::from_data([value as f32], self.device());
        for other in self.others() {
            self.send(other, Subject::Parameter(round), own.clone());
        }
        let value_of = |rank: usize| -> Result<f64> {
            if rank == self.rank {
                return Ok(value);
            }
            let value = self.receive(rank, Subject::Parameter(round))?;
            Ok(f64::from(value.into_scalar::<f32>()))
        };
        (0..self.ranks).map(value_of).collect()
    }

    /// The mean of what each rank has.
    pub fn mean(&self, value: f64) -> Result<f64> {
        Ok(self.all(value)?.iter().sum::<f64>() / self.ranks as f64)
    }

    /// Microseconds of something that all ranks do at the same time, which is given a number that
    /// nothing has been sent under: the slowest rank's median.
    pub fn timed(
        &self,
        reps: Repetitions,
        mut work: impl FnMut(usize) -> Result<()>,
    ) -> Result<f64> {
        let mut times = Vec::new();
        for rep in 0..reps.warmup.saturating_add(reps.timed) {
            let round = self.rounds(1).start;
            self.all(0.0)?;
            let begin = Instant::now();
            work(round)?;
            self.device().sync().context("the device cannot finish its work")?;
            if rep >= reps.warmup {
                times.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(self.all(median(&times))?.into_iter().fold(0.0, f64::max))
    }
}
