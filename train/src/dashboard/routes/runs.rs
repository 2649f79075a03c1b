//! What is shown, and the table of runs.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/session", get(session)).route("/api/runs", get(runs))
}

async fn session(State(house): State<Arc<House>>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "folders": house.runs.folders(),
        "live": house.runs.live(),
        "microscope": true,
    }))
}

async fn runs(State(house): State<Arc<House>>) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        house.runs.look();
        let rows = house.runs.rows();
        let rows: Vec<_> = rows.iter().map(|row| &**row).collect();
        Ok(Json(json!({ "runs": rows })))
    })
    .await
}
