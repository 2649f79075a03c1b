//! Why a request gets no answer, as a page is told it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::failure::{Blame, Failure};

/// A status and a sentence.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: String,
}

impl Refusal {
    pub fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self { status, problem: problem.into() }
    }

    /// There is no such thing.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// What was asked for is not written as it should be.
    pub fn wrong(problem: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problem)
    }

    /// A file that is there cannot be read.
    pub fn unreadable(problem: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, problem)
    }
}

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(error: E) -> Self {
        let failure: Failure = error.into();
        let status = match failure.blame() {
            Blame::User => StatusCode::UNPROCESSABLE_ENTITY,
            Blame::Run => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, format!("{failure:#}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.problem }))).into_response()
    }
}
