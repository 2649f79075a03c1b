//! Runs laid beside each other: in what they differ, and what came of it.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboard::asked::Asked;
use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;
use crate::runs::differing;

/// Runs that are compared at most.
const MOST: usize = 200;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/compare", get(compare))
}

#[derive(Debug, Deserialize)]
struct Wanted {
    /// Divided by commas.
    ids: String,
}

async fn compare(
    State(house): State<Arc<House>>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let ids: Vec<&str> = wanted.ids.split(',').filter(|id| !id.is_empty()).collect();
        if ids.is_empty() || ids.len() > MOST {
            return Err(Refusal::wrong(format!("ids must be 1 to {MOST} runs, divided by commas")));
        }
        let runs = ids.iter().map(|id| house.runs.run(id)).collect::<Result<Vec<_>, _>>()?;
        let configured = runs.iter().map(|run| run.configured()).collect::<Result<Vec<_>, _>>()?;
        let configs: Vec<_> = configured.iter().map(|configured| &configured.config).collect();
        let differences: Vec<Value> = differing(&configs)?
            .into_iter()
            .map(|(key, values)| json!({ "key": key, "values": values }))
            .collect();
        let rows: Vec<_> = runs.iter().map(|run| run.row()).collect();
        let results: Vec<_> =
            rows.iter().map(|row| row.read().map(|read| read.results())).collect();
        let keys = results.iter().flatten().next().map(|results| results.map(|(key, _)| key));
        let results: Vec<Value> = keys
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(at, key)| {
                let value = |results: &Option<[_; 9]>| {
                    results.as_ref().and_then(|results: &[(&str, _); 9]| results[at].1)
                };
                json!({ "key": key, "values": results.iter().map(value).collect::<Vec<_>>() })
            })
            .collect();
        let rows: Vec<_> = rows.iter().map(|row| &**row).collect();
        Ok(Json(json!({ "runs": rows, "differences": differences, "results": results })))
    })
    .await
}
