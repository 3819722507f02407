//! The programs behind the ports of the fake's sandbox: a web server on 3000 and 3001, something else on 9.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::Message;
use axum::extract::{State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream::{self, StreamExt};
use http::header::SET_COOKIE;
use http::{HeaderMap, Uri};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;

/// A program that takes its time: it says when it was asked, and answers when it is let.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) asked: Semaphore,
    pub(crate) may_answer: Semaphore,
}

impl Default for Inside {
    fn default() -> Self {
        Self { asked: Semaphore::new(0), may_answer: Semaphore::new(0) }
    }
}

/// Our end of a connection to the port; nothing where nobody listens.
pub(crate) fn connect(port: u16, inside: &Arc<Inside>) -> Option<DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    match port {
        3000 | 3001 => tokio::spawn(serve(theirs, Arc::clone(inside))),
        9 => tokio::spawn(async move {
            let mut theirs = theirs;
            let _read = theirs.read(&mut [0; 64]).await;
            let _written = theirs.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
        }),
        _ => return None,
    };
    Some(ours)
}

async fn serve(stream: DuplexStream, inside: Arc<Inside>) {
    let router = Router::new()
        .route("/hello", get(hello))
        .route("/headers", get(headers))
        .route("/echo", post(async |body: Bytes| body).layer(axum::extract::DefaultBodyLimit::disable()))
        .route("/events", get(events))
        .route("/socket", get(socket))
        .route("/late", get(late).with_state(inside));
    let service = TowerToHyperService::new(router);
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = connection.with_upgrades().await;
}

async fn hello(uri: Uri) -> Response {
    let cookies = [(SET_COOKIE, "inside=1; Domain=localhost; Path=/")];
    (cookies, format!("hello from inside, {uri}")).into_response()
}

async fn headers(headers: HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("?"))).collect()
}

/// One event, then silence for ever.
async fn events() -> Response {
    let first = stream::iter([Ok::<_, Infallible>("data: 1\n\n")]);
    ([("content-type", "text/event-stream")], Body::from_stream(first.chain(stream::pending())))
        .into_response()
}

async fn late(State(inside): State<Arc<Inside>>, upgrade: WebSocketUpgrade) -> Response {
    inside.asked.add_permits(1);
    let _answering = inside.may_answer.acquire().await;
    socket(upgrade).await
}

async fn socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                let _sent = socket.send(Message::text(format!("echo {}", text.as_str()))).await;
            }
        }
    })
}
