//! `GET /healthz` and `GET /readyz`, for whoever restarts servers and whoever sends them work. Everybody may ask: the
//! answers name nothing of the machine, and asking often makes the server do no more.

use crate::ApiState;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use greenroom_wire::Readiness;
use http::StatusCode;

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// The process answers; while it drains too.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 503 as long as one of the checks fails.
async fn readyz(State(state): State<ApiState>) -> (StatusCode, Json<Readiness>) {
    let readiness = state.app.readiness().await;
    let status = if readiness.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
