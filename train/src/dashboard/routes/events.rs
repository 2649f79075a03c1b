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
use tokio::sync::mpsc::{Receiver, Sender, channel};
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
        Ok((Self { events, _place: place }, answer_of(received)))
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

/// The answer that carries what comes out of a stream.
fn answer_of(received: Receiver<Event>) -> Response {
    let events = stream::unfold(received, |mut received| async {
        received.recv().await.map(|event| (Ok::<_, Infallible>(event), received))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(SILENCE)).into_response()
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

async fn follow(run: &Arc<Run>, after: Option<Offset>, teller: &Teller) -> Result<(), Left> {
    let mut news = run.news.subscribe();
    teller.tell(event("state", &*run.row())).await?;
    let mut at = now_at(run, after, teller).await?;
    loop {
        match teller.next(&mut news).await? {
            Ok(News::Row(row)) => teller.tell(event("state", &*row)).await?,
            Ok(News::Lines(added)) if added.from == at.bytes => {
                at = added.to;
                teller.tell(lines(&added.json, added.to)).await?;
            }
            // Told already, when this reader caught up.
            Ok(News::Lines(added)) if added.to.bytes <= at.bytes => {}
            Ok(News::Rewound) => at = lost(run, teller).await?,
            Ok(News::Lines(_)) => at = now_at(run, Some(at), teller).await?,
            // What was missed is in the record, and may have been a row or a rewinding.
            Err(RecvError::Lagged(_)) => {
                news = news.resubscribe();
                teller.tell(event("state", &*run.row())).await?;
                at = now_at(run, Some(at), teller).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Where a reader stands once it has been told what was added since it read, or to load the run
/// again where what it read is not there.
async fn now_at(run: &Arc<Run>, after: Option<Offset>, teller: &Teller) -> Result<Offset, Left> {
    match caught_up(run, after, teller).await? {
        Some(offset) => Ok(offset),
        None => lost(run, teller).await,
    }
}

/// Tells a reader to load the run again; from then on it is told what is added. That begins before
/// it is told: what comes in while it loads must not be taken for known. So lines that it has loaded
/// may come once more, which their offset says.
async fn lost(run: &Arc<Run>, teller: &Teller) -> Result<Offset, Left> {
    let of = run.clone();
    let now = blocking(move || of.read(Index::offset)).await;
    teller.tell(event("rewound", &())).await?;
    Ok(now.map_or_else(|_| Offset::default(), |(offset, _)| offset))
}

/// Tells what was added since a reader read, and up to where; none where what it knows is no part of
/// the record any more.
async fn caught_up(
    run: &Arc<Run>,
    after: Option<Offset>,
    teller: &Teller,
) -> Result<Option<Offset>, Left> {
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
            Ok(Some(now))
        }
        Ok((now, None, true)) if after.is_none() => Ok(Some(now)),
        Ok(_) | Err(_) => Ok(None),
    }
}

fn lines(json: &str, to: Offset) -> Event {
    Event::default().event("lines").id(to.to_string()).data(json)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use futures_util::StreamExt;
    use serde_json::Value;

    use super::*;
    use crate::dashboard::place::Place;
    use crate::record::{Line, METRICS_FILE, Stamp, StepLine, VERSION};

    /// News that come while a reader stands still: more than is kept for it.
    const NEWS: u64 = 60;

    fn add(run: &Run, number: u64) {
        let stamp = Stamp { version: VERSION, step: number, ..Stamp::default() };
        let line = Line::Step(StepLine { stamp, ..StepLine::default() });
        let path = run.folder.join(METRICS_FILE);
        let mut record = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(record, "{}", serde_json::to_string(&line).unwrap()).unwrap();
        run.look();
    }

    /// How long something new is waited for.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a stream tells until a step's line has come, or nothing more: the steps of the lines, and
    /// the text.
    async fn told(answer: Response, last: u64) -> (Vec<u64>, String) {
        let mut pieces = answer.into_body().into_data_stream();
        let (mut steps, mut text) = (Vec::new(), String::new());
        while steps.last() != Some(&last)
            && let Ok(Some(piece)) = tokio::time::timeout(PATIENCE, pieces.next()).await
        {
            text += std::str::from_utf8(&piece.unwrap()).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let told = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
            let lines = told.filter_map(|told| Some(told.get("lines")?.as_array()?.clone()));
            steps = lines.flatten().map(|line| line["step"].as_u64().unwrap()).collect();
        }
        (steps, text)
    }

    /// Else a page that was slow for a moment would load a whole run again, on a machine that is
    /// busy as it is.
    #[test]
    fn a_reader_that_fell_behind_is_told_what_it_missed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Arc::new(Place::new(folder.path()).unwrap());
        let run = Arc::new(Run::new(folder.path().canonicalize().unwrap(), place));
        add(&run, 1);
        let (events, received) = channel::<Event>(WAITING);
        let one = Arc::new(tokio::sync::Semaphore::new(1));
        let teller = Teller { events, _place: one.try_acquire_owned().unwrap() };
        let after = run.read(Index::offset).unwrap().0;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (steps, text) = runtime.block_on(async {
            let answer = answer_of(received);
            let following = run.clone();
            tokio::spawn(async move { follow(&following, Some(after), &teller).await });
            while run.news.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
            (2..=NEWS).for_each(|number| add(&run, number));
            told(answer, NEWS).await
        });
        assert!(!text.contains("rewound"), "{text}");
        assert_eq!(steps, (2..=NEWS).collect::<Vec<_>>(), "{text}");
    }
}
