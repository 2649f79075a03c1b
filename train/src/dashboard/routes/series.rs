//! Curves of a run: as many points of its columns as a page can show.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::dashboard::asked::{Asked, OfRun};
use crate::dashboard::columns::Columns;
use crate::dashboard::decimate::{evenly, extremes};
use crate::dashboard::house::{House, blocking};
use crate::dashboard::index::{Index, Lines, Spot};
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;

/// Points that a page asks for if it says nothing, and at most.
const POINTS: usize = 2000;
const MOST_POINTS: usize = 5000;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/runs/{id}/series", get(series))
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Wanted {
    points: Option<usize>,
    from_step: Option<u64>,
    to_step: Option<u64>,
}

#[derive(Serialize)]
struct Series {
    offset: String,
    /// Steps between the two that were asked for.
    total_steps: usize,
    rows_are: &'static str,
    steps: Columns,
    evaluations: Columns,
    systems: Columns,
}

/// The lines that are shown.
struct Picked {
    offset: String,
    total_steps: usize,
    steps: Vec<Spot>,
    evaluations: Vec<Spot>,
    systems: Vec<Spot>,
}

async fn series(OfRun(run): OfRun, Asked(wanted): Asked<Wanted>) -> Result<Json<Series>, Refusal> {
    blocking(move || series_of(&run, wanted).map(Json)).await
}

fn series_of(run: &Run, wanted: Wanted) -> Result<Series, Refusal> {
    let (picked, lines) = run.read(|index| pick(index, wanted))?;
    let (mut steps, mut evaluations, mut systems) = Default::default();
    if let Some(mut lines) = lines {
        add(&mut steps, &picked.steps, &mut lines)?;
        add(&mut evaluations, &picked.evaluations, &mut lines)?;
        add(&mut systems, &picked.systems, &mut lines)?;
    }
    let all = picked.steps.len() == picked.total_steps;
    Ok(Series {
        offset: picked.offset,
        total_steps: picked.total_steps,
        rows_are: if all { "every" } else { "decimated" },
        steps,
        evaluations,
        systems,
    })
}

fn add(columns: &mut Columns, spots: &[Spot], lines: &mut Lines) -> Result<(), Refusal> {
    for &spot in spots {
        columns.add(lines.line(spot)?);
    }
    Ok(())
}

fn pick(index: &Index, wanted: Wanted) -> Picked {
    let points = wanted.points.unwrap_or(POINTS).clamp(2, MOST_POINTS);
    let (from, to) = (wanted.from_step.unwrap_or(0), wanted.to_step.unwrap_or(u64::MAX));
    let begin = index.steps.partition_point(|line| line.spot.step < from);
    let end = index.steps.partition_point(|line| line.spot.step <= to).max(begin);
    let steps = &index.steps[begin..end];
    let picked = extremes(steps.len(), points, |at| steps[at].loss);
    let some = |spots: Vec<Spot>| -> Vec<Spot> {
        let within: Vec<Spot> =
            spots.into_iter().filter(|spot| (from..=to).contains(&spot.step)).collect();
        evenly(within.len(), points).into_iter().map(|at| within[at]).collect()
    };
    Picked {
        offset: index.offset().to_string(),
        total_steps: steps.len(),
        steps: picked.into_iter().map(|at| steps[at].spot).collect(),
        evaluations: some(index.evaluations.iter().map(|line| line.spot).collect()),
        systems: some(index.systems.clone()),
    }
}
