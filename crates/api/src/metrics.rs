//! `GET /metrics` for Prometheus, in the OpenMetrics text format 1.0: with an admin's token on the server's own address, and
//! without any on the listener of its own that the setting `metrics_listen` makes.

use crate::error::ApiError;
use crate::extract::Caller;
use crate::layers::{authenticate, deadline, in_flight};
use crate::{ApiState, layers};
use axum::Router;
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use std::time::Duration;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TIME: Duration = Duration::from_secs(20);

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    Router::new()
        .route("/metrics", get(for_admins))
        .route_layer(from_fn(move |request, next| deadline(TIME, request, next)))
        .route_layer(from_fn_with_state(state.clone(), in_flight))
        .route_layer(from_fn_with_state(state.clone(), authenticate))
}

/// What the listener of `metrics_listen` answers: `/metrics` and nothing else.
pub fn metrics_router(state: ApiState) -> Router {
    let router = Router::new()
        .route("/metrics", get(for_anyone))
        .route_layer(from_fn(move |request, next| deadline(TIME, request, next)))
        .fallback(async || ApiError(crate::error::no_such_route()));
    layers::shaped(router, &state).with_state(state)
}

async fn for_admins(State(state): State<ApiState>, caller: Caller) -> Result<Response, ApiError> {
    Ok(answer(state.app.metrics(&caller.person, state.gauges()).await?))
}

async fn for_anyone(State(state): State<ApiState>) -> Result<Response, ApiError> {
    Ok(answer(state.app.local_metrics(state.gauges()).await?))
}

fn answer(text: String) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}
