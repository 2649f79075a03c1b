//! What people write on a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

use crate::dashboard::asked::{Body, OfRun};
use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;
use crate::dashboard::row::Row;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/runs/{id}/labels", post(label))
}

/// What is to be written; what is not said stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tags: Option<BTreeSet<String>>,
    note: Option<String>,
    archived: Option<bool>,
}

async fn label(OfRun(run): OfRun, Body(written): Body<Written>) -> Result<Json<Row>, Refusal> {
    blocking(move || {
        run.label(|labels| {
            labels.tags = written.tags.unwrap_or(std::mem::take(&mut labels.tags));
            labels.note = written.note.unwrap_or(std::mem::take(&mut labels.note));
            labels.archived = written.archived.unwrap_or(labels.archived);
        })?;
        Ok(Json(Row::clone(&run.look())))
    })
    .await
}
