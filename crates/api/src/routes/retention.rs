//! Retention: what goes by itself, what went last, and what would go now.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::Caller;
use axum::Json;
use axum::extract::State;
use greenroom_wire::{ErrorBody, RetentionReport, RetentionView};

/// Show what is kept for how long
///
/// And what the last pass did. For admins.
#[utoipa::path(get, path = "/retention", operation_id = "retention", tag = "machine",
    responses(
        (status = 200, body = RetentionView),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
    ))]
pub(super) async fn show(State(state): State<ApiState>, caller: Caller) -> Answer<RetentionView> {
    Ok(Json(state.app.retention(&caller.person).await?))
}

/// Show what would go now
///
/// Changes nothing. For admins.
#[utoipa::path(get, path = "/retention/plan", operation_id = "retention_plan", tag = "machine",
    responses(
        (status = 200, body = RetentionReport),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
    ))]
pub(super) async fn plan(State(state): State<ApiState>, caller: Caller) -> Answer<RetentionReport> {
    Ok(Json(state.app.retention_plan(&caller.person).await?))
}

/// Let go of what is old enough, now
///
/// After the pass that runs, if one does. It goes on when the caller goes away. For admins.
#[utoipa::path(post, path = "/retention/run", operation_id = "run_retention", tag = "machine",
    responses(
        (status = 200, body = RetentionReport),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 503, description = "`shutting_down`", body = ErrorBody),
    ))]
pub(super) async fn run(State(state): State<ApiState>, caller: Caller) -> Answer<RetentionReport> {
    Ok(Json(state.app.run_retention(&caller.person).await?))
}
