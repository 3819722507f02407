//! One request handed on to a program inside, and its answer handed back: bodies stream both ways, a WebSocket becomes
//! two joined byte streams. Ends when either side does, and at any moment at which `over` says so.

use super::headers;
use crate::layers::Slot;
use crate::port::PreviewStream;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use futures::{StreamExt, future};
use greenroom_domain::{ErrorCode, Problem};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// Until the answer's headers are complete: a development server may compile first.
const ANSWER_TIME: Duration = Duration::from_secs(300);
const HEADER_BYTES: usize = 64 * 1024;
const HEADERS: usize = 256;

/// Between whom a request goes.
pub(super) struct Way {
    /// Why it is to end, as soon as it is.
    pub(super) over: BoxFuture<'static, Problem>,
    pub(super) slot: Slot,
    pub(super) host: Authority,
    pub(super) is_secure: bool,
    pub(super) page: String,
}

impl Way {
    pub(super) async fn forward(
        mut self,
        mut request: Request,
        stream: Box<dyn PreviewStream>,
    ) -> Result<Response, Problem> {
        let browser = headers::is_socket(request.headers()).then(|| hyper::upgrade::on(&mut request));
        self.point_inside(&mut request)?;
        let answer = tokio::select! {
            biased;
            problem = &mut self.over => return Err(problem),
            answer = ask(request, stream) => answer?,
        };
        self.answer(answer, browser)
    }

    /// Only path and query go in; whom they are for is in `Host`.
    fn point_inside(&self, request: &mut Request) -> Result<(), Problem> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().clear();
        headers::to_inside(request.headers_mut(), &self.host, self.is_secure);
        let has_host = request.headers().contains_key(HOST);
        has_host
            .then_some(())
            .ok_or_else(|| Problem::new(ErrorCode::InvalidRequest, "The host is no header."))
    }

    fn answer(
        self,
        mut answer: http::Response<hyper::body::Incoming>,
        browser: Option<OnUpgrade>,
    ) -> Result<Response, Problem> {
        let is_switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::to_outside(answer.headers_mut(), &self.page, is_switched);
        if !is_switched {
            let (parts, body) = answer.into_parts();
            return Ok(Response::from_parts(parts, self.streamed(Body::new(body))));
        }
        let browser = browser.ok_or_else(|| no_http("it switched protocols without being asked"))?;
        let inside = hyper::upgrade::on(&mut answer);
        tokio::spawn(self.joined(browser, inside));
        Ok(Response::from_parts(answer.into_parts().0, Body::empty()))
    }

    /// Read no faster than the browser takes it.
    fn streamed(self, body: Body) -> Body {
        use hyper::body::Body as _;
        // Nothing that could outlive the caller: no watch is needed.
        if body.is_end_stream() {
            return body;
        }
        let Self { over, slot, .. } = self;
        let chunks = body.into_data_stream().take_until(over).map(move |chunk| {
            let _held_while_streaming = &slot;
            chunk
        });
        Body::from_stream(chunks)
    }

    async fn joined(self, browser: OnUpgrade, inside: OnUpgrade) {
        let Self { over, slot: _slot, .. } = self;
        let joining = async {
            let (browser, inside) = future::try_join(browser, inside).await.ok()?;
            let (mut browser, mut inside) = (TokioIo::new(browser), TokioIo::new(inside));
            tokio::io::copy_bidirectional(&mut browser, &mut inside).await.ok()
        };
        tokio::select! {
            biased;
            _ = over => {}
            _ = joining => {}
        }
    }
}

/// A connection of its own for each request: it ends with the answer, and with whoever waits for one.
async fn ask(
    request: Request,
    stream: Box<dyn PreviewStream>,
) -> Result<http::Response<hyper::body::Incoming>, Problem> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|error| no_http(&error.to_string()))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a preview broke");
        }
    }));
    let answer = tokio::time::timeout(ANSWER_TIME, sender.send_request(request))
        .await
        .map_err(|_| {
            Problem::new(ErrorCode::Deadline, "The program inside did not answer within five minutes.")
        })?
        .map_err(|error| no_http(&error.to_string()))?;
    connection.detach();
    Ok(answer)
}

fn no_http(why: &str) -> Problem {
    Problem::new(ErrorCode::ServiceFailed, "The program on this port did not answer as a web server does.")
        .hint("Look at its output in the session; it may speak https, or have ended.")
        .detail(why)
}
