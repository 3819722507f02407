//! Sessions: making them, commanding them, reading their log.

use crate::ApiState;
use crate::error::{Answer, ApiError, invalid};
use crate::extract::{Caller, IdempotencyKey, JsonBody, PROMPT_BODY_LIMIT, PathOf, QueryOf};
use crate::layers::own_origin;
use axum::Json;
use axum::extract::State;
use greenroom_app::Archived;
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{RepositoryName, SessionId};
use greenroom_wire::{
    Blame, ContextView, CreateSession, EntryPage, ErrorBody, ForkSession, Receipt, SessionEnvironment,
    SessionTree, SessionView, SubmitCommand,
};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use utoipa::IntoParams;

const ENTRIES: usize = 500;
const SESSIONS: u32 = 200;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Only sessions of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
    /// `true`: those that are archived; otherwise those that are not.
    #[serde(default)]
    archived: bool,
    /// At most 200; 200 when not said.
    limit: Option<u32>,
}

/// List sessions
///
/// Newest first.
#[utoipa::path(get, path = "/sessions", operation_id = "sessions", tag = "sessions", params(Listed),
    responses(
        (status = 200, body = Vec<SessionView>),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(listed): QueryOf<Listed>,
) -> Answer<Vec<SessionView>> {
    let limit = listed.limit.unwrap_or(SESSIONS);
    let archived = if listed.archived { Archived::Only } else { Archived::Hidden };
    Ok(Json(state.app.sessions(&caller.person, listed.repository.as_ref(), archived, limit).await?))
}

/// Create a session
///
/// With its first prompt where one is given. The same key again answers the same session.
#[utoipa::path(post, path = "/sessions", operation_id = "create_session", tag = "sessions",
    params(("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters")),
    request_body = CreateSession,
    responses(
        (status = 200, body = SessionView),
        (status = 404, description = "`repository_unknown`, `model_unknown`", body = ErrorBody),
        (status = 409, description = "`key_reused`", body = ErrorBody),
        (status = 422, description = "`model_effort_unknown`, `model_without_tools`", body = ErrorBody),
    ))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CreateSession, PROMPT_BODY_LIMIT>,
) -> Answer<SessionView> {
    Ok(Json(state.app.create_session(&caller.person, &key, body).await?))
}

/// Show a session
#[utoipa::path(get, path = "/sessions/{id}", operation_id = "session", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = SessionView),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<SessionView> {
    Ok(Json(state.app.session(&caller.person, id).await?))
}

/// Show the tree that a session is in
///
/// The session that a person began, and all that agents began beneath it.
#[utoipa::path(get, path = "/sessions/{id}/tree", operation_id = "session_tree", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = SessionTree),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn tree(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<SessionTree> {
    Ok(Json(state.app.session_tree(&caller.person, id).await?))
}

/// Fork a session
///
/// A new session that begins after an earlier turn of this one, with its conversation and its files as they were then.
/// The same key again answers the same session.
#[utoipa::path(post, path = "/sessions/{id}/fork", operation_id = "fork_session", tag = "sessions",
    params(
        ("id" = SessionId, Path),
        ("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters"),
    ),
    request_body = ForkSession,
    responses(
        (status = 200, body = SessionView),
        (status = 404, description = "`session_unknown`, `turn_unknown`, `snapshot_unknown`", body = ErrorBody),
        (status = 409, description = "`key_reused`, `session_busy`", body = ErrorBody),
    ))]
pub(super) async fn fork(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<ForkSession, PROMPT_BODY_LIMIT>,
) -> Answer<SessionView> {
    Ok(Json(state.app.fork_session(&caller.person, &key, id, body).await?))
}

/// Show what surrounds a session
///
/// Its sandbox, services, ports that can be opened, and snapshots.
#[utoipa::path(get, path = "/sessions/{id}/environment", operation_id = "session_environment", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = SessionEnvironment),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn environment(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<SessionEnvironment> {
    let mut environment = state.app.session_environment(&caller.person, id).await?;
    let origin = own_origin(&state.settings, &uri, &headers)?;
    for port in &mut environment.ports {
        port.url = format!("{origin}/api/v1/sessions/{id}/previews/{}", port.port);
    }
    Ok(Json(environment))
}

/// Delete a session
///
/// With its log and its workspace. A change that it opened stays.
#[utoipa::path(delete, path = "/sessions/{id}", operation_id = "delete_session", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 204),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 409, description = "`session_busy`: sessions that it began are at work", body = ErrorBody),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Result<StatusCode, ApiError> {
    state.app.delete_session(&caller.person, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Command a session
///
/// Prompt; edit, move or withdraw a waiting prompt, or choose when it is answered; stop; rename; decide who takes part and
/// what the session is open for. Done once per key: the same key again gets the same receipt. A command that the session
/// refuses has a receipt with the problem.
#[utoipa::path(post, path = "/sessions/{id}/commands", operation_id = "submit_command", tag = "sessions",
    params(("id" = SessionId, Path)),
    request_body = SubmitCommand,
    responses(
        (status = 200, body = Receipt),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 409, description = "`key_reused`", body = ErrorBody),
    ))]
pub(super) async fn submit(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    JsonBody(body): JsonBody<SubmitCommand, PROMPT_BODY_LIMIT>,
) -> Answer<Receipt> {
    Ok(Json(state.app.submit_command(&caller.person, id, body).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Entries after this one; not together with `before`.
    after: Option<u64>,
    /// The last entries before this one, without streamed text (`block_text`); fewer than `limit` where a turn begins
    /// among them.
    before: Option<u64>,
    /// At most 1000; 500 when not said.
    limit: Option<usize>,
}

/// Read a session's log
///
/// A page of it, oldest first.
#[utoipa::path(get, path = "/sessions/{id}/entries", operation_id = "entries", tag = "sessions",
    params(("id" = SessionId, Path), Page),
    responses(
        (status = 200, body = EntryPage),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn entries(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(page): QueryOf<Page>,
) -> Answer<EntryPage> {
    let limit = page.limit.unwrap_or(ENTRIES);
    let page = match (page.after, page.before) {
        (Some(_), Some(_)) => return Err(invalid("A page is either after an entry or before one.").into()),
        (None, Some(before)) => state.app.entries_before(&caller.person, id, before, limit).await?,
        (after, None) => state.app.entries(&caller.person, id, after.unwrap_or(0), limit).await?,
    };
    Ok(Json(page))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OneTurn {
    /// Only this one; 1 is the session's first.
    turn: Option<u64>,
}

/// Trace a session's turns
///
/// What each turn did and when, oldest first: stages of its start, requests to models, tool calls, snapshots. The last 50
/// turns, or one.
#[utoipa::path(get, path = "/sessions/{id}/trace", operation_id = "session_trace", tag = "sessions",
    params(("id" = SessionId, Path), OneTurn),
    responses(
        (status = 200, body = Vec<TurnTrace>),
        (status = 404, description = "`session_unknown`, `turn_unknown`", body = ErrorBody),
    ))]
pub(super) async fn trace(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<OneTurn>,
) -> Answer<Vec<TurnTrace>> {
    Ok(Json(state.app.session_trace(&caller.person, id, query.turn).await?))
}

/// Show what the model sees
///
/// The parts of the next request with their tokens, the model's window, what sending it costs, and what of the
/// conversation gave way to notes or a summary. A summary is asked for by the command `compact`.
#[utoipa::path(get, path = "/sessions/{id}/context", operation_id = "session_context", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = ContextView),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn context(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<ContextView> {
    Ok(Json(state.app.session_context(&caller.person, id).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OneFile {
    /// From the repository's root.
    path: String,
}

/// Say which prompts made which line of a file
///
/// As the file is now in the session's working tree; lines from before the session say so. At most 1 MiB of text.
#[utoipa::path(get, path = "/sessions/{id}/blame", operation_id = "session_blame", tag = "sessions",
    params(("id" = SessionId, Path), OneFile),
    responses(
        (status = 200, body = Blame),
        (status = 404, description = "`session_unknown`, `file_unknown`", body = ErrorBody),
        (status = 413, description = "`too_large`", body = ErrorBody),
        (status = 502, description = "`sandbox_lost`, `sandbox_failed`", body = ErrorBody),
    ))]
pub(super) async fn blame(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(file): QueryOf<OneFile>,
) -> Answer<Blame> {
    Ok(Json(state.app.session_blame(&caller.person, id, &file.path).await?))
}
