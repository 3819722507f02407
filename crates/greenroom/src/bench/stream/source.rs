//! The model server: speaks Chat Completions, and says what the prompt asks for at the asked pace until it is told to
//! end. Each delta is one event of one record.

use super::record::Clock;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

/// Deltas are written at most this often; faster ones several at a time.
const TICKS_PER_S: u32 = 1000;
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// What a prompt says to this model.
pub(super) struct Ask {
    /// Deltas in a second.
    pub(super) rate: u32,
    /// Bytes that a tool prints first; 0 for no tool.
    pub(super) output: u32,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate={} output={} .", self.rate, self.output)
    }
}

impl Ask {
    fn read(body: &str) -> Option<Self> {
        let number = |name: &str| {
            let rest = &body[body.rfind(name)? + name.len()..];
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        Some(Self { rate: number("rate=")?, output: number("output=")? })
    }
}

pub(super) struct Source {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    is_over: watch::Sender<bool>,
    /// The tool may run.
    is_loud: watch::Sender<bool>,
}

impl Source {
    pub(super) async fn start(clock: Clock) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            clock,
            is_over: watch::Sender::new(false),
            is_loud: watch::Sender::new(false),
        });
        let routes = Router::new()
            .route("/v1/chat/completions", post(answer))
            .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(Arc::clone(&shared));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, shared })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(super) fn begin(&self) {
        self.shared.is_over.send_replace(false);
        self.shared.is_loud.send_replace(false);
    }

    /// Answers with a tool, which waited, go on.
    pub(super) fn make_noise(&self) {
        self.shared.is_loud.send_replace(true);
    }

    /// Every answer comes to its end.
    pub(super) fn end(&self) {
        self.shared.is_over.send_replace(true);
    }

    /// No answer is being given any more.
    pub(super) async fn finished(&self) {
        self.shared.is_over.closed().await;
    }
}

async fn answer(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let Some(ask) = Ask::read(&body) else {
        return (http::StatusCode::BAD_REQUEST, "no rate in the prompt").into_response();
    };
    let (events, receiver) = mpsc::channel(1);
    let has_run = body.contains(r#""role":"tool""#);
    tokio::spawn(async move {
        match ask.output {
            1.. if !has_run => {
                // Its sender lives as long as this.
                let _ = shared.is_loud.subscribe().wait_for(|is_loud| *is_loud).await;
                call(&events, ask.output).await;
            }
            _ => say(&shared, &events, ask.rate).await,
        }
    });
    let body = futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async {
        Some((Ok::<_, Infallible>(receiver.recv().await?), receiver))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
}

fn chunk(delta: &Value, finish: &Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let chunk = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "streaming", "choices": [choice] });
    format!("data: {chunk}\n\n")
}

/// A tool that prints so many bytes, in lines.
async fn call(events: &mpsc::Sender<Bytes>, output: u32) {
    let command =
        format!("yes 'a line of a tool that has a great deal to say, of sixty-four' | head -c {output}");
    let function = json!({ "name": "bash", "arguments": json!({ "command": command }).to_string() });
    let call =
        json!({ "tool_calls": [{ "index": 0, "id": "call_1", "type": "function", "function": function }] });
    let text = chunk(&call, &Value::Null) + &chunk(&json!({}), &"tool_calls".into()) + "data: [DONE]\n\n";
    // Who left needs no end.
    let _ = events.send(text.into()).await;
}

async fn say(shared: &Shared, events: &mpsc::Sender<Bytes>, rate: u32) {
    let mut is_over = shared.is_over.subscribe();
    let ticks = rate.clamp(1, TICKS_PER_S);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / ticks);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while !*is_over.borrow_and_update() {
        pace.tick().await;
        let text: String = (0..rate / ticks)
            .map(|_| {
                number += 1;
                chunk(&json!({ "content": shared.clock.record(number - 1) }), &Value::Null)
            })
            .collect();
        if events.send(text.into()).await.is_err() {
            return;
        }
    }
    let end = chunk(&json!({}), &"stop".into()) + "data: [DONE]\n\n";
    let _ = events.send(end.into()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_prompt_counts() {
        let body = format!("[{} {}]", Ask { rate: 1, output: 2 }, Ask { rate: 50, output: 0 });
        let ask = Ask::read(&body).unwrap();
        assert_eq!((ask.rate, ask.output), (50, 0));
        assert!(Ask::read("hello").is_none());
    }
}
