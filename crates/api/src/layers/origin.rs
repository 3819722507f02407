//! From where a browser may call. Two defences: the `Host` header must be one of ours, against DNS rebinding; and
//! where a cookie speaks for the caller, `Origin` must be the server's own, against forged requests.

use crate::error::{ApiError, invalid};
use crate::{ApiState, Settings};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use greenroom_domain::{ErrorCode, Problem};
use http::header::{HOST, ORIGIN, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};
use std::net::IpAddr;

/// Set by our page on every request that changes something: a foreign page cannot send it without being asked first.
const X_GREENROOM: &str = "x-greenroom";

pub(super) async fn known_host(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let authority = authority_of(request.uri(), request.headers())
        .ok_or_else(|| invalid("The request has no `Host` header, or more than one."))?;
    if !is_ours(&authority, &state.settings) {
        return Err(refused(format!("This server is not known as {:?}.", authority.host()))
            .hint("Use its listening address, or set the public address in the server's settings.")
            .into());
    }
    Ok(next.run(request).await)
}

/// For requests that a cookie authorises: no foreign page may use it. What changes something must also say where it
/// comes from, and carry the header that a foreign page cannot send.
pub(super) fn check_page(settings: &Settings, request: &Request) -> Result<(), Problem> {
    if !changes_something(request) {
        return check_origin(settings, request, Absent::Accepted);
    }
    check_origin(settings, request, Absent::Refused)?;
    let has_header = request.headers().get(X_GREENROOM).is_some_and(|value| value == "1");
    if !has_header && !is_socket(request) {
        return Err(refused("The header `X-Greenroom: 1` is missing.")
            .hint("A program should use a token instead of the cookie."));
    }
    Ok(())
}

/// For requests without any credential, as sign-in is: a program sends no `Origin`, a foreign page sends its own.
pub(super) fn check_not_foreign(settings: &Settings, request: &Request) -> Result<(), Problem> {
    check_origin(settings, request, Absent::Accepted)
}

fn changes_something(request: &Request) -> bool {
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !only_reads || is_socket(request)
}

/// A browser opens one from any page, and cannot add headers to it.
fn is_socket(request: &Request) -> bool {
    request.headers().contains_key(UPGRADE)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Accepted,
    Refused,
}

fn check_origin(settings: &Settings, request: &Request, absent: Absent) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else {
        return match absent {
            Absent::Accepted => Ok(()),
            Absent::Refused => Err(refused("The request does not say which page it comes from.")
                .hint("A program should use a token instead of the cookie.")),
        };
    };
    let own = authority_of(request.uri(), request.headers()).map(|host| origin_at(&host, settings));
    if own.is_some_and(|own| origin.as_bytes() == own.as_bytes()) {
        return Ok(());
    }
    Err(refused("The request comes from a page of another origin.")
        .hint("Open Greenroom's own page; behind a proxy, set the public address in the server's settings."))
}

/// Whom a request is for. None when it says so twice, or in two ways: nobody may read it in another way than we do.
pub(crate) fn authority_of(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    match (uri.authority(), host, hosts.next()) {
        (Some(authority), None, None) => Some(authority.clone()),
        (Some(authority), Some(Some(host)), None) if *authority == host => Some(host),
        (None, Some(host), None) => host,
        _ => None,
    }
}

/// The product's origin as the page that asks knows it.
pub(crate) fn own_origin(settings: &Settings, uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let host = authority_of(uri, headers).ok_or_else(|| invalid("The request has no `Host` header."))?;
    Ok(origin_at(&host, settings))
}

fn origin_at(host: &Authority, settings: &Settings) -> String {
    match &settings.public_origin {
        Some(public) if public.host_str() == Some(host.host()) => public.origin().ascii_serialization(),
        _ => format!("http://{host}"),
    }
}

fn is_ours(authority: &Authority, settings: &Settings) -> bool {
    let host = authority.host();
    let is_public = settings.public_origin.as_ref().is_some_and(|public| public.host_str() == Some(host));
    is_public || host.eq_ignore_ascii_case("localhost") || is_our_address(host, settings.listen.ip())
}

/// A rebound name arrives as a name; an address in `Host` was typed by somebody.
fn is_our_address(host: &str, listen: IpAddr) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == listen || listen.is_unspecified())
}

fn refused(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::OriginRefused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str, public: Option<&str>) -> Settings {
        Settings {
            listen: listen.parse().unwrap(),
            public_origin: public.map(|url| url.parse().unwrap()),
            preview_domain: None,
        }
    }

    fn accepts(settings: &Settings, host: &str) -> bool {
        is_ours(&host.parse().unwrap(), settings)
    }

    #[test]
    fn on_loopback_only_loopback_names_are_ours() {
        let settings = settings("127.0.0.1:4400", None);
        for host in ["localhost:4400", "127.0.0.1", "[::1]:4400", "LOCALHOST"] {
            assert!(accepts(&settings, host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.168.1.5", "127.0.0.1.evil.example"] {
            assert!(!accepts(&settings, host), "{host}");
        }
    }

    #[test]
    fn the_public_name_and_the_listening_address_are_ours() {
        let settings = settings("10.0.0.7:80", Some("https://room.example:8443"));
        assert!(accepts(&settings, "room.example:8443") && accepts(&settings, "10.0.0.7"));
        assert!(!accepts(&settings, "10.0.0.8"));
        assert_eq!(origin_at(&"room.example".parse().unwrap(), &settings), "https://room.example:8443");
    }

    #[test]
    fn a_server_on_every_address_takes_addresses_and_refuses_unknown_names() {
        let settings = settings("0.0.0.0:80", None);
        assert!(accepts(&settings, "192.168.1.5:80") && !accepts(&settings, "rebound.example:80"));
    }
}
