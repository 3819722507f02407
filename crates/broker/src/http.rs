//! HTTP/1.1 from a sandbox, transparent (port 80: the Host header says where to) or as a proxy (3128: CONNECT and
//! absolute form), or inside TLS that was ended here. Every request is checked by itself, also on a connection that is
//! kept open. hyper parses and writes both sides anew, so that no two parsers can disagree about where a request ends.

use crate::{
    broker::{self, Guest, Inner},
    dial::DialError,
    forward::{self, Failure, Upstream},
    git::{self, Answer},
    host::{Host, Verdict},
    inject::{self, Injections},
    io::BoxedIo,
    policy::SandboxPolicy,
};
use bytes::Bytes;
use greenroom_domain::DenyReason;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// The forge's name inside sandboxes: `http://git.greenroom.internal/<repository>.git`.
pub const FORGE_HOST: &str = "git.greenroom.internal";
pub(crate) const LONGEST_HEAD: usize = 32 * 1024;
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The client believes to talk to the host itself, on this port.
    Transparent(u16),
    Proxy,
    /// Inside TLS with this host and port that was ended here.
    Ended(Host, u16),
}

/// Where one request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// In front of the request's own path.
    pub(crate) path: String,
}

impl Target {
    fn plain(host: Host, port: u16) -> Self {
        Self { host, port, is_tls: false, path: String::new() }
    }
}

pub(crate) async fn serve(inner: Arc<Inner>, guest: Guest, stream: BoxedIo, mode: Mode) {
    let (mode, kept) = (Arc::new(mode), Upstream::default());
    let service = service_fn(move |request| {
        let (inner, guest, mode, kept) = (inner.clone(), guest.clone(), mode.clone(), kept.clone());
        async move { Ok::<_, Infallible>(answer(&inner, &guest, &mode, &kept, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(LONGEST_HEAD)
        .preserve_header_case(true)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "an HTTP connection of a sandbox ended");
    }
}

async fn answer(
    inner: &Arc<Inner>,
    guest: &Guest,
    mode: &Mode,
    kept: &Upstream,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut target = match target(&request, mode) {
        Ok(target) => target,
        Err((status, words)) => return text(status, words),
    };
    let Some(policy) = inner.policies.policy(&guest.origin).await else {
        return text(StatusCode::FORBIDDEN, "This sandbox is no longer part of a session.");
    };
    if target.host.to_string() == FORGE_HOST {
        return forge(inner, guest, &policy, &target, request).await;
    }
    if inject::is_alias(&target.host) {
        match alias(&policy, &target, request.method()) {
            Some(leads_to) => target = leads_to,
            None => return text(StatusCode::NOT_FOUND, "No secret of this repository has that address."),
        }
    }
    let verdict = crate::host::verdict(&policy.allow, &target.host, target.port);
    if verdict == Verdict::Refused {
        inner.deny(guest, policy.session, &target.host.to_string(), target.port, DenyReason::NotAllowed);
        return refusal(&target);
    }
    let done = match *request.method() {
        Method::CONNECT => connect(inner, guest, &policy, &target, verdict, request).await,
        _ => forward::forward(inner, guest, &policy, &target, verdict, kept, request).await,
    };
    done.unwrap_or_else(|error| {
        if matches!(error, Failure::Dial(DialError::PrivateAddress { .. })) {
            let host = target.host.to_string();
            inner.deny(guest, policy.session, &host, target.port, DenyReason::PrivateAddress);
            return text(StatusCode::FORBIDDEN, &format!("Greenroom refused this: {error}."));
        }
        text(StatusCode::BAD_GATEWAY, &format!("Greenroom could not pass this on: {error}."))
    })
}

async fn forge(
    inner: &Arc<Inner>,
    guest: &Guest,
    policy: &SandboxPolicy,
    target: &Target,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return text(StatusCode::FORBIDDEN, "The forge is served over plain http inside a sandbox.");
    }
    match git::answer(&inner.forge, policy, request).await {
        Answer::Response(response) => response,
        Answer::Refused(response) => {
            inner.deny(guest, policy.session, FORGE_HOST, target.port, DenyReason::Repository);
            response
        }
    }
}

/// The plain address of a secret stands for its first host.
fn alias(policy: &SandboxPolicy, target: &Target, method: &Method) -> Option<Target> {
    let found = Injections(&policy.injections).alias(&target.host).filter(|_| method != Method::CONNECT)?;
    let path = found.path.trim_end_matches('/').to_owned();
    Some(Target { host: found.host, port: found.port, is_tls: found.is_tls, path })
}

type Refused = (StatusCode, &'static str);

fn target(request: &Request<Incoming>, mode: &Mode) -> Result<Target, Refused> {
    let bad = |words| (StatusCode::BAD_REQUEST, words);
    let uri = request.uri();
    let parse = |text: &str| Host::parse(text).ok_or(bad("The host is not valid."));
    if request.method() == Method::CONNECT {
        let authority =
            uri.authority().filter(|_| *mode == Mode::Proxy).ok_or(bad("CONNECT is not served here."))?;
        let port = authority.port_u16().ok_or(bad("CONNECT needs a port."))?;
        return Ok(Target::plain(parse(authority.host())?, port));
    }
    match (uri.authority(), mode) {
        (Some(authority), Mode::Proxy) => {
            if uri.scheme_str() != Some("http") {
                return Err(bad("Use CONNECT for anything but http."));
            }
            Ok(Target::plain(parse(authority.host())?, authority.port_u16().unwrap_or(80)))
        }
        (None, Mode::Proxy) => Err(bad("This is a proxy: send the whole URL, or CONNECT.")),
        (_, Mode::Transparent(port)) => Ok(Target::plain(parse(host_header(request)?.host())?, *port)),
        (_, Mode::Ended(host, port)) => {
            if parse(host_header(request)?.host())? != *host {
                let words = "The Host header and the server name of the TLS connection differ.";
                return Err((StatusCode::MISDIRECTED_REQUEST, words));
            }
            Ok(Target { is_tls: true, ..Target::plain(host.clone(), *port) })
        }
    }
}

/// Exactly one, and not another than the URL's.
fn host_header(request: &Request<Incoming>) -> Result<http::uri::Authority, Refused> {
    let bad = |words| (StatusCode::BAD_REQUEST, words);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(bad("A request needs exactly one Host header."));
    };
    let authority: http::uri::Authority =
        host.as_bytes().try_into().map_err(|_| bad("The Host header is not valid."))?;
    if request.uri().authority().is_some_and(|named| named.host() != authority.host()) {
        return Err(bad("The URL and the Host header name different hosts."));
    }
    Ok(authority)
}

/// Dials before it answers, so that the client learns of a failure as a status. A tunnel to a host with a secret is not
/// dialled: the TLS inside is ended here.
async fn connect(
    inner: &Arc<Inner>,
    guest: &Guest,
    policy: &SandboxPolicy,
    target: &Target,
    verdict: Verdict,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let is_secret = Injections(&policy.injections).concern(&target.host, target.port, true);
    if is_secret && inner.authority().is_some() {
        let (inner, own, tunnel) = (inner.clone(), guest.clone(), (target.host.clone(), target.port));
        guest.spawn(async move {
            if let Ok(upgraded) = hyper::upgrade::on(request).await {
                let stream = Box::new(TokioIo::new(upgraded));
                broker::tls_connection(inner, own, stream, Vec::new(), Some(tunnel)).await;
            }
        });
        return Ok(Response::new(empty()));
    }
    let mut upstream = inner.dialer.dial(&target.host, target.port, verdict).await?;
    guest.spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
        }
    });
    Ok(Response::new(empty()))
}

fn refusal(target: &Target) -> Response<Body> {
    if target.is_tls {
        let words = format!("Greenroom: this sandbox may not reach {}:{}.", target.host, target.port);
        return text(StatusCode::FORBIDDEN, &words);
    }
    let entry = match target.port {
        80 | 443 => target.host.to_string(),
        port => format!("{}:{port}", target.host),
    };
    let words = format!(
        "Greenroom: this sandbox may not reach {}:{}.\nTo allow it, add this to .greenroom/environment.toml:\n\n\
         [egress]\nallow = [\"{entry}\"]\n",
        target.host, target.port
    );
    text(StatusCode::FORBIDDEN, &words)
}

pub(crate) fn text(status: StatusCode, words: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{}\n", words.trim_end())));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}
