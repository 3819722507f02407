//! What the tests of this crate share: a provider at a scripted server, and its whole answer.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use greenroom_domain::message::Message;
use greenroom_model::testing::{Turn, WireServer, WireServerOptions};
use greenroom_model::{
    Delta, EndpointOptions, Error, Provider, ProviderKind, Request, Response, Secret, StreamEvent,
    connect_with,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const KEY: &str = "sk-test-9f8e7d6c5b4a";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn server(options: WireServerOptions) -> WireServer {
    WireServer::start(options).await.unwrap()
}

pub(crate) fn provider_with(
    server: &WireServer,
    kind: ProviderKind,
    options: EndpointOptions,
) -> Arc<dyn Provider> {
    connect_with(&server.config(kind), Some(Secret::new(KEY)), options).unwrap()
}

pub(crate) fn provider(server: &WireServer, kind: ProviderKind) -> Arc<dyn Provider> {
    provider_with(server, kind, server.endpoint_options())
}

pub(crate) fn request(messages: Vec<Message>) -> Request {
    Request {
        system: "You are a test.".into(),
        tools: vec![greenroom_model::ToolDefinition {
            name: "bash".into(),
            description: "Runs a command.".into(),
            input_schema: serde_json::json!({"type": "object", "properties": {"command": {"type": "string"}}}),
        }],
        messages,
        max_output_tokens: 1_000,
        effort: None,
        cache_key: "session-1".into(),
    }
}

pub(crate) fn prompt(text: &str) -> Request {
    request(vec![Message::user(text)])
}

/// The deltas, and how it ended.
pub(crate) struct Answer {
    pub(crate) deltas: Vec<Delta>,
    pub(crate) end: Result<Response, Error>,
}

pub(crate) async fn ask(provider: &dyn Provider, request: Request) -> Answer {
    within(async {
        let mut deltas = Vec::new();
        let mut stream = match provider.stream(request).await {
            Ok(stream) => stream,
            Err(error) => return Answer { deltas, end: Err(error) },
        };
        let end = loop {
            match stream.recv().await.expect("a stream ends with Done or Failed") {
                StreamEvent::Delta(delta) => deltas.push(delta),
                StreamEvent::Done(response) => break Ok(*response),
                StreamEvent::Failed(error) => break Err(error),
            }
        };
        assert!(stream.recv().await.is_none(), "nothing follows the end");
        Answer { deltas, end }
    })
    .await
}

/// One turn of the script, asked for in one protocol.
pub(crate) async fn answer_to(kind: ProviderKind, turn: Turn, options: EndpointOptions) -> Answer {
    let server = server(WireServerOptions::default()).await;
    server.push(turn);
    ask(&*provider_with(&server, kind, options), prompt("go")).await
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

/// Waits for a condition that another task brings about.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}
