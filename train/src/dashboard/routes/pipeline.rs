//! What the ranks of a run did in a step, and what was to be expected; bytes of their links.

use std::io;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::dashboard::asked::OfRun;
use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;
use crate::record::{TIMELINE_FILE, Timeline, Timelines};

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/runs/{id}/pipeline", get(pipeline))
}

#[derive(Debug, Serialize)]
struct Pipeline {
    measured: Option<Shown>,
    simulated: Option<Shown>,
    note: &'static str,
}

/// A timeline, and what went over the links in the last step.
#[derive(Debug, Serialize)]
struct Shown {
    step: u64,
    #[serde(flatten)]
    timeline: Timeline,
    links: Vec<Link>,
}

#[derive(Clone, Debug, Serialize)]
struct Link {
    name: String,
    bytes: u64,
}

/// What a step's line says of links.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exchanged {
    exchange_fast_bytes: Option<u64>,
    exchange_slow_bytes: Option<u64>,
    exchange_direct_fast_bytes: Option<u64>,
    exchange_direct_slow_bytes: Option<u64>,
    rank_sent_bytes: Vec<Option<u64>>,
}

impl Exchanged {
    /// What was sent, then what a direct route would have sent.
    fn links(&self) -> (Vec<Link>, Vec<Link>) {
        let link =
            |name: &str, bytes: Option<u64>| bytes.map(|bytes| Link { name: name.into(), bytes });
        let of_ranks = self.rank_sent_bytes.iter().enumerate();
        let of_ranks =
            of_ranks.filter_map(|(rank, bytes)| link(&format!("from rank {rank}"), *bytes));
        let sent = [
            link("within nodes", self.exchange_fast_bytes),
            link("between nodes", self.exchange_slow_bytes),
        ];
        let direct = [
            link("within nodes, by a direct route", self.exchange_direct_fast_bytes),
            link("between nodes, by a direct route", self.exchange_direct_slow_bytes),
        ];
        (
            sent.into_iter().flatten().chain(of_ranks).collect(),
            direct.into_iter().flatten().collect(),
        )
    }
}

async fn pipeline(OfRun(run): OfRun) -> Result<Json<Pipeline>, Refusal> {
    blocking(move || pipeline_of(&run).map(Json)).await
}

fn pipeline_of(run: &Run) -> Result<Pipeline, Refusal> {
    let read = match run.inside(TIMELINE_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        path => path
            .and_then(|path| Timelines::read(&path))
            .map_err(|error| Refusal::unreadable(format!("{TIMELINE_FILE}: {error}")))?,
    };
    let Some(Timelines { step, measured, simulated, .. }) = read else {
        let note = "a run over several ranks (parallel.pipeline, parallel.expert, parallel.data) \
                    keeps the timeline of its last detailed step; this one has none";
        return Ok(Pipeline { measured: None, simulated: None, note });
    };
    let (sent, direct) = exchanged(run, step)?.links();
    let shown = |timeline, links| Some(Shown { step, timeline, links });
    Ok(Pipeline {
        measured: shown(measured, sent),
        simulated: shown(simulated, direct),
        note: "the simulated timeline is the same schedule with the mean costs that its actions \
               had in the measured step",
    })
}

/// What the step's line says of links.
fn exchanged(run: &Run, step: u64) -> Result<Exchanged, Refusal> {
    let (spot, lines) = run.read(|index| {
        let at = index.steps.binary_search_by_key(&step, |line| line.spot.step).ok()?;
        Some(index.steps[at].spot)
    })?;
    let (Some(spot), Some(mut lines)) = (spot, lines) else { return Ok(Exchanged::default()) };
    Ok(serde_json::from_slice(lines.line(spot)?).unwrap_or_default())
}
