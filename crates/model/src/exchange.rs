//! One request and its streamed answer, the same for all protocols: send, check the status, parse events, hand them to
//! the protocol's `Decoder`, pass on deltas, end with exactly one `Done` or `Failed`. Dropping the receiver cancels.

use crate::catalog::ModelFacts;
use crate::provider::{Delta, Error, ProviderStream, Response, StreamEvent};
use crate::refusal;
use crate::secret::Secret;
use crate::sse::{Event, Parser};
use crate::transport::{AnswerBody, Endpoint};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

/// One event: a final event repeats the whole answer, encrypted reasoning included.
pub(crate) const EVENT_LIMIT: usize = 8 * 1024 * 1024;
const CHANNEL_SIZE: usize = 64;

/// A protocol's answer, event by event. Pure.
pub(crate) trait Decoder: Send + 'static {
    /// The complete answer after its final event.
    fn accept(&mut self, event: &Event, deltas: &mut Vec<Delta>) -> Result<Option<Response>, Error>;

    /// The bytes ended without a final event.
    fn end(&mut self) -> Result<Response, Error> {
        Err(Error::Broken { reason: "it ended before it was complete".to_owned() })
    }
}

/// Where and how requests of one provider are sent.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) endpoint: Endpoint,
    pub(crate) path: String,
    /// The model and its server, to which raw items are bound.
    pub(crate) origin: String,
    /// Holds the key, marked as sensitive: `Debug` shows nothing of it.
    pub(crate) headers: HeaderMap,
    pub(crate) key: Option<Secret>,
    pub(crate) facts: ModelFacts,
}

/// How a provider wants its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyStyle {
    ApiKeyHeader,
    GoogleHeader,
    Bearer,
}

/// Headers of every request. A key that cannot be a header's value is refused without being shown.
pub(crate) fn headers(key: Option<&Secret>, style: KeyStyle) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("greenroom/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = key {
        let (name, text) = match style {
            KeyStyle::ApiKeyHeader => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
            KeyStyle::GoogleHeader => (HeaderName::from_static("x-goog-api-key"), key.expose().to_owned()),
            KeyStyle::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| Error::KeyRefused { status: 401 })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

impl Exchange {
    pub(crate) async fn start(&self, body: &Value, decoder: impl Decoder) -> Result<ProviderStream, Error> {
        let body = Bytes::from(body.to_string());
        let answer = self.endpoint.post(&self.path, &self.headers, body).await?;
        if answer.status != StatusCode::OK {
            let body = answer.body.read_up_to(refusal::BODY_LIMIT).await;
            return Err(refusal::http_error(
                answer.status.as_u16(),
                &answer.headers,
                &body,
                self.key.as_ref(),
            ));
        }
        let (sender, receiver) = mpsc::channel(CHANNEL_SIZE);
        tokio::spawn(pump(answer.body, decoder, sender, self.facts.clone(), self.origin.clone()));
        Ok(receiver)
    }
}

async fn pump(
    mut body: AnswerBody,
    mut decoder: impl Decoder,
    sender: mpsc::Sender<StreamEvent>,
    facts: ModelFacts,
    origin: String,
) {
    let outcome = tokio::select! {
        outcome = receive(&mut body, &mut decoder, &sender) => outcome,
        () = sender.closed() => return,
    };
    match outcome {
        Ok(mut response) => {
            response.usage.requests = 1;
            // What the provider says itself counts.
            if response.usage.cost_microusd == 0 {
                response.usage.cost_microusd = facts.cost_microusd(&response.usage);
            }
            if let Some(raw) = &mut response.raw {
                raw.model = Some(origin);
            }
            let _ = sender.send(StreamEvent::Done(Box::new(response))).await;
            drop(sender);
            body.drain().await;
        }
        Err(error) => {
            let _ = sender.send(StreamEvent::Failed(error)).await;
        }
    }
}

async fn receive(
    body: &mut AnswerBody,
    decoder: &mut impl Decoder,
    sender: &mpsc::Sender<StreamEvent>,
) -> Result<Response, Error> {
    let mut parser = Parser::new(EVENT_LIMIT);
    while let Some(bytes) = body.next().await? {
        let events = parser.feed(&bytes).map_err(|too_large| Error::TooLarge { limit: too_large.limit })?;
        for event in events {
            let mut deltas = Vec::new();
            let outcome = decoder.accept(&event, &mut deltas);
            for delta in deltas {
                // A receiver that is gone ends `pump` through `closed`.
                let _ = sender.send(StreamEvent::Delta(delta)).await;
            }
            if let Some(response) = outcome? {
                return Ok(response);
            }
        }
    }
    decoder.end()
}

/// The data of an event as JSON.
pub(crate) fn json(event: &Event) -> Result<Value, Error> {
    serde_json::from_str(&event.data)
        .map_err(|error| Error::Broken { reason: format!("an event is not valid JSON ({error})") })
}
