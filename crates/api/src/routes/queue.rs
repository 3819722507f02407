//! The prompts that wait. They are changed by commands.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::SessionId;
use greenroom_wire::{ErrorBody, QueuedPromptView};

/// List a session's waiting prompts
///
/// In the order in which they are answered, those that a stop held back included.
#[utoipa::path(get, path = "/sessions/{id}/queue", operation_id = "session_queue", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Vec<QueuedPromptView>),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Vec<QueuedPromptView>> {
    Ok(Json(state.app.session_queue(&caller.person, id).await?))
}
