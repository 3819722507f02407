//! Files in and out: uploads for prompts, what the agent published, and the bytes of both. Files are data, never pages:
//! only pictures are shown in place, and the answer's policy lets a browser run nothing of any of them.

use crate::ApiState;
use crate::error::{Answer, ApiError, invalid};
use crate::extract::{Caller, PathOf, QueryOf, content_length};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use greenroom_domain::attachment::{file_name, is_picture};
use greenroom_domain::{Attachment, BlobDigest, SessionId};
use greenroom_wire::{ArtifactView, ErrorBody};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::io::{ReaderStream, StreamReader};
use utoipa::IntoParams;

const NAME_LIMIT: usize = 1024;
/// Of a refused file this much is taken and thrown away.
pub(super) const DISCARDED: usize = 256 * 1024 * 1024;
/// Of a file, at a time.
pub(super) const PIECE: usize = 64 * 1024;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Named {
    /// What the file is called; `file` when not said.
    name: Option<String>,
}

impl Named {
    fn name(self) -> Result<String, ApiError> {
        match self.name {
            Some(name) if name.len() > NAME_LIMIT => Err(invalid("The file's name is too long.").into()),
            name => Ok(file_name(name.as_deref().unwrap_or_default())),
        }
    }
}

/// Upload a file for the next session
///
/// The body is the file. It waits for a day for a session of the caller's that names it. The same bytes again are the
/// same file; its type is found out from its content.
#[utoipa::path(post, path = "/attachments", operation_id = "stage_attachment", tag = "attachments", params(Named),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Attachment),
        (status = 413, description = "`too_large`, `quota_reached`", body = ErrorBody),
    ))]
pub(super) async fn stage(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(named): QueryOf<Named>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Attachment> {
    upload(&state, &caller, None, named, &headers, body).await
}

/// Upload a file for a prompt
///
/// The body is the file. A prompt of this session then names its digest. The same bytes again are the same file; its
/// type is found out from its content.
#[utoipa::path(post, path = "/sessions/{id}/attachments", operation_id = "attach", tag = "attachments",
    params(("id" = SessionId, Path), Named),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Attachment),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
        (status = 413, description = "`too_large`, `quota_reached`", body = ErrorBody),
    ))]
pub(super) async fn attach(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(named): QueryOf<Named>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Attachment> {
    upload(&state, &caller, Some(id), named, &headers, body).await
}

async fn upload(
    state: &ApiState,
    caller: &Caller,
    session: Option<SessionId>,
    named: Named,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Attachment> {
    let name = named.name()?;
    let declared = content_length(headers).map(|bytes| bytes as u64);
    let (chunks, rest) = shared(body);
    let upload = StreamReader::new(chunks);
    let kept = state.app.attach(&caller.person, session, &name, declared, Box::new(upload)).await;
    if kept.is_err() {
        super::archive::discard_rest(&rest).await;
    }
    Ok(Json(kept?))
}

pub(super) type Rest = Arc<Mutex<Option<axum::body::BodyDataStream>>>;

/// The body's pieces; what is left when their reader stops stays in the other part.
pub(super) fn shared(
    body: Body,
) -> (impl futures::Stream<Item = std::io::Result<bytes::Bytes>> + Send + Unpin, Rest) {
    let rest: Rest = Arc::new(Mutex::new(Some(body.into_data_stream())));
    let reading = Arc::clone(&rest);
    let pieces = futures::stream::poll_fn(move |context| {
        let mut rest = reading.lock().unwrap_or_else(PoisonError::into_inner);
        match rest.as_mut() {
            Some(stream) => stream
                .poll_next_unpin(context)
                .map(|piece| piece.map(|piece| piece.map_err(std::io::Error::other))),
            None => std::task::Poll::Ready(None),
        }
    });
    (pieces, rest)
}

/// List what the agent published
///
/// Oldest first. Their bytes are among the session's blobs.
#[utoipa::path(get, path = "/sessions/{id}/artifacts", operation_id = "artifacts", tag = "attachments",
    params(("id" = SessionId, Path)),
    responses(
        (status = 200, body = Vec<ArtifactView>),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn artifacts(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
) -> Answer<Vec<ArtifactView>> {
    Ok(Json(state.app.artifacts(&caller.person, id).await?))
}

/// Read a file of a session
///
/// Attached or published. Pictures are shown in place; everything else is a download.
#[utoipa::path(get, path = "/sessions/{id}/blobs/{digest}", operation_id = "blob", tag = "attachments",
    params(("id" = SessionId, Path), ("digest" = BlobDigest, Path), Named),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "The caller has it, by its `ETag`, and may still read it."),
        (status = 404, description = "`session_unknown`, `attachment_unknown`", body = ErrorBody),
    ))]
pub(super) async fn blob(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf((id, digest)): PathOf<(SessionId, BlobDigest)>,
    QueryOf(named): QueryOf<Named>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let name = named.name()?;
    // Also for who has it already: they may not be let in any more.
    let blob = state.app.blob(&caller.person, id, &digest).await?;
    let etag = format!("\"{digest}\"");
    let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &etag));
    let etag = HeaderValue::try_from(etag).map_err(|_| invalid("The digest is no header."))?;
    // The address is that of the bytes; who may read them is asked each time.
    let kept = [(CACHE_CONTROL, HeaderValue::from_static("private, no-cache")), (ETAG, etag)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(blob.file), PIECE);
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(blob.media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.bytes));
    headers.insert(CONTENT_DISPOSITION, disposition(blob.media_type, &name));
    headers.extend(kept);
    Ok(response)
}

/// Whether one of the entity tags of `If-None-Match`, weak or not, is this one.
fn names(known: &HeaderValue, etag: &str) -> bool {
    let mut known = known.to_str().unwrap_or_default().split(',').map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

fn content_type(media_type: &'static str) -> HeaderValue {
    match media_type {
        "text/plain" => HeaderValue::from_static("text/plain; charset=utf-8"),
        other => HeaderValue::from_static(other),
    }
}

/// As RFC 6266 writes it: a plain name for old clients, and the whole one.
pub(super) fn disposition(media_type: &str, name: &str) -> HeaderValue {
    let kind = if is_picture(media_type) { "inline" } else { "attachment" };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let whole = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    HeaderValue::try_from(format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{whole}"))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_are_shown_in_place_and_no_name_breaks_the_header() {
        assert_eq!(disposition("image/png", "a.png"), "inline; filename=\"a.png\"; filename*=UTF-8''a%2Epng");
        for kind in ["text/plain", "application/pdf", "application/octet-stream"] {
            let said = disposition(kind, "é\"; x=\r\n.svg");
            assert!(
                said.to_str().unwrap().starts_with("attachment; filename=\"___ x___.svg\"; "),
                "{said:?}"
            );
        }
    }
}
