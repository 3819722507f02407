//! What waits for people. It is answered by commands.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, PathOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::SessionId;
use greenroom_wire::{AskView, ErrorBody};

/// List what a session's agent asks people
///
/// The oldest first; what was answered, or not answered in time, is not among them. The command `answer` answers one.
#[utoipa::path(get, path = "/sessions/{id}/asks", operation_id = "session_asks", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Vec<AskView>),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Vec<AskView>> {
    Ok(Json(state.app.session_asks(&caller.person, id).await?))
}
