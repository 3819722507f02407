//! Git's smart HTTP protocol: `git clone`, `fetch` and `push` with a token as password. Refusals are plain text, which
//! git shows to the person.

use crate::ApiState;
use crate::error::{ApiError, invalid, no_such_route, not_signed_in, panicked};
use crate::extract::{Caller, PathOf, QueryOf};
use crate::layers::{Credential, Slot, person_of};
use async_compression::tokio::bufread::GzipDecoder;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::TryStreamExt;
use greenroom_app::GitService;
use greenroom_domain::{ErrorCode, Problem, RepositoryName};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio_util::io::{ReaderStream, StreamReader};

/// One exchange: a large clone over a slow line.
const EXCHANGE_TIME: Duration = Duration::from_secs(3600);
/// What a client may send in one exchange, after decompression.
const PUSH_LIMIT: u64 = 4 * 1024 * 1024 * 1024;
const FETCH_LIMIT: u64 = 64 * 1024 * 1024;
const PIPE: usize = 64 * 1024;

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    Router::new()
        .route("/git/{repository}/info/refs", get(advertise))
        .route("/git/{repository}/git-upload-pack", post(upload_pack))
        .route("/git/{repository}/git-receive-pack", post(receive_pack))
        .route_layer(from_fn_with_state(state.clone(), authenticate))
}

async fn authenticate(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    match caller_of(&state, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => challenge(problem),
    }
}

async fn caller_of(state: &ApiState, headers: &HeaderMap) -> Result<Caller, Problem> {
    let credential = Credential::of_git(headers).ok_or_else(not_signed_in)?;
    let person = person_of(state, &credential).await?;
    state.limits.person(person.id)?;
    Ok(Caller { person, credential })
}

fn challenge(problem: Problem) -> Response {
    let problem = match problem.code {
        ErrorCode::NotSignedIn => {
            problem.hint("Use your login as user name and a token from `greenroom token create` as password.")
        }
        _ => problem,
    };
    let mut response = ApiError(problem).into_response();
    let basic = HeaderValue::from_static("Basic realm=\"Greenroom\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, basic);
    response
}

#[derive(Debug, Deserialize)]
struct Service {
    service: Option<String>,
}

async fn advertise(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(repository): PathOf<String>,
    QueryOf(query): QueryOf<Service>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (service, kind) = match query.service.as_deref() {
        Some("git-upload-pack") => (GitService::UploadPack, "application/x-git-upload-pack-advertisement"),
        Some("git-receive-pack") => (GitService::ReceivePack, "application/x-git-receive-pack-advertisement"),
        _ => return Err(invalid("Only git's smart HTTP protocol is spoken here.").into()),
    };
    let name = repository_name(&repository)?;
    let _slot = state.git_exchanges.enter(caller.person.id)?;
    let advertised = state.app.git_advertise(&caller.person, &name, service, protocol(&headers)).await?;
    Ok(answer(kind, Body::from(advertised)))
}

async fn upload_pack(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(repository): PathOf<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let kind = "application/x-git-upload-pack-result";
    exchange(state, caller, &repository, GitService::UploadPack, kind, FETCH_LIMIT, request).await
}

async fn receive_pack(
    State(state): State<ApiState>,
    caller: Caller,
    PathOf(repository): PathOf<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let kind = "application/x-git-receive-pack-result";
    exchange(state, caller, &repository, GitService::ReceivePack, kind, PUSH_LIMIT, request).await
}

/// The exchange runs in a task of its own and to its end, whether or not the client stays to hear of it.
async fn exchange(
    state: ApiState,
    caller: Caller,
    repository: &str,
    service: GitService,
    kind: &'static str,
    limit: u64,
    request: Request,
) -> Result<Response, ApiError> {
    let name = repository_name(repository)?;
    let slot = state.git_exchanges.enter(caller.person.id)?;
    let protocol = protocol(request.headers()).map(str::to_owned);
    let input = input_of(request, limit)?;
    let (output, answered) = tokio::io::duplex(PIPE);
    let work = tokio::spawn(async move {
        let _slot: Slot = slot;
        let output = Box::new(output);
        let serving = state.app.git_serve(&caller.person, &name, service, protocol.as_deref(), input, output);
        tokio::time::timeout(EXCHANGE_TIME, serving).await.unwrap_or_else(|_| Err(too_slow()))
    });
    output_of(kind, answered, work).await
}

fn input_of(request: Request, limit: u64) -> Result<Box<dyn AsyncRead + Send + Unpin>, Problem> {
    let encoding = request.headers().get(CONTENT_ENCODING).cloned();
    let body = StreamReader::new(request.into_body().into_data_stream().map_err(io::Error::other));
    match encoding.as_ref().map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Box::new(body.take(limit))),
        Some(b"gzip" | b"x-gzip") => Ok(Box::new(GzipDecoder::new(body).take(limit))),
        Some(_) => Err(invalid("The body's encoding is not known; `gzip` is.")),
    }
}

/// Waits for the first bytes: a refusal before them is an answer of its own; after them the transfer breaks off.
async fn output_of(
    kind: &'static str,
    answered: DuplexStream,
    work: JoinHandle<Result<(), Problem>>,
) -> Result<Response, ApiError> {
    let mut answered = BufReader::with_capacity(PIPE, answered);
    let is_empty = answered.fill_buf().await.is_ok_and(<[u8]>::is_empty);
    if is_empty {
        work.await.map_err(|_| panicked())??;
        return Ok(answer(kind, Body::empty()));
    }
    let rest = futures::stream::once(async move {
        match work.await {
            Ok(Ok(())) => Ok(bytes::Bytes::new()),
            _ => Err(io::Error::other("the exchange broke off")),
        }
    });
    let chunks = futures::StreamExt::chain(ReaderStream::with_capacity(answered, PIPE), rest);
    Ok(answer(kind, Body::from_stream(chunks)))
}

fn answer(kind: &'static str, body: Body) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], body).into_response()
}

fn repository_name(segment: &str) -> Result<RepositoryName, Problem> {
    let name = segment.strip_suffix(".git").unwrap_or(segment);
    name.parse().map_err(|_| no_such_route())
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("git-protocol")?.to_str().ok()?;
    (value.len() <= 256).then_some(value)
}

fn too_slow() -> Problem {
    Problem::new(ErrorCode::Deadline, "The exchange with git took longer than an hour.")
}
