//! Server-sent events: a stream of named JSON values with keep-alive comments. Read no faster than the client takes
//! them, so that nothing is stored for a slow one here. Ends when the caller's credential does, or the server stops.

use crate::ApiState;
use crate::error::{ApiError, shutting_down};
use crate::extract::Caller;
use crate::layers::revoked;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, future};
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) struct Event {
    pub(super) name: &'static str,
    /// What a client that reconnects says it has.
    pub(super) id: Option<u64>,
    /// JSON, on one line.
    pub(super) data: String,
}

pub(super) fn data_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the contract's types serialise")
}

pub(super) fn answer(
    state: &ApiState,
    caller: Caller,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Result<Response, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(shutting_down().into());
    }
    let slot = state.streams.enter(caller.person.id)?;
    let shutdown = state.shutdown.clone();
    let over = Box::pin(future::select(
        Box::pin(async move { shutdown.cancelled().await }),
        Box::pin(revoked(state.clone(), caller)),
    ));
    let events = events.take_until(over).map(move |event| {
        let _held_while_streaming = &slot;
        Ok::<_, Infallible>(as_event(event))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn as_event(event: Event) -> sse::Event {
    let built = sse::Event::default().event(event.name).data(event.data);
    match event.id {
        Some(id) => built.id(id.to_string()),
        None => built,
    }
}
