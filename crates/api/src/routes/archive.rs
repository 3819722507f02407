//! Sessions as files: taken out of this installation, and made of what was taken out of one.

use super::attachments::{DISCARDED, PIECE, Rest, disposition, shared};
use crate::ApiState;
use crate::error::{Answer, ApiError};
use crate::extract::{Caller, IdempotencyKey, PathOf, QueryOf, discard};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use greenroom_domain::{RepositoryName, SessionId};
use greenroom_wire::{ErrorBody, SessionView};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use std::sync::PoisonError;
use tokio_util::io::{ReaderStream, StreamReader};
use utoipa::IntoParams;

const MEDIA_TYPE: &str = "application/vnd.greenroom.session+zstd";

/// Export a session as one file
///
/// Its log, its files, and the commits of its branch; docs/archive.md describes the format. Needs the right `share`.
#[utoipa::path(get, path = "/sessions/{id}/export", operation_id = "export_session", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/vnd.greenroom.session+zstd"),
        (status = 403, description = "`not_allowed`", body = ErrorBody),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 413, description = "`too_large`", body = ErrorBody),
    ))]
pub(super) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Result<Response, ApiError> {
    let exported = state.app.export_session(&caller.person, id).await?;
    let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(exported.file), PIECE);
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(exported.bytes));
    headers.insert(CONTENT_DISPOSITION, disposition(MEDIA_TYPE, &exported.name));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Target {
    /// The repository that the session goes on in; the one of the exported session's name when not said.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
}

/// Make a session of an exported one
///
/// The body is the file. The caller owns the new session; nothing in it runs. The same key with the same file again answers
/// the same session.
#[utoipa::path(post, path = "/sessions/import", operation_id = "import_session", tag = "sessions",
    params(Target, ("Idempotency-Key" = String, Header, description = "1 to 128 visible ASCII characters")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = SessionView),
        (status = 403, description = "`not_allowed`, `push_refused`", body = ErrorBody),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
        (status = 409, description = "`key_reused`, `commit_missing`", body = ErrorBody),
        (status = 413, description = "`too_large`, `quota_reached`", body = ErrorBody),
        (status = 422, description = "`archive_damaged`, `archive_too_new`", body = ErrorBody),
    ))]
pub(super) async fn import(
    State(state): State<ApiState>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    QueryOf(target): QueryOf<Target>,
    body: Body,
) -> Answer<SessionView> {
    let (chunks, rest) = shared(body);
    let upload = Box::new(StreamReader::new(chunks));
    let made = state.app.import_session(&caller.person, &key, target.repository.as_ref(), upload).await;
    if made.is_err() {
        discard_rest(&rest).await;
    }
    Ok(Json(made?))
}

/// A sender that still writes would otherwise meet a reset instead of the reason.
pub(super) async fn discard_rest(rest: &Rest) {
    let rest = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(rest) = rest {
        discard(rest, DISCARDED).await;
    }
}
