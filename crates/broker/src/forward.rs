//! One request on its way to its host, with what the host is to be given, and the answer on its way back, without what
//! the sandbox must not see.

use crate::{
    broker::{Guest, Inner},
    dial::DialError,
    host::Verdict,
    http::{Body, LONGEST_HEAD, Target},
    inject::Injections,
    mask::{Mask, Masked},
    policy::SandboxPolicy,
    proxy::ProxyAddress,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::sync::Mutex;

const CONNECTION_HEADERS: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error(
        "it answered compressed although it was asked not to, so that its answer cannot be checked for secrets"
    )]
    Compressed,
}

/// A connection over TLS that the next request of the same client connection may use: making one takes round trips.
#[derive(Clone, Default)]
pub(crate) struct Upstream(Arc<Mutex<Option<Kept>>>);

type Kept = (Target, SendRequest<Incoming>);

pub(crate) async fn forward(
    inner: &Arc<Inner>,
    guest: &Guest,
    policy: &SandboxPolicy,
    target: &Target,
    verdict: Verdict,
    kept: &Upstream,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let client_side = hyper::upgrade::on(&mut request);
    let injections = Injections(&policy.injections);
    let mask = injections.mask(&target.host, target.port, target.is_tls);
    let (mut parts, body) = request.into_parts();
    let asks_upgrade = parts.headers.contains_key(header::UPGRADE) && mask.is_none();
    strip(&mut parts.headers, asks_upgrade);
    let path = format!("{}{}", target.path, path_of(&parts.uri));
    injections.apply(&target.host, target.port, target.is_tls, &path, &mut parts.headers);
    if mask.is_some() {
        ask_for_what_can_be_checked(&mut parts.headers);
    }
    let authority = authority(target);
    if let Ok(host) = HeaderValue::from_str(&authority) {
        parts.headers.insert(header::HOST, host);
    }
    let response = if target.is_tls {
        parts.uri = uri(&path, None);
        over_tls(inner, guest, target, verdict, kept, Request::from_parts(parts, body)).await?
    } else {
        let (stream, proxy) = inner.dialer.dial_for_request(&target.host, target.port, verdict).await?;
        parts.uri = uri(&path, proxy.map(|_| authority.as_str()));
        if let Some(value) = proxy.and_then(ProxyAddress::authorization).and_then(|text| text.parse().ok()) {
            parts.headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        handshake(guest, stream).await?.send_request(Request::from_parts(parts, body)).await?
    };
    give_back(guest, response, client_side, mask)
}

fn give_back(
    guest: &Guest,
    mut response: Response<Incoming>,
    client_side: hyper::upgrade::OnUpgrade,
    mask: Option<Mask>,
) -> Result<Response<Body>, Failure> {
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS && mask.is_none();
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
    let Some(mask) = mask else {
        return Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()));
    };
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !parts.headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        return Err(Failure::Compressed);
    }
    // Reason phrase and spelling of names travel as extensions.
    let mut answer = Response::new(Masked::new(body, mask.clone()).map_err(Into::into).boxed_unsync());
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = masked(&parts.headers, &mask);
    Ok(answer)
}

fn masked(headers: &HeaderMap, mask: &Mask) -> HeaderMap {
    let mut clean = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| !mask.finds_in_name(name.as_str())) {
        if let Ok(value) = HeaderValue::from_bytes(&mask.whole(value.as_bytes())) {
            clean.append(name.clone(), value);
        }
    }
    clean
}

async fn over_tls(
    inner: &Arc<Inner>,
    guest: &Guest,
    target: &Target,
    verdict: Verdict,
    kept: &Upstream,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Failure> {
    let mut kept = kept.0.lock().await;
    if let Some((of, mut sender)) = kept.take()
        && of == *target
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request).await {
            Ok(response) => {
                *kept = Some((of, sender));
                return Ok(response);
            }
            // The host closed it in the meantime; nothing of the request was sent.
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(error.into_error().into()),
            },
        }
    }
    let stream = inner.dialer.dial_tls(&target.host, target.port, verdict).await?;
    let mut sender = handshake(guest, stream).await?;
    let response = sender.send_request(request).await?;
    *kept = Some((target.clone(), sender));
    Ok(response)
}

async fn handshake(guest: &Guest, stream: crate::io::BoxedIo) -> Result<SendRequest<Incoming>, Failure> {
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    guest.spawn_loose(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Neither compressed nor in pieces: a secret must be seen to be taken out.
fn ask_for_what_can_be_checked(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

/// Origin form for the host itself, absolute form for a proxy.
fn uri(path: &str, proxied: Option<&str>) -> Uri {
    let built = match proxied {
        None => path.parse(),
        Some(authority) => format!("http://{authority}{path}").parse(),
    };
    built.unwrap_or_else(|_| Uri::from_static("/"))
}

fn authority(target: &Target) -> String {
    match (target.port, target.is_tls) {
        (80, false) | (443, true) => target.host.to_string(),
        (port, _) => format!("{}:{port}", target.host),
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
