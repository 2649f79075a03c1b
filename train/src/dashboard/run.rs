//! One run: what is known of it, brought up to date where its files have changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use burn_deepseek::weights::{SETTINGS_BYTES, open_regular, read_regular_text};
use serde::Deserialize;
use tokio::sync::broadcast;

use super::configured::Configured;
use super::decimate::evenly;
use super::index::{Index, Lines, Looked};
use super::news::{News, Range};
use super::numbers::{Numbers, finite};
use super::place::Place;
use super::refusal::Refusal;
use super::row::{Alerts, Known, Read, Row, SPARKS};
use crate::checkpoint::RUN_FILE;
use crate::durable::temporary_of;
use crate::failure::{Context, Result};
use crate::record::RunState;
use crate::record::{AlertLevel, METRICS_FILE};
use crate::run_lock::RunLock;
use crate::runs::{LABELS_FILE, Labels};

/// What followers of a run may fall behind by, in pieces of news, before they read for themselves.
const BEHIND: usize = 16;

/// A run in one of the folders shown.
#[derive(Debug)]
pub(super) struct Run {
    /// What it is called in addresses: twelve digits, the same for the same folder.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    pub name: String,
    /// Its folder as it is shown.
    pub shown: String,
    place: Arc<Place>,
    known: Mutex<Found>,
    /// What is told to those who follow it.
    pub news: broadcast::Sender<News>,
}

/// What was found of a run.
#[derive(Debug, Default)]
struct Found {
    config: Option<(Stamp, Result<Arc<Configured>, String>)>,
    labels: Option<(Stamp, Result<Labels, String>)>,
    index: Index,
    /// Why the record cannot be read.
    record_problem: Option<String>,
    last: Last,
    row: Option<Arc<Row>>,
    /// The row that was told last.
    told: Option<Arc<Row>>,
}

/// When a file was written and how long it is; none where there is none.
type Stamp = Option<(SystemTime, u64)>;

/// What of the last step's line a table has.
#[derive(Debug, Default, Deserialize)]
struct Last {
    step: u64,
    elapsed_seconds: Option<f64>,
    samples: Option<u64>,
    tokens: Option<u64>,
    loss: Option<f64>,
    tokens_per_second: Option<f64>,
}

impl Run {
    /// A run of which nothing is known yet.
    pub fn new(folder: PathBuf, place: Arc<Place>) -> Self {
        Self {
            id: id_of(&folder),
            name: place.name_of(&folder),
            shown: place.shown_of(&folder).display().to_string(),
            folder,
            place,
            known: Mutex::default(),
            news: broadcast::channel(BEHIND).0,
        }
    }

    /// Looks at its files, and tells its followers what is new.
    pub fn look(&self) -> Arc<Row> {
        let mut found = self.found();
        found.config = Some(self.config(found.config.take()));
        found.labels = Some(self.labels(found.labels.take()));
        let looked = match self.record().and_then(|file| found.index.look(file)) {
            Ok(looked) => {
                found.record_problem = None;
                looked
            }
            Err(error) => {
                found.record_problem = Some(format!("{}: {error}", self.shown_file(METRICS_FILE)));
                Looked::default()
            }
        };
        if looked.is_news() {
            found.last = self.last(&found.index).unwrap_or_default();
        }
        let row = Arc::new(self.row_of(&found));
        found.row = Some(row.clone());
        self.tell(&looked, &found);
        row
    }

    fn tell(&self, looked: &Looked, found: &Found) {
        if self.news.receiver_count() == 0 {
            return;
        }
        // Where the last follower has just left there is nobody to tell.
        if looked.rewound {
            let _ = self.news.send(News::Rewound);
        } else if looked.added.1 > looked.added.0 {
            let range = Range { from: looked.added.0, to: found.index.offset() };
            match self.lines_in(range) {
                Ok(Some(added)) => drop(self.news.send(News::Lines(Arc::new(added)))),
                // Whoever follows has to load it again.
                Ok(None) | Err(_) => drop(self.news.send(News::Rewound)),
            }
        }
    }

    /// Its row, where that has changed since this was asked last.
    pub fn changed_row(&self) -> Option<Arc<Row>> {
        let mut found = self.found();
        let row = found.row.clone();
        if row == found.told {
            return None;
        }
        found.told.clone_from(&row);
        row
    }

    /// Its row as it was when its files were looked at last.
    pub fn row(&self) -> Arc<Row> {
        let row = self.found().row.clone();
        row.unwrap_or_else(|| self.look())
    }

    /// Its configuration.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn configured(&self) -> Result<Arc<Configured>, Refusal> {
        let found = self.found();
        match &found.config {
            Some((_, Ok(config))) => Ok(config.clone()),
            Some((_, Err(problem))) => Err(Refusal::unreadable(problem.clone())),
            None => Err(Refusal::not_found("run")),
        }
    }

    /// What a function makes of the index of its record, and of the lines.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn read<T>(&self, of: impl FnOnce(&Index) -> T) -> Result<(T, Option<Lines>), Refusal> {
        let found = self.found();
        if let Some(problem) = &found.record_problem {
            return Err(Refusal::unreadable(problem.clone()));
        }
        let file = self.record().with_context(|| self.shown_file(METRICS_FILE))?;
        Ok((of(&found.index), file.map(Lines::new)))
    }

    /// Where one of its files is.
    ///
    /// # Errors
    /// It is not there, or is a link that leads out of the folders shown.
    pub fn inside(&self, name: &str) -> io::Result<PathBuf> {
        self.place.inside(&self.folder.join(name))
    }

    /// Changes what people have written on it.
    ///
    /// # Errors
    /// A tag or a note that is too long; a file that cannot be written.
    pub fn label(&self, change: impl FnOnce(&mut Labels)) -> Result<(), Refusal> {
        let _alone = self.found(); // two changes at a time do not lose one
        let mut labels = self.read_labels()?;
        change(&mut labels);
        // What is written goes through a file beside it.
        let temporary = temporary_of(&self.folder.join(LABELS_FILE));
        if temporary.is_symlink() {
            let problem = format!("{}: is a link", temporary.display());
            return Err(Refusal::unreadable(problem));
        }
        Ok(labels.write(&self.folder)?)
    }

    /// The record, where there is one.
    pub fn record(&self) -> io::Result<Option<File>> {
        match self.inside(METRICS_FILE).and_then(|path| open_regular(&path)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown_file(&self, name: &str) -> String {
        Path::new(&self.shown).join(name).display().to_string()
    }

    fn stamp(&self, name: &str) -> Stamp {
        let metadata = self.folder.join(name).metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn config(
        &self,
        known: Option<(Stamp, Result<Arc<Configured>, String>)>,
    ) -> (Stamp, Result<Arc<Configured>, String>) {
        let stamp = self.stamp(RUN_FILE);
        match known {
            Some((at, config)) if at == stamp && stamp.is_some() => (at, config),
            _ => {
                let read = || -> Result<Configured> {
                    let text = self
                        .inside(RUN_FILE)
                        .and_then(|path| read_regular_text(&path, SETTINGS_BYTES))
                        .with_context(|| self.shown_file(RUN_FILE))?;
                    Configured::read(&text, &self.shown_file(RUN_FILE))
                };
                (stamp, read().map(Arc::new).map_err(|error| format!("{error:#}")))
            }
        }
    }

    fn labels(
        &self,
        known: Option<(Stamp, Result<Labels, String>)>,
    ) -> (Stamp, Result<Labels, String>) {
        let stamp = self.stamp(LABELS_FILE);
        match known {
            Some((at, labels)) if at == stamp => (at, labels),
            _ => (stamp, self.read_labels().map_err(|error| format!("{error:#}"))),
        }
    }

    fn read_labels(&self) -> Result<Labels> {
        match self.inside(LABELS_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.shown_file(LABELS_FILE))
            }
            _ => Labels::read(&self.folder),
        }
    }

    fn last(&self, index: &Index) -> Option<Last> {
        let spot = index.steps.last()?.spot;
        let mut lines = Lines::new(self.record().ok()??);
        serde_json::from_slice(lines.line(spot).ok()?).ok()
    }

    fn row_of(&self, found: &Found) -> Row {
        let unread =
            |problem: &String| Row::unread(&self.id, &self.name, &self.shown, problem.clone());
        let config = match &found.config {
            Some((_, Ok(config))) => config,
            Some((_, Err(problem))) => return unread(problem),
            None => return unread(&"it has not been read yet".into()),
        };
        let labels = match &found.labels {
            Some((_, Ok(labels))) => labels.clone(),
            Some((_, Err(problem))) => return unread(problem),
            None => Labels::default(),
        };
        if let Some(problem) = &found.record_problem {
            return unread(problem);
        }
        let (index, last) = (&found.index, &found.last);
        let state = self.state(index, last, config.planned_steps);
        let best = index
            .evaluations
            .iter()
            .filter(|line| line.valid_loss.is_finite())
            .min_by(|a, b| a.valid_loss.total_cmp(&b.valid_loss));
        let mut alerts = Alerts::default();
        for alert in &index.alerts {
            *match alert.level {
                AlertLevel::Info => &mut alerts.info,
                AlertLevel::Warning => &mut alerts.warning,
                AlertLevel::Error => &mut alerts.error,
            } += 1;
        }
        let left = config.planned_steps.saturating_sub(last.step) as f64;
        let seconds_left = last
            .elapsed_seconds
            .filter(|_| state == RunState::Training && last.step > 0)
            .map(|seconds| seconds / last.step as f64 * left);
        let losses = evenly(index.steps.len(), SPARKS);
        let losses = losses.into_iter().map(|at| f64::from(index.steps[at].loss)).collect();
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let read = Read {
            state: state.name(),
            step: last.step,
            planned_steps: config.planned_steps,
            tokens: last.tokens,
            samples: last.samples,
            loss: last.loss,
            valid_loss: index.evaluations.last().and_then(|line| finite(line.valid_loss)),
            best_valid_loss: best.map(|line| line.valid_loss),
            best_step: best.map(|line| line.spot.step),
            tokens_per_second: last.tokens_per_second.map(|speed| {
                state.speed(speed, last.tokens.unwrap_or(0), last.elapsed_seconds.unwrap_or(0.0))
            }),
            seconds_left,
            elapsed_seconds: last.elapsed_seconds,
            started: text(&index.begun),
            updated: text(&index.updated),
            model: config.model.clone(),
            parameters: config.parameters,
            format: match config.config.precision.precision().name() {
                "f32" => "fp32",
                name => name,
            },
            changed: config.changed.clone(),
            tags: labels.tags,
            note: labels.note,
            archived: labels.archived,
            alerts,
            unreadable_lines: index.unreadable,
            sparkline: Numbers(losses),
        };
        Row {
            id: self.id.clone(),
            name: self.name.clone(),
            folder: self.shown.clone(),
            of: Known::Read(read.into()),
        }
    }

    fn state(&self, index: &Index, last: &Last, planned_steps: u64) -> RunState {
        let evaluated = index.evaluations.last().map_or(0, |line| line.spot.step);
        let diverged = index.alerts.iter().any(|alert| alert.diverged);
        let is_trained = RunLock::is_taken(&self.folder);
        RunState::of(is_trained, diverged, last.step, evaluated, planned_steps)
    }
}

/// What a run in a folder is called.
pub(super) fn id_of(folder: &Path) -> String {
    let digest = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    digest.as_str()[..12].to_owned()
}
