//! Whether the server answers, what it can do, and what its routes are.

use crate::error::Answer;
use crate::extract::Caller;
use crate::{ApiState, openapi};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use greenroom_wire::{Health, Machine, MachineResources};
use http::header::CONTENT_TYPE;

/// Whether the server is ready
///
/// For load balancers and for waiting until a start is over.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "machine", security(()),
    responses((status = 200, body = Health)))]
pub(super) async fn health(State(state): State<ApiState>) -> Json<Health> {
    let is_ready = state.app.readiness().await.is_ready;
    Json(Health { version: env!("CARGO_PKG_VERSION").to_owned(), is_ready })
}

/// This document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "machine", security(()),
    responses((status = 200, content_type = "application/json", body = serde_json::Value)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::as_text())
}

/// What this installation can do, and cannot
#[utoipa::path(get, path = "/machine", operation_id = "machine", tag = "machine",
    responses((status = 200, body = Machine)))]
pub(super) async fn machine(State(state): State<ApiState>, caller: Caller) -> Answer<Machine> {
    Ok(Json(state.app.machine(&caller.person).await?))
}

/// What sandboxes hold of the machine
///
/// Those that are alive, warm pools, blanks, and the disk.
#[utoipa::path(get, path = "/machine/resources", operation_id = "machine_resources", tag = "machine",
    responses((status = 200, body = MachineResources)))]
pub(super) async fn resources(State(state): State<ApiState>, caller: Caller) -> Answer<MachineResources> {
    Ok(Json(state.app.machine_resources(&caller.person).await?))
}
