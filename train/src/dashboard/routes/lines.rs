//! Samples and alerts of a run, whole lines of its record.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::dashboard::asked::OfRun;
use crate::dashboard::decimate::evenly;
use crate::dashboard::house::{House, blocking};
use crate::dashboard::index::{Lines, Spot};
use crate::dashboard::refusal::Refusal;

/// Samples that are given at most, spread over the run.
const MOST_SAMPLES: usize = 500;
/// Alerts that are given at most, the last ones.
const MOST_ALERTS: usize = 5000;
/// Bytes of lines that are given at most.
const MOST_BYTES: usize = 16 << 20;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new()
        .route("/api/runs/{id}/samples", get(samples))
        .route("/api/runs/{id}/alerts", get(alerts))
}

async fn samples(OfRun(run): OfRun) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let (spots, lines) = run.read(|index| {
            let samples = evenly(index.samples.len(), MOST_SAMPLES);
            samples.into_iter().map(|at| index.samples[at]).collect::<Vec<_>>()
        })?;
        Ok(Json(json!({ "samples": read(&spots, lines)? })))
    })
    .await
}

async fn alerts(OfRun(run): OfRun) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let (spots, lines) = run.read(|index| {
            let first = index.alerts.len().saturating_sub(MOST_ALERTS);
            index.alerts[first..].iter().map(|alert| alert.spot).collect::<Vec<_>>()
        })?;
        Ok(Json(json!({ "alerts": read(&spots, lines)? })))
    })
    .await
}

/// Lines as they are; those that are none any more are left out, and the first ones of too many.
fn read(spots: &[Spot], lines: Option<Lines>) -> Result<Vec<Value>, Refusal> {
    let Some(mut lines) = lines else { return Ok(Vec::new()) };
    let (mut read, mut bytes) = (Vec::new(), 0);
    for &spot in spots.iter().rev() {
        bytes += spot.length as usize;
        if bytes > MOST_BYTES {
            break;
        }
        read.extend(serde_json::from_slice::<Value>(lines.line(spot)?));
    }
    read.reverse();
    Ok(read)
}
