//! A person's own command in a session's sandbox.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, JsonBody, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::SessionId;
use greenroom_wire::{ErrorBody, Exec, ExecResult};

/// Run a command in a session's sandbox
///
/// Answers when it has ended, at most ten minutes later. It runs to its end even when the client leaves.
#[utoipa::path(post, path = "/sessions/{id}/exec", operation_id = "exec", tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = Exec,
    responses(
        (status = 200, body = ExecResult),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 502, description = "`sandbox_lost`, `sandbox_failed`", body = ErrorBody),
    ))]
pub(super) async fn exec(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<Exec>,
) -> Answer<ExecResult> {
    Ok(Json(state.app.exec(&caller.person, id, body).await?))
}
