//! Streams of events: rows that changed, and the lines that a run adds to its record.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::dashboard::asked::{Asked, OfRun};
use crate::dashboard::house::{Changes, House, blocking};
use crate::dashboard::index::Index;
use crate::dashboard::news::{News, Range};
use crate::dashboard::offset::Offset;
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;

/// How long a stream may be silent before it says that it lives.
const SILENCE: Duration = Duration::from_secs(15);
/// Events that wait for a reader; more wait where they come from.
const WAITING: usize = 2;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/events", get(of_all)).route("/api/runs/{id}/events", get(of_run))
}

/// Whoever reads a stream has left.
struct Left;

impl<T> From<tokio::sync::mpsc::error::SendError<T>> for Left {
    fn from(_: tokio::sync::mpsc::error::SendError<T>) -> Self {
        Self
    }
}

/// A stream's end where events go in.
struct Teller {
    events: Sender<Event>,
    /// Its place among the streams.
    _place: OwnedSemaphorePermit,
}

impl Teller {
    /// A stream, and its answer.
    fn new(house: &House) -> Result<(Self, Response), Refusal> {
        let place = house.streams.clone().try_acquire_owned().map_err(|_| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "there are too many streams of events")
        })?;
        let (events, received) = channel::<Event>(WAITING);
        let events_out = stream::unfold(received, |mut received| async {
            received.recv().await.map(|event| (Ok::<_, Infallible>(event), received))
        });
        let answer = Sse::new(events_out).keep_alive(KeepAlive::new().interval(SILENCE));
        Ok((Self { events, _place: place }, answer.into_response()))
    }

    async fn tell(&self, event: Event) -> Result<(), Left> {
        Ok(self.events.send(event).await?)
    }

    /// What comes next, unless the reader leaves before.
    async fn next<T: Clone>(
        &self,
        news: &mut broadcast::Receiver<T>,
    ) -> Result<Result<T, RecvError>, Left> {
        tokio::select! {
            () = self.events.closed() => Err(Left),
            next = news.recv() => Ok(next),
        }
    }
}

fn event<T: Serialize>(name: &str, data: &T) -> Event {
    // What is told has a form: its maps have keys of text.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

async fn of_all(State(house): State<Arc<House>>) -> Result<Response, Refusal> {
    let (teller, answer) = Teller::new(&house)?;
    tokio::spawn(async move {
        // Whoever has left is told nothing more.
        let _ = tell_all(&house, &teller).await;
    });
    Ok(answer)
}

async fn tell_all(house: &Arc<House>, teller: &Teller) -> Result<(), Left> {
    let mut changes = house.changes.subscribe();
    loop {
        // At first, and after a reader was too slow, all rows are told.
        let of = house.clone();
        let rows = blocking(move || {
            of.runs.look();
            Ok(of.runs.rows().iter().map(|row| (**row).clone()).collect())
        });
        if let Ok(runs) = rows.await {
            teller.tell(event("runs", &Changes { runs, removed: Vec::new() })).await?;
        }
        loop {
            match teller.next(&mut changes).await? {
                Ok(changed) => teller.tell(event("runs", &*changed)).await?,
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Wanted {
    after: Option<String>,
}

async fn of_run(
    State(house): State<Arc<House>>,
    OfRun(run): OfRun,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // A browser that comes again says how far it was.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let after = match last.or(wanted.after) {
        None => None,
        Some(text) => Some(text.parse::<Offset>().map_err(|()| {
            Refusal::wrong("after must be an offset as the series of a run has it")
        })?),
    };
    let (teller, answer) = Teller::new(&house)?;
    tokio::spawn(async move {
        let _ = follow(&run, after, &teller).await;
    });
    Ok(answer)
}

/// Where a reader stands that is told what a run adds.
enum Stand {
    /// After these bytes.
    At(u64),
    /// What it knows is no part of the record any more.
    Lost,
}

async fn follow(run: &Arc<Run>, after: Option<Offset>, teller: &Teller) -> Result<(), Left> {
    let mut news = run.news.subscribe();
    teller.tell(event("state", &*run.row())).await?;
    let mut at = match caught_up(run, after, teller).await? {
        Stand::At(bytes) => bytes,
        Stand::Lost => lost(run, teller).await?,
    };
    loop {
        match teller.next(&mut news).await? {
            Ok(News::Row(row)) => teller.tell(event("state", &*row)).await?,
            Ok(News::Lines(added)) if added.from == at => {
                at = added.to.bytes;
                teller.tell(lines(&added.json, added.to)).await?;
            }
            // Told already, when this reader caught up.
            Ok(News::Lines(added)) if added.to.bytes <= at => {}
            Ok(News::Lines(_) | News::Rewound) => at = lost(run, teller).await?,
            Err(RecvError::Lagged(_)) => {
                // What was missed may have been a rewinding.
                news = news.resubscribe();
                at = lost(run, teller).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Tells a reader to load the run again; from then on it is told what is added. That begins before
/// it is told: what comes in while it loads must not be taken for known. So lines that it has loaded
/// may come once more, which their offset says.
async fn lost(run: &Arc<Run>, teller: &Teller) -> Result<u64, Left> {
    let of = run.clone();
    let now = blocking(move || of.read(|index| index.offset().bytes)).await;
    teller.tell(event("rewound", &())).await?;
    Ok(now.map_or(0, |(bytes, _)| bytes))
}

/// Tells what was added since a reader read.
async fn caught_up(run: &Arc<Run>, after: Option<Offset>, teller: &Teller) -> Result<Stand, Left> {
    let of = run.clone();
    let read = blocking(move || {
        let (now, _) = of.read(Index::offset)?;
        let Some(after) = after else { return Ok((now, None, true)) };
        let known = match of.record()? {
            Some(mut file) => after.is_in(&mut file)?,
            None => after.bytes == 0,
        };
        if !known || now.bytes < after.bytes {
            return Ok((now, None, false));
        }
        let added = of.lines_in(Range { from: after.bytes, to: now })?;
        Ok((now, added, true))
    });
    match read.await {
        Ok((now, Some(added), true)) => {
            if added.to.bytes > added.from {
                teller.tell(lines(&added.json, now)).await?;
            }
            Ok(Stand::At(now.bytes))
        }
        Ok((now, None, true)) if after.is_none() => Ok(Stand::At(now.bytes)),
        Ok(_) | Err(_) => Ok(Stand::Lost),
    }
}

fn lines(json: &str, to: Offset) -> Event {
    Event::default().event("lines").id(to.to_string()).data(json)
}
