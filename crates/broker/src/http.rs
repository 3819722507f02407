//! HTTP/1.1 from a sandbox, transparent (port 80: the Host header says where to) or as a proxy (3128: CONNECT and
//! absolute form). Every request is checked by itself, also on a connection that is kept open. hyper parses and writes
//! both sides anew, so that no two parsers can disagree about where a request ends.

use crate::{
    broker::{Guest, Inner},
    denial::DenyReason,
    dial::DialError,
    git::{self, Answer},
    host::{Host, Verdict},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// The forge's name inside sandboxes: `http://git.greenroom.internal/<repository>.git`.
pub const FORGE_HOST: &str = "git.greenroom.internal";
const LONGEST_HEAD: usize = 32 * 1024;
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
const CONNECTION_HEADERS: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
];

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The client believes to talk to the host itself, on this port.
    Transparent(u16),
    Proxy,
}

/// Where one request goes.
struct Target {
    host: Host,
    port: u16,
}

pub(crate) async fn serve<S>(inner: Arc<Inner>, guest: Guest, stream: S, mode: Mode)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let (inner, guest) = (inner.clone(), guest.clone());
        async move { Ok::<_, Infallible>(answer(&inner, &guest, mode, request).await) }
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

async fn answer(inner: &Arc<Inner>, guest: &Guest, mode: Mode, request: Request<Incoming>) -> Response<Body> {
    let target = match target(&request, mode) {
        Ok(target) => target,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    let Some(policy) = inner.policies.policy(&guest.origin).await else {
        return text(StatusCode::FORBIDDEN, "This sandbox is no longer part of a session.");
    };
    let host = target.host.to_string();
    if host == FORGE_HOST {
        if request.method() == Method::CONNECT {
            return text(StatusCode::FORBIDDEN, "The forge is served over plain http inside a sandbox.");
        }
        return match git::answer(&inner.forge, &policy, request).await {
            Answer::Response(response) => response,
            Answer::Refused(response) => {
                inner.deny(guest, policy.session, &host, target.port, DenyReason::Repository);
                response
            }
        };
    }
    let verdict = crate::host::verdict(&policy.allow, &target.host, target.port);
    if verdict == Verdict::Refused {
        inner.deny(guest, policy.session, &host, target.port, DenyReason::NotAllowed);
        return refusal(&target);
    }
    let done = match *request.method() {
        Method::CONNECT => connect(inner, guest, &target, verdict, request).await,
        _ => forward(inner, guest, &target, verdict, request).await,
    };
    done.unwrap_or_else(|error| {
        if matches!(error, Failure::Dial(DialError::PrivateAddress { .. })) {
            inner.deny(guest, policy.session, &host, target.port, DenyReason::PrivateAddress);
            return text(StatusCode::FORBIDDEN, &format!("Greenroom refused this: {error}."));
        }
        text(StatusCode::BAD_GATEWAY, &format!("Greenroom could not pass this on: {error}."))
    })
}

fn target(request: &Request<Incoming>, mode: Mode) -> Result<Target, &'static str> {
    let uri = request.uri();
    let parse = |text: &str| Host::parse(text).ok_or("The host is not valid.");
    if request.method() == Method::CONNECT {
        let authority =
            uri.authority().filter(|_| mode == Mode::Proxy).ok_or("CONNECT is not served here.")?;
        let port = authority.port_u16().ok_or("CONNECT needs a port.")?;
        return Ok(Target { host: parse(authority.host())?, port });
    }
    match (uri.authority(), mode) {
        (Some(authority), Mode::Proxy) => {
            if uri.scheme_str() != Some("http") {
                return Err("Use CONNECT for anything but http.");
            }
            Ok(Target { host: parse(authority.host())?, port: authority.port_u16().unwrap_or(80) })
        }
        (None, Mode::Proxy) => Err("This is a proxy: send the whole URL, or CONNECT."),
        (_, Mode::Transparent(port)) => {
            let mut hosts = request.headers().get_all(header::HOST).iter();
            let (Some(host), None) = (hosts.next(), hosts.next()) else {
                return Err("A request needs exactly one Host header.");
            };
            let authority: http::uri::Authority =
                host.as_bytes().try_into().map_err(|_| "The Host header is not valid.")?;
            if uri.authority().is_some_and(|named| named.host() != authority.host()) {
                return Err("The URL and the Host header name different hosts.");
            }
            Ok(Target { host: parse(authority.host())?, port })
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// Dials before it answers, so that the client learns of a failure as a status.
async fn connect(
    inner: &Arc<Inner>,
    guest: &Guest,
    target: &Target,
    verdict: Verdict,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let mut upstream = inner.dialer.dial(&target.host, target.port, verdict).await?;
    guest.spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut upstream).await;
        }
    });
    Ok(Response::new(empty()))
}

async fn forward(
    inner: &Arc<Inner>,
    guest: &Guest,
    target: &Target,
    verdict: Verdict,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let (stream, proxy) = inner.dialer.dial_for_request(&target.host, target.port, verdict).await?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    guest.spawn_loose(async move {
        let _ = connection.with_upgrades().await;
    });
    let client_side = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let asks_upgrade = parts.headers.contains_key(header::UPGRADE);
    strip(&mut parts.headers, asks_upgrade);
    let authority = authority(target);
    parts.uri = uri(&parts.uri, proxy.map(|_| authority.as_str()));
    if let Ok(host) = HeaderValue::from_str(&authority) {
        parts.headers.insert(header::HOST, host);
    }
    if let Some(value) = proxy.and_then(|proxy| proxy.authorization.as_ref()?.parse().ok()) {
        parts.headers.insert(header::PROXY_AUTHORIZATION, value);
    }
    let mut response = sender.send_request(Request::from_parts(parts, body)).await?;
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_upgraded {
        let server_side = hyper::upgrade::on(&mut response);
        guest.spawn(async move {
            if let (Ok(client), Ok(server)) = tokio::join!(client_side, server_side) {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers, is_upgraded);
    Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}

/// Origin form for the host itself, absolute form for a proxy.
fn uri(given: &Uri, proxied: Option<&str>) -> Uri {
    let path = given.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let built = match proxied {
        None => path.parse(),
        Some(authority) => format!("http://{authority}{path}").parse(),
    };
    built.unwrap_or_else(|_| Uri::from_static("/"))
}

fn authority(target: &Target) -> String {
    match target.port {
        80 => target.host.to_string(),
        port => format!("{}:{port}", target.host),
    }
}

/// Takes off what concerns one connection only, and what `Connection` names.
fn strip(headers: &mut HeaderMap, keeps_upgrade: bool) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in CONNECTION_HEADERS.iter().copied().chain(named.iter().map(String::as_str)) {
        if name != "upgrade" {
            headers.remove(name);
        }
    }
    if keeps_upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
}

fn refusal(target: &Target) -> Response<Body> {
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
