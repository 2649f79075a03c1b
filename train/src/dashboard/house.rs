//! What all requests share: the runs, who follows them, and who is let in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{MissedTickBehavior, interval};

use super::collection::Collection;
use super::door::Door;
use super::news::News;
use super::refusal::Refusal;
use super::row::Row;

/// How often files are looked at while somebody watches.
const EVERY: Duration = Duration::from_secs(1);
/// Looks from one telling of changed rows to the next.
const ROWS_EVERY: u64 = 2;
/// Tellings that somebody may fall behind by.
const BEHIND: usize = 8;
/// Streams of events at a time.
const STREAMS: usize = 64;

/// What all requests share.
#[derive(Debug)]
pub(super) struct House {
    pub runs: Collection,
    pub door: Door,
    /// Rows that changed, told to every page of runs.
    pub changes: broadcast::Sender<Arc<Changes>>,
    /// Places for streams of events.
    pub streams: Arc<Semaphore>,
    /// Rows as they were told last, by id.
    told: Mutex<BTreeMap<String, Arc<Row>>>,
}

/// Rows that changed since the last telling.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub(super) struct Changes {
    pub runs: Vec<Row>,
    pub removed: Vec<String>,
}

impl House {
    pub fn new(runs: Collection, door: Door) -> Self {
        Self {
            runs,
            door,
            changes: broadcast::channel(BEHIND).0,
            streams: Arc::new(Semaphore::new(STREAMS)),
            told: Mutex::default(),
        }
    }

    /// Looks at the files of runs as long as somebody watches, once for all of them.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            ticks.tick().await;
            let house = self.clone();
            // A look that panics has said so, and the next one comes.
            let _ = tokio::task::spawn_blocking(move || house.look(tick)).await;
        }
    }

    fn look(&self, tick: u64) {
        let with_rows = tick.is_multiple_of(ROWS_EVERY);
        if with_rows && self.changes.receiver_count() > 0 {
            self.runs.look();
            let changes = self.changed();
            if changes != Changes::default() {
                // Where the last watcher has just left there is nobody to tell.
                let _ = self.changes.send(Arc::new(changes));
            }
        }
        for run in self.runs.all() {
            if run.news.receiver_count() == 0 {
                continue;
            }
            run.look();
            if with_rows && let Some(row) = run.changed_row() {
                let _ = run.news.send(News::Row(row));
            }
        }
    }

    /// What has changed since this was asked last.
    fn changed(&self) -> Changes {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        let mut changes = Changes::default();
        for row in self.runs.rows() {
            let before = told.remove(&row.id);
            if before.is_none_or(|before| before != row) {
                changes.runs.push(Row::clone(&row));
            }
            now.insert(row.id.clone(), row);
        }
        changes.removed = std::mem::replace(&mut *told, now).into_keys().collect();
        changes
    }
}

/// What a function that reads files makes, away from the threads that serve.
///
/// # Errors
/// Its own.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
        let problem = "the server has failed at this; its own output says where";
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, problem))
    })
}
