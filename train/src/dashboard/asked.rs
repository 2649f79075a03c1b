//! What a request asks for, taken out of its address or its body.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::house::{House, blocking};
use super::refusal::Refusal;
use super::run::Run;

/// The longest body, bytes.
pub(super) const BODY_BYTES: u64 = 64 << 10;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The run that an address names, looked at again.
pub(super) struct OfRun(pub Arc<Run>);

impl FromRequestParts<Arc<House>> for OfRun {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, house: &Arc<House>) -> Result<Self, Refusal> {
        let id = Path::<String>::from_request_parts(parts, house).await;
        let Ok(Path(id)) = id else { return Err(Refusal::not_found("run")) };
        let house = house.clone();
        blocking(move || house.runs.run(&id)).await.map(Self)
    }
}

/// What stands behind the `?` of an address.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(Refusal::wrong(rejection.body_text())),
        }
    }
}

/// A body of JSON.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if length.is_some_and(|length| length.parse().is_ok_and(|bytes: u64| bytes > BODY_BYTES)) {
            let problem = format!("a body may have {BODY_BYTES} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        let body = tokio::time::timeout(BODY_TIME, Json::<T>::from_request(request, state)).await;
        match body {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(of(&rejection)),
            Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        }
    }
}

fn of(rejection: &JsonRejection) -> Refusal {
    Refusal::new(rejection.status(), rejection.body_text())
}
