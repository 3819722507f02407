//! A session's stream as server-sent events, for clients without WebSockets; and the list of sessions as it changes.

use super::outbox::{Drained, Sent};
use super::sse;
use crate::ApiState;
use crate::error::{ApiError, invalid};
use crate::extract::{Caller, PathOf, QueryOf};
use crate::layers::standing;
use axum::extract::State;
use axum::response::Response;
use futures::StreamExt;
use greenroom_domain::{Problem, RepositoryName, SessionId};
use greenroom_wire::{ClientKind, ErrorBody, Frame, SessionsFrame};
use http::HeaderMap;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Entries after this one. The header `Last-Event-ID` counts before it.
    #[serde(default)]
    after: u64,
    /// For a client further behind than so many entries (at most 1000): a `snapshot`, and about so many of the newest.
    window: Option<u32>,
    /// What the person looks with; `api` when not said.
    #[serde(default)]
    client: ClientKind,
}

/// Follow a session
///
/// Server-sent events, each a `Frame`; the event's name is the frame's type, the id of an `entry` its sequence number.
/// Replays what follows `after`, says `caught_up`, then is live. A reconnect with `Last-Event-ID` goes on where it was.
#[utoipa::path(get, path = "/sessions/{id}/stream", operation_id = "session_stream", tag = "sessions",
    params(
        ("id" = SessionId, Path), After,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last entry the client has"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = Frame),
        (status = 404, description = "`session_unknown`", body = ErrorBody),
    ))]
pub(super) async fn stream(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(id): PathOf<SessionId>,
    QueryOf(query): QueryOf<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = last_event(&headers)?.unwrap_or(query.after);
    let standing = standing(state.clone(), &caller, Some(id));
    let frames = state.app.subscribe(&caller.person, id, after, query.window, query.client).await?;
    let events = Drained::new(frames, after, Arc::clone(&state.app)).filter_map(async |sent| match sent {
        Sent::Frame { name, seq, written } => {
            Some(sse::Event { name, id: seq, data: written.text().clone() })
        }
        Sent::Ping => None,
    });
    sse::answer(&state, &caller, standing, events.boxed(), |problem| {
        Some(sse::data_of(&Frame::Error { problem }))
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Shown {
    /// Only sessions of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
}

/// Follow the list of sessions
///
/// Server-sent events, each a `SessionsFrame`: a `snapshot` first, then what changes. A client that reconnects begins with
/// a new snapshot, and so does one that reads too slowly.
#[utoipa::path(get, path = "/sessions/stream", operation_id = "sessions_stream", tag = "sessions", params(Shown),
    responses(
        (status = 200, content_type = "text/event-stream", body = SessionsFrame),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
    ))]
pub(super) async fn sessions(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(shown): QueryOf<Shown>,
) -> Result<Response, ApiError> {
    let standing = standing(state.clone(), &caller, None);
    let frames = state.app.follow_sessions(&caller.person, shown.repository.as_ref()).await?;
    let events = frames.map(|frame| {
        let name = match frame {
            SessionsFrame::Snapshot { .. } => "snapshot",
            SessionsFrame::Changed { .. } => "changed",
            SessionsFrame::Removed { .. } => "removed",
            SessionsFrame::Read(_) => "read",
            SessionsFrame::Draft(_) => "draft",
            SessionsFrame::Error { .. } => "error",
        };
        sse::Event { name, id: None, data: sse::data_of(&frame) }
    });
    sse::answer(&state, &caller, standing, events, |problem| {
        Some(sse::data_of(&SessionsFrame::Error { problem }))
    })
}

fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    seq.map(Some).ok_or_else(|| invalid("`Last-Event-ID` is the sequence number of an entry."))
}
