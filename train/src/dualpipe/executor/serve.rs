//! One rank of a run that rank 0 leads from another process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::cluster::Cluster;
use super::holder::carry_out_packed;
use super::own::{OwnPart, own_rank};
use super::rank::{Rank, THREAD};
use super::rank_threads::{error_of, panics_of_ranks_are_told_once};
use crate::failure::{Context, Failure, Result, line_of};
use crate::learner::EngineSettings;
use crate::parallel::{Processes, TrafficCounter};
use crate::peak_memory;

/// One rank, in a process of its own, that does what rank 0 asks for.
#[derive(Debug)]
pub struct Follower {
    rank: Box<Rank>,
    processes: Arc<Processes>,
}

impl Follower {
    /// The rank of this process. Of the cluster's ranks it is on its own one's device.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that the device does not have, weights
    /// that cannot be read.
    pub fn new(
        processes: &Arc<Processes>,
        own: OwnPart,
        cluster: &Cluster,
        settings: EngineSettings,
    ) -> Result<Self> {
        let traffic = Arc::new(TrafficCounter::default());
        let mut rank = own_rank(own, processes, cluster, settings, &traffic)?;
        rank.own_traffic = Some(traffic);
        Ok(Self { rank: Box::new(rank), processes: processes.clone() })
    }

    /// What the rank holds, in words.
    pub fn describe(&self) -> String {
        let rank = &self.rank;
        let place = rank.place;
        let held = rank.shards.held_by(place.rank).map(|shard| shard.elements.len());
        let owned = rank.shards.owned_by(place.rank).map(|shard| shard.elements.len());
        format!(
            "place {} of the pipeline, {} of those that share experts, {} of the copies: holds {} \
             parameters and owns {}",
            place.pipeline,
            place.expert,
            place.data,
            held.sum::<usize>(),
            owned.sum::<usize>()
        )
    }

    /// Does what rank 0 asks for until the run is over; `say` is given what there is to say of it.
    ///
    /// # Errors
    ///
    /// No sign of life from rank 0 in `parallel.timeout_s`. What goes wrong with a task is told to
    /// rank 0, and is its to tell.
    pub fn run(self, say: impl Fn(&str) + Send + 'static) -> Result<()> {
        panics_of_ranks_are_told_once();
        let Self { mut rank, processes } = self;
        let number = processes.rank;
        let say = move |text: &str| say(&(text.to_owned() + &peak_memory::describe()));
        let work = move || -> Result<()> {
            while let Some(task) = processes.next_task()? {
                let done =
                    catch_unwind(AssertUnwindSafe(|| carry_out_packed(&mut rank, &task, &say)))
                        .unwrap_or_else(|panic| Err(error_of(panic)));
                if let Err(failure) = &done {
                    say(&format!("failed: {}", line_of(failure)));
                }
                processes.answer(done);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name(format!("{THREAD}{number}"))
            .spawn(work)
            .context("the rank's thread cannot be started")?;
        thread.join().unwrap_or_else(|_| Err(Failure::new("the rank's thread has stopped")))
    }
}
