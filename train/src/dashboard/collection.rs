//! The runs in the folders shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::place::Place;
use super::refusal::Refusal;
use super::row::Row;
use super::run::{Run, id_of};
use crate::runs::{RunsError, is_run};

/// How long what was found in the folders is good for.
const FRESH: Duration = Duration::from_secs(1);
/// And how many times as long as finding it took.
const FRESH_TIMES: u32 = 20;

/// The runs in the folders shown.
#[derive(Debug)]
pub(super) struct Collection {
    places: Vec<Arc<Place>>,
    runs: Mutex<Runs>,
    /// Where this process trains.
    live: Option<String>,
}

#[derive(Debug, Default)]
struct Runs {
    /// By id.
    by_id: BTreeMap<String, Arc<Run>>,
    /// Ids in the order in which they were found.
    order: Vec<String>,
    /// When the folders were looked through last.
    found: Option<Instant>,
    /// How long looking through the folders took.
    took: Duration,
}

impl Collection {
    /// Runs in these folders, which are looked through when somebody asks; `live` is the folder of
    /// the run that this process trains.
    ///
    /// # Errors
    /// [`RunsError::NotFound`].
    pub fn new(folders: &[PathBuf], live: Option<&Path>) -> Result<Self, RunsError> {
        let places = folders.iter().map(|folder| Place::new(folder).map(Arc::new));
        let real = live.map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.into()));
        Ok(Self {
            places: places.collect::<Result<_, _>>()?,
            runs: Mutex::default(),
            live: real.map(|folder| id_of(&folder)),
        })
    }

    /// The folders, as they were named.
    pub fn folders(&self) -> Vec<String> {
        self.places.iter().map(|place| place.shown.display().to_string()).collect()
    }

    /// The run that this process trains.
    pub fn live(&self) -> Option<&str> {
        self.live.as_deref()
    }

    /// Looks through the folders and at every run.
    pub fn look(&self) {
        self.find(&mut self.runs());
        // Each run has a lock of its own: who asks for one need not wait for all.
        for run in self.all() {
            run.look();
        }
    }

    /// Looks through the folders, unless that was done a moment ago.
    fn find(&self, runs: &mut Runs) {
        let patience = FRESH.max(runs.took * FRESH_TIMES);
        if runs.found.is_some_and(|at| at.elapsed() < patience) {
            return;
        }
        let begun = Instant::now();
        let (mut by_id, mut order) = (BTreeMap::new(), Vec::new());
        for place in &self.places {
            for folder in place.runs() {
                let id = id_of(&folder);
                if by_id.contains_key(&id) {
                    continue;
                }
                let known = runs.by_id.remove(&id);
                let run = known.unwrap_or_else(|| Arc::new(Run::new(folder, place.clone())));
                order.push(id.clone());
                by_id.insert(id, run);
            }
        }
        for gone in runs.by_id.values() {
            gone.look(); // tells those who follow it
        }
        (runs.by_id, runs.order) = (by_id, order);
        (runs.found, runs.took) = (Some(Instant::now()), begun.elapsed());
    }

    /// All runs, as they were found last.
    pub fn all(&self) -> Vec<Arc<Run>> {
        let runs = self.runs();
        runs.order.iter().filter_map(|id| runs.by_id.get(id).cloned()).collect()
    }

    /// The rows of all runs, as they were found last.
    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.all().iter().map(|run| run.row()).collect()
    }

    /// The run of an id, looked at again.
    ///
    /// # Errors
    /// There is none, or its folder has gone.
    pub fn run(&self, id: &str) -> Result<Arc<Run>, Refusal> {
        let known = || self.runs().by_id.get(id).cloned();
        let run = match known() {
            Some(run) => Some(run),
            None => {
                self.find(&mut self.runs());
                known()
            }
        };
        let run = run.filter(|run| is_run(&run.folder));
        let run = run.ok_or_else(|| Refusal::not_found("run"))?;
        run.look();
        Ok(run)
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
