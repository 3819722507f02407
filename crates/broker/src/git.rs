//! The forge as a sandbox sees it: `http://git.greenroom.internal/<repository>.git`, without a credential, because the
//! connection itself says which sandbox it is. Fetches what the session's policy names; pushes end in the forge's
//! quarantine under the session's push policy.

use crate::{
    http::{Body, text},
    policy::{PushGrant, SandboxPolicy},
};
use bytes::Bytes;
use futures::TryStreamExt;
use greenroom_domain::RepositoryId;
use greenroom_forge::{
    Error, Forge, GitService, PushPolicy,
    smart_http::{Request, Step, decoded},
};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use std::sync::Arc;
use tokio_util::io::{ReaderStream, StreamReader};

const BUFFER: usize = 256 * 1024;

/// Why a request of git was not answered, for the log of denials.
pub(crate) enum Answer {
    Response(Response<Body>),
    Refused(Response<Body>),
}

pub(crate) async fn answer(
    forge: &Arc<dyn Forge>,
    policy: &SandboxPolicy,
    request: http::Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let Some(git) = Request::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query()) else {
        return Answer::Response(text(StatusCode::NOT_FOUND, "Only git is served here."));
    };
    let Some(id) = granted(policy, git.repository) else {
        let words = "This session has no access to this repository.";
        return Answer::Refused(text(StatusCode::FORBIDDEN, words));
    };
    let push = match (git.service, push_policy(policy, id)) {
        (GitService::ReceivePack, None) => {
            let words = "This session may fetch this repository, but not push to it.";
            return Answer::Refused(text(StatusCode::FORBIDDEN, words));
        }
        (_, push) => push,
    };
    Answer::Response(match git.step {
        Step::Advertise => advertise(forge, id, &git, &parts.headers).await,
        Step::Exchange => exchange(forge.clone(), id, &git, &parts.headers, push, body),
    })
}

fn granted(policy: &SandboxPolicy, named: &str) -> Option<RepositoryId> {
    let is_named = |id: &RepositoryId, name: &str| name == named || id.to_string() == named;
    let mut grants = policy.repositories.iter();
    grants.find(|grant| is_named(&grant.id, grant.name.as_str())).map(|grant| grant.id)
}

fn push_policy(policy: &SandboxPolicy, repository: RepositoryId) -> Option<PushPolicy> {
    let PushGrant { session, repository: own, branch, emails, people, size_limit_bytes } =
        policy.push.clone()?;
    (own == repository).then_some(PushPolicy::Session { session, branch, emails, people, size_limit_bytes })
}

async fn advertise(
    forge: &Arc<dyn Forge>,
    id: RepositoryId,
    git: &Request<'_>,
    headers: &HeaderMap,
) -> Response<Body> {
    match forge.advertise(id, git.service, value(headers, "git-protocol")).await {
        Ok(bytes) => {
            respond(git, Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync())
        }
        Err(error) => failed(&error),
    }
}

/// The answer streams while git works; what fails after its beginning ends it early, which git notices.
fn exchange(
    forge: Arc<dyn Forge>,
    id: RepositoryId,
    git: &Request<'_>,
    headers: &HeaderMap,
    push: Option<PushPolicy>,
    body: Incoming,
) -> Response<Body> {
    let frames = TryStreamExt::map_err(BodyStream::new(body), std::io::Error::other);
    let chunks = frames.try_filter_map(|frame| std::future::ready(Ok(frame.into_data().ok())));
    let encoding = value(headers, header::CONTENT_ENCODING.as_str());
    let Some(input) = decoded(encoding, StreamReader::new(Box::pin(chunks))) else {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "This content encoding is not supported.");
    };
    let (near, far) = tokio::io::duplex(BUFFER);
    let (service, protocol) = (git.service, value(headers, "git-protocol").map(str::to_owned));
    tokio::spawn(async move {
        let served = forge.serve(id, service, protocol.as_deref(), push, input, Box::new(near)).await;
        if let Err(error) = served {
            tracing::warn!(%error, repository = %id, ?service, "a git exchange failed");
        }
    });
    let stream = ReaderStream::with_capacity(far, BUFFER).map_ok(Frame::data).map_err(Into::into);
    respond(git, StreamBody::new(stream).boxed_unsync())
}

fn respond(git: &Request<'_>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(git.content_type()));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    response
}

/// git prints a body of plain text.
fn failed(error: &Error) -> Response<Body> {
    match error {
        Error::Refused(problem) => {
            let status = StatusCode::from_u16(problem.code.http_status()).unwrap_or(StatusCode::FORBIDDEN);
            text(status, &problem.message)
        }
        other => {
            tracing::error!(error = %other, "the forge failed");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The forge failed; its log says why.")
        }
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
