//! The microscope: what a run's checkpoint makes of a text, token by token, and what if.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;

use crate::checkpoint;
use crate::config::Format;
use crate::dashboard::asked::{Asked, Body, OfRun};
use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;
use crate::failure::Failure;
use crate::microscope::{
    Answer, BiasMove, Desk, ExpertOf, MicroscopeError, Question, TakenTokens, TokenPath, WhatIf,
};

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new()
        .route("/api/runs/{id}/microscope/inspect", post(inspect))
        .route("/api/runs/{id}/microscope/token", get(token))
        .route("/api/runs/{id}/microscope/expert", get(expert))
        .layer(Extension(Arc::new(Desk::on_cpu())))
}

/// A text that is to be looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedLook {
    checkpoint: Option<u64>,
    text: String,
    format: Option<FormatName>,
    what_if: Option<AskedChange>,
    other: Option<AskedOther>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    #[serde(alias = "f32")]
    Fp32,
    Bf16,
    Fp8,
}

/// What is to be other.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AskedChange {
    disabled: Vec<ExpertOf>,
    bias: Vec<BiasMove>,
    topk_group: Option<usize>,
    format: Option<FormatName>,
}

/// Another checkpoint, of the same run or of another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedOther {
    run: String,
    checkpoint: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct AskedToken {
    inspection: String,
    token: usize,
}

#[derive(Debug, Deserialize)]
struct AskedExpert {
    layer: usize,
    expert: usize,
    checkpoint: Option<u64>,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Fp32 => Self::F32,
            FormatName::Bf16 => Self::Bf16,
            FormatName::Fp8 => Self::Fp8,
        }
    }
}

impl From<AskedChange> for WhatIf {
    fn from(asked: AskedChange) -> Self {
        let AskedChange { disabled, bias, topk_group, format } = asked;
        Self { disabled, bias, topk_group, format: format.map(Format::from) }
    }
}

async fn inspect(
    State(house): State<Arc<House>>,
    Extension(desk): Extension<Arc<Desk>>,
    OfRun(run): OfRun,
    Body(asked): Body<AskedLook>,
) -> Result<Json<Answer>, Refusal> {
    blocking(move || {
        let other = match asked.other {
            None => None,
            Some(AskedOther { run, checkpoint }) => {
                let run = house.runs.run(&run)?;
                Some(checkpoint_of(&run, checkpoint)?)
            }
        };
        let question = Question {
            checkpoint: checkpoint_of(&run, asked.checkpoint)?,
            text: asked.text,
            format: asked.format.map(Format::from),
            what_if: asked.what_if.map(WhatIf::from),
            other,
        };
        desk.inspect(&question).map(Json).map_err(refusal)
    })
    .await
}

async fn token(
    Extension(desk): Extension<Arc<Desk>>,
    OfRun(_): OfRun,
    Asked(asked): Asked<AskedToken>,
) -> Result<Json<TokenPath>, Refusal> {
    desk.token(&asked.inspection, asked.token).map(Json).map_err(refusal)
}

async fn expert(
    Extension(desk): Extension<Arc<Desk>>,
    OfRun(run): OfRun,
    Asked(asked): Asked<AskedExpert>,
) -> Result<Json<TakenTokens>, Refusal> {
    blocking(move || {
        let checkpoint = checkpoint_of(&run, asked.checkpoint)?;
        desk.expert(&checkpoint, asked.layer, asked.expert).map(Json).map_err(refusal)
    })
    .await
}

/// The folder of a run's checkpoint, its newest where no step is asked for.
fn checkpoint_of(run: &Run, step: Option<u64>) -> Result<PathBuf, Refusal> {
    let path = match step {
        None => checkpoint::find(&run.folder)?,
        Some(step) => checkpoint::folder_of(&run.folder, step),
    };
    let name = path.strip_prefix(&run.folder).ok().and_then(|path| path.to_str());
    let inside = name.and_then(|name| run.inside(name).ok());
    inside.ok_or_else(|| match step {
        Some(step) => {
            Refusal::new(StatusCode::NOT_FOUND, format!("the run has no checkpoint of step {step}"))
        }
        None => Refusal::not_found("checkpoint"),
    })
}

/// What a question gets that has no answer.
fn refusal(failure: Failure) -> Refusal {
    let status = match failure.downcast_ref() {
        Some(MicroscopeError::Busy) => StatusCode::SERVICE_UNAVAILABLE,
        Some(
            MicroscopeError::Forgotten
            | MicroscopeError::NoToken { .. }
            | MicroscopeError::NoExpert { .. },
        ) => StatusCode::NOT_FOUND,
        _ => return failure.into(),
    };
    Refusal::new(status, failure.to_string())
}
