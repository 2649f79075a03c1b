//! What the server answers, by address.

mod assets;
mod compare;
mod detail;
mod events;
mod experts;
mod labels;
mod lines;
mod microscope;
mod pipeline;
mod runs;
mod series;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower_http::compression::CompressionLayer;

use super::asked::BODY_BYTES;
use super::door::guard;
use super::house::House;

/// All that is answered.
pub(super) fn all(house: Arc<House>) -> Router {
    Router::new()
        .merge(assets::routes())
        .merge(runs::routes())
        .merge(detail::routes())
        .merge(series::routes())
        .merge(experts::routes())
        .merge(lines::routes())
        .merge(labels::routes())
        .merge(pipeline::routes())
        .merge(compare::routes())
        .merge(microscope::routes())
        .merge(events::routes())
        .fallback(assets::page)
        .layer(DefaultBodyLimit::max(BODY_BYTES as usize))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(house.clone(), guard))
        .with_state(house)
}
