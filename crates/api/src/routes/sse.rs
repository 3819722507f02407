//! Server-sent events: a stream of named JSON values with keep-alive comments. Ends when the caller may not look any more
//! (the last event, `error`, says why), or when the server stops.

use crate::ApiState;
use crate::error::{ApiError, shutting_down};
use crate::extract::Caller;
use crate::layers::Standing;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use greenroom_domain::Problem;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) struct Event {
    pub(super) name: &'static str,
    /// What a client that reconnects says it has.
    pub(super) id: Option<u64>,
    /// JSON, on one line.
    pub(super) data: Bytes,
}

pub(super) fn data_of(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("the contract's types serialise").into()
}

/// A stream's next part.
enum Part {
    Event(Event),
    Last(Option<Event>),
}

/// `error`: the last frame, for a caller who may not look any more, where the stream has one for that.
pub(super) fn answer(
    state: &ApiState,
    caller: &Caller,
    standing: Standing,
    events: impl Stream<Item = Event> + Send + 'static,
    error: impl FnOnce(Problem) -> Option<Bytes> + Send + 'static,
) -> Result<Response, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(shutting_down().into());
    }
    let slot = state.streams.enter(caller.person.id)?;
    let shutdown = state.shutdown.clone().cancelled_owned();
    let refused = standing.filter_map(async |checked: Result<_, Problem>| checked.err());
    let over = stream::once(async move {
        let mut refused = std::pin::pin!(refused);
        match future::select(Box::pin(shutdown), refused.next()).await {
            future::Either::Right((Some(problem), _)) => {
                Part::Last(error(problem).map(|data| Event { name: "error", id: None, data }))
            }
            _ => Part::Last(None),
        }
    });
    let events = events.map(Part::Event).chain(stream::iter([Part::Last(None)]));
    let parts = stream::select(over, events).flat_map(move |part| {
        let _held_while_streaming = &slot;
        let (event, end) = match part {
            Part::Event(event) => (Some(Some(event)), None),
            Part::Last(event) => (event.map(Some), Some(None)),
        };
        stream::iter([event, end].into_iter().flatten())
    });
    let events =
        parts.scan((), |(), event| future::ready(event)).map(|event| Ok::<_, Infallible>(as_event(&event)));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn as_event(event: &Event) -> sse::Event {
    let data = std::str::from_utf8(&event.data).expect("JSON is UTF-8");
    let built = sse::Event::default().event(event.name).data(data);
    match event.id {
        Some(id) => built.id(id.to_string()),
        None => built,
    }
}
