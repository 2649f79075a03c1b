//! One rank of a run that rank 0 leads from another process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::cluster::Cluster;
use super::holder::carry_out_packed;
use super::rank::{Rank, THREAD};
use super::rank_threads::{error_of, panics_of_ranks_are_told_once};
use super::start::Cut;
use crate::failure::{Context, Failure, Result};
use crate::learner::{AdamW, AdamWSettings, EngineSettings, LanguageModel};
use crate::parallel::{Processes, TrafficCounter};

/// One rank, in a process of its own, that does what rank 0 asks for.
#[derive(Debug)]
pub struct Follower {
    rank: Box<Rank>,
    processes: Arc<Processes>,
}

impl Follower {
    /// The rank of this process. `structure` is a model of the run's shapes, whatever its weights
    /// are; those come from rank 0. Of the cluster's ranks it is on its own one's device.
    ///
    /// # Errors
    ///
    /// A model with fewer layers than stages, a precision that the device does not have.
    pub fn new(
        processes: &Arc<Processes>,
        structure: LanguageModel,
        optimizer: AdamWSettings,
        cluster: &Cluster,
        settings: EngineSettings,
    ) -> Result<Self> {
        let traffic = Arc::new(TrafficCounter::default());
        let optimizer = AdamW::new(optimizer);
        let cut = Cut::new(&structure, cluster)?;
        let (number, post) = (processes.rank, &processes.post);
        let mut rank = cut.rank(number, &optimizer, cluster, settings, post, &traffic)?;
        rank.own_traffic = Some(traffic);
        Ok(Self { rank: Box::new(rank), processes: processes.clone() })
    }

    /// Does what rank 0 asks for until the run is over.
    ///
    /// # Errors
    ///
    /// No sign of life from rank 0 in `parallel.timeout_s`. What goes wrong with a task is told to
    /// rank 0, and is its to tell.
    pub fn run(self) -> Result<()> {
        panics_of_ranks_are_told_once();
        let Self { mut rank, processes } = self;
        let number = processes.rank;
        let work = move || -> Result<()> {
            while let Some(task) = processes.next_task()? {
                let done = catch_unwind(AssertUnwindSafe(|| carry_out_packed(&mut rank, &task)))
                    .unwrap_or_else(|panic| Err(error_of(panic)));
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
