//! What is live around a session, for clients without a WebSocket: who is here, typing, read positions, drafts.

use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, JsonBody, PROMPT_BODY_LIMIT, PathOf, QueryOf};
use axum::Json;
use axum::extract::State;
use greenroom_domain::{RepositoryName, SessionId};
use greenroom_wire::{
    Draft, DraftAnswer, ErrorBody, MarkRead, Presence, ReadPosition, SayTyping, WriteDraft,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

/// Show who has a session open
#[utoipa::path(get, path = "/sessions/{id}/presence", operation_id = "presence", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Presence),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn presence(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Presence> {
    Ok(Json(state.app.presence(&caller.person, id).await?))
}

/// Say that one types
///
/// Shown to the others at the session for six seconds; said again while it is so.
#[utoipa::path(post, path = "/sessions/{id}/typing", operation_id = "say_typing", tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = SayTyping,
    responses(
        (status = 204),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn typing(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<SayTyping>,
) -> Result<StatusCode, ApiError> {
    state.app.say_typing(&caller.person, id, body.client, body.is_typing).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say how far one has read a session
///
/// Answers the position that counts: it never goes back, and never beyond the last entry.
#[utoipa::path(put, path = "/sessions/{id}/read", operation_id = "mark_read", tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = MarkRead,
    responses(
        (status = 200, body = ReadPosition),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<MarkRead>,
) -> Answer<ReadPosition> {
    Ok(Json(state.app.mark_read(&caller.person, id, body.seq).await?))
}

/// Show how far one has read sessions
///
/// The caller's own positions in the newest sessions that they opened.
#[utoipa::path(get, path = "/reads", operation_id = "read_positions", tag = "sessions",
    responses((status = 200, body = Vec<ReadPosition>)))]
pub(super) async fn reads(State(state): State<ApiState>, caller: Caller) -> Answer<Vec<ReadPosition>> {
    Ok(Json(state.app.read_positions(&caller.person).await?))
}

/// Show one's draft in a session
///
/// What the caller typed there and did not send, with any of their clients.
#[utoipa::path(get, path = "/sessions/{id}/draft", operation_id = "draft", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Draft),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn draft(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Draft> {
    Ok(Json(state.app.draft(&caller.person, Some(id), None).await?))
}

/// Keep one's draft in a session
///
/// With the revision that it was typed on: when another of the caller's clients has written since, nothing changes, and
/// the answer says so and holds what is kept. Sending the text as a prompt removes it.
#[utoipa::path(put, path = "/sessions/{id}/draft", operation_id = "write_draft", tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = WriteDraft,
    responses(
        (status = 200, body = DraftAnswer),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn write_draft(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<WriteDraft, PROMPT_BODY_LIMIT>,
) -> Answer<DraftAnswer> {
    Ok(Json(state.app.write_draft(&caller.person, Some(id), None, body).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForRepository {
    /// For a new session of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
}

/// Show one's draft for a new session
#[utoipa::path(get, path = "/draft", operation_id = "new_draft", tag = "sessions", params(ForRepository),
    responses(
        (status = 200, body = Draft),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn new_draft(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(place): QueryOf<ForRepository>,
) -> Answer<Draft> {
    Ok(Json(state.app.draft(&caller.person, None, place.repository).await?))
}

/// Keep one's draft for a new session
#[utoipa::path(put, path = "/draft", operation_id = "write_new_draft", tag = "sessions", params(ForRepository),
    request_body = WriteDraft,
    responses(
        (status = 200, body = DraftAnswer),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn write_new_draft(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(place): QueryOf<ForRepository>,
    JsonBody(body): JsonBody<WriteDraft, PROMPT_BODY_LIMIT>,
) -> Answer<DraftAnswer> {
    Ok(Json(state.app.write_draft(&caller.person, None, place.repository, body).await?))
}
