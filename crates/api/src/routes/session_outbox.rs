//! Who is told of a session. What could not be delivered is tried again by a command.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::SessionId;
use greenroom_wire::{ErrorBody, OutboxView};

/// Show who is told of a session
///
/// How far the lists, the collector of traces and the forge are with what the session's log says, and what could not
/// be delivered. Dead letters are tried again by the command `retry_dead_letter`.
#[utoipa::path(get, path = "/sessions/{id}/outbox", operation_id = "session_outbox", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = OutboxView),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<OutboxView> {
    Ok(Json(state.app.session_outbox(&caller.person, id).await?))
}
