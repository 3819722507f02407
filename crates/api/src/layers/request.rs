//! The outermost layer: gives each request an id, logs it, turns a panic into an answer, writes the bodies of errors
//! and the security headers. Logs neither queries (links carry tokens in them) nor bodies.

use crate::ApiState;
use crate::error::{no_such_route, panicked};
use crate::state::new_request_id;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use greenroom_domain::{ErrorCode, Problem, RequestId};
use greenroom_telemetry::request::scope;
use greenroom_wire::{ErrorBody, ErrorView};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tracing::Instrument;

/// The route of what has no template: pages and their files, and addresses that do not exist.
const PAGE: &str = "page";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Styles may be inline because components set them at run time; scripts come from our own files only.
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; \
    worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Whose eyes an answer is for, by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Program,
    /// Asks again and again whether the server lives.
    Prober,
    Git,
    Browser,
}

pub(super) async fn answer(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let reader = reader_of(&path);
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let span = tracing::info_span!("request", %id);
    let answered =
        AssertUnwindSafe(scope(id, next.run(request))).catch_unwind().instrument(span.clone()).await;
    let response = answered.unwrap_or_else(|_| crate::error::ApiError(panicked()).into_response());
    let response = with_error_body(response, id, reader, &state);
    let _entered = span.entered();
    let status = response.status().as_u16();
    let ms = started.elapsed().as_millis();
    state.telemetry.http(route.as_deref().unwrap_or(PAGE), method.as_str(), status, started.elapsed());
    match reader {
        Reader::Browser | Reader::Prober => tracing::debug!(%method, path, status, ms, "answered"),
        _ => tracing::info!(%method, path, status, ms, "answered"),
    }
    with_headers(response, id, reader)
}

/// A program's own id, so that it finds its request in this server's log, when it has exactly the form of ours: nothing
/// else may get into logs by a header. Otherwise a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    given.unwrap_or_else(new_request_id)
}

fn reader_of(path: &str) -> Reader {
    match path.split('/').nth(1) {
        Some("api" | "metrics") => Reader::Program,
        Some("healthz" | "readyz") => Reader::Prober,
        Some("git") => Reader::Git,
        _ => Reader::Browser,
    }
}

fn with_error_body(mut response: Response, id: RequestId, reader: Reader, state: &ApiState) -> Response {
    let Some(problem) = problem_of(&mut response, reader) else { return response };
    state.telemetry.refused(problem.code);
    // That it stops is no failure.
    if response.status().is_server_error() && problem.code != ErrorCode::ShuttingDown {
        tracing::error!(%id, code = %problem.code, message = problem.message, detail = problem.detail, "failed");
    }
    let retry_after = retry_after_s(&problem);
    let (kind, text) = match reader {
        Reader::Git => ("text/plain; charset=utf-8", in_words(&problem)),
        _ => ("application/json", in_json(problem, id)),
    };
    let headers = response.headers_mut();
    headers.remove(http::header::CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    *response.body_mut() = Body::from(text);
    response
}

fn retry_after_s(problem: &Problem) -> Option<u32> {
    let at_once = match problem.code {
        ErrorCode::TooManyRequests | ErrorCode::ShuttingDown => Some(1),
        _ => None,
    };
    problem.retry_after_s.or(at_once)
}

/// What a handler or layer of ours put there; where a library refused by itself, what its status says.
fn problem_of(response: &mut Response, reader: Reader) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    (is_refusal && reader == Reader::Program).then(|| match status {
        StatusCode::NOT_FOUND => no_such_route(),
        _ if status.is_client_error() => {
            Problem::new(ErrorCode::InvalidRequest, "The request is not what this route takes.")
        }
        _ => panicked(),
    })
}

fn in_json(problem: Problem, id: RequestId) -> String {
    let error = ErrorView::of(problem, id.to_string());
    serde_json::to_string(&ErrorBody { error }).expect("strings serialise")
}

/// Git shows plain text to the person.
fn in_words(problem: &Problem) -> String {
    match &problem.hint {
        Some(hint) => format!("{}\n{hint}\n", problem.message),
        None => format!("{}\n", problem.message),
    }
}

fn with_headers(mut response: Response, id: RequestId, reader: Reader) -> Response {
    let headers = response.headers_mut();
    let id = HeaderValue::try_from(id.to_string()).expect("an id is visible ASCII");
    headers.insert(X_REQUEST_ID, id);
    let policy = if reader == Reader::Browser { PAGE_POLICY } else { DATA_POLICY };
    set(headers, CONTENT_SECURITY_POLICY, policy);
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, X_FRAME_OPTIONS, "DENY");
    set(headers, REFERRER_POLICY, "no-referrer");
    set(headers, OPENER_POLICY, "same-origin");
    set(headers, RESOURCE_POLICY, "same-origin");
    if reader != Reader::Browser && !headers.contains_key(CACHE_CONTROL) {
        set(headers, CACHE_CONTROL, "no-store");
    }
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
