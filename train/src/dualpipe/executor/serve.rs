//! The ranks of this process, of a run that rank 0 leads from another one.

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

/// The ranks of this process, which do what rank 0 asks for, each on a thread.
#[derive(Debug)]
pub struct Follower {
    ranks: Vec<Rank>,
    processes: Arc<Processes>,
}

impl Follower {
    /// The ranks of this process. Of the cluster's ranks they are on their own ones' devices.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that a device does not have, weights that
    /// cannot be read.
    pub fn new(
        processes: &Arc<Processes>,
        own: Vec<OwnPart>,
        cluster: &Cluster,
        settings: EngineSettings,
    ) -> Result<Self> {
        let rank = |(number, own): (usize, OwnPart)| {
            let traffic = Arc::new(TrafficCounter::default());
            let mut rank = own_rank(number, own, processes, cluster, settings, &traffic)?;
            rank.own_traffic = Some(traffic);
            Ok(rank)
        };
        let ranks = processes.own().zip(own).map(rank).collect::<Result<_>>()?;
        Ok(Self { ranks, processes: processes.clone() })
    }

    /// What each rank holds, in words.
    pub fn describe(&self) -> Vec<String> {
        self.ranks.iter().map(held_by).collect()
    }

    /// Does what rank 0 asks for until the run is over; `say` is given what there is to say of it,
    /// with the rank's place in this process.
    ///
    /// # Errors
    ///
    /// No sign of life from rank 0 in `parallel.timeout_s`. What goes wrong with a task is told to
    /// rank 0, and is its to tell.
    pub fn run(self, say: impl Fn(usize, &str) + Send + Sync + 'static) -> Result<()> {
        panics_of_ranks_are_told_once();
        let say = Arc::new(say);
        let start = |(place, rank): (usize, Rank)| {
            let (processes, say) = (self.processes.clone(), say.clone());
            let say = move |text: &str| say(place, &(text.to_owned() + &peak_memory::describe()));
            std::thread::Builder::new()
                .name(format!("{THREAD}{}", rank.place.rank))
                .spawn(move || serve(rank, &processes, say))
                .context("a rank's thread cannot be started")
        };
        let threads = self.ranks.into_iter().enumerate().map(start).collect::<Result<Vec<_>>>()?;
        let outcomes = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::new("a rank's thread has stopped")))
        });
        // All of them end before one's failure is told.
        outcomes.collect::<Vec<_>>().into_iter().collect()
    }
}

/// Has a rank do what rank 0 asks for until the run is over.
fn serve(mut rank: Rank, processes: &Processes, say: impl Fn(&str)) -> Result<()> {
    let number = rank.place.rank;
    while let Some(task) = processes.next_task(number)? {
        let done = catch_unwind(AssertUnwindSafe(|| carry_out_packed(&mut rank, &task, &say)))
            .unwrap_or_else(|panic| Err(error_of(panic)));
        if let Err(failure) = &done {
            say(&format!("failed: {}", line_of(failure)));
        }
        processes.answer(number, done);
    }
    Ok(())
}

/// What a rank holds, in words.
fn held_by(rank: &Rank) -> String {
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
