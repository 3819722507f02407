//! Which headers pass between a browser and a program inside: what belongs to one connection ends here, what is ours
//! never goes in, and what would reach beyond the preview's own origin never comes out. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_SECURITY_POLICY, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

const PREVIEW_COOKIE: &str = "greenroom_preview";
/// Browsers let no other host set a cookie with this prefix; they take it over https only.
const HOST_PREFIX: &str = "__Host-";
/// Beginning of the name of every cookie of ours, and of every header.
const OUR_COOKIES: &str = "greenroom_";
const OUR_HEADERS: &str = "x-greenroom";
/// Beginning of every token of ours.
const OUR_TOKENS: &str = "grt_";
/// Of one connection (RFC 9110, 7.6.1), beside those that `Connection` names.
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Would reach the product or another preview: cookies and storage of the whole site, other servers for this host.
const BEYOND_ORIGIN: [HeaderName; 3] =
    [HeaderName::from_static("clear-site-data"), STRICT_TRANSPORT_SECURITY, ALT_SVC];
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

pub(super) fn cookie(secret: &str, max_age_s: u64, is_secure: bool) -> String {
    let (prefix, secure) = if is_secure { (HOST_PREFIX, "; Secure") } else { ("", "") };
    format!("{prefix}{PREVIEW_COOKIE}={secret}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
}

/// Of every cookie that is named as ours: content of a neighbouring preview may have set one more.
pub(super) fn secrets(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    pairs(headers)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.strip_prefix(HOST_PREFIX).unwrap_or(name) == PREVIEW_COOKIE)
        .map(|(_, secret)| secret)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).map(str::trim)
}

/// Only WebSockets: no other protocol is switched to behind our back.
pub(super) fn is_socket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|name| name.eq_ignore_ascii_case("websocket"))
}

/// A request's headers as the program inside gets them.
pub(super) fn to_inside(headers: &mut HeaderMap, host: &Authority, is_secure: bool) {
    let socket = is_socket(headers);
    drop_connection(headers);
    if socket {
        say_upgrade(headers);
    }
    for name in FORWARDED {
        headers.remove(name);
    }
    let ours: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(OUR_HEADERS)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    // Answered here already.
    headers.remove(EXPECT);
    if headers.get(AUTHORIZATION).is_some_and(is_our_token) {
        headers.remove(AUTHORIZATION);
    }
    without_our_cookies(headers);
    if let Ok(host) = HeaderValue::try_from(host.as_str()) {
        headers.insert(HOST, host.clone());
        headers.insert("x-forwarded-host", host);
    }
    let scheme = if is_secure { "https" } else { "http" };
    headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
}

/// An answer's headers as the browser gets them. `page`: the origin that may frame it.
pub(super) fn to_outside(headers: &mut HeaderMap, page: &str, is_switched: bool) {
    drop_connection(headers);
    if is_switched {
        say_upgrade(headers);
    }
    for name in BEYOND_ORIGIN {
        headers.remove(name);
    }
    keep_cookies_at_home(headers);
    // A second policy beside the program's own: both hold.
    if let Ok(policy) = HeaderValue::try_from(format!("frame-ancestors {page}")) {
        headers.append(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert("origin-agent-cluster", HeaderValue::from_static("?1"));
}

fn say_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn drop_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        // What says where the message goes and ends is not for a client to take away.
        if !matches!(name.as_str(), "host" | "content-length" | "cookie") {
            headers.remove(name);
        }
    }
}

/// `Bearer grt_…`, or as git sends it. A program's own tokens pass.
fn is_our_token(value: &HeaderValue) -> bool {
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64_STANDARD.decode(rest).unwrap_or_default();
        return String::from_utf8_lossy(&decoded).split(':').any(|part| part.starts_with(OUR_TOKENS));
    }
    rest.starts_with(OUR_TOKENS)
}

fn is_ours(cookie: &str) -> bool {
    let name = cookie.split('=').next().unwrap_or_default().trim();
    name.strip_prefix(HOST_PREFIX).unwrap_or(name).starts_with(OUR_COOKIES)
}

fn without_our_cookies(headers: &mut HeaderMap) {
    let kept: Vec<&str> = pairs(headers).filter(|pair| !is_ours(pair)).collect();
    let kept = HeaderValue::try_from(kept.join("; ")).ok().filter(|value| !value.is_empty());
    match kept {
        Some(kept) => headers.insert(COOKIE, kept),
        None => headers.remove(COOKIE),
    };
}

/// A program's cookies are for its own host only, and none has a name of ours.
fn keep_cookies_at_home(headers: &mut HeaderMap) {
    let set: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for value in set {
        let Ok(text) = value.to_str() else { continue };
        let mut parts = text.split(';');
        let pair = parts.next().unwrap_or_default();
        if is_ours(pair.trim()) {
            continue;
        }
        let names_domain =
            |part: &&str| part.split('=').next().unwrap_or_default().trim().eq_ignore_ascii_case("domain");
        let kept: String = parts.filter(|part| !names_domain(part)).map(|part| format!(";{part}")).collect();
        if let Ok(value) = HeaderValue::try_from(format!("{pair}{kept}")) {
            headers.append(SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn inside(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut sent = headers(pairs);
        to_inside(&mut sent, &"3000--x.localhost:7878".parse().unwrap(), false);
        sent
    }

    fn outside(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut got = headers(pairs);
        to_outside(&mut got, "http://127.0.0.1:7878", false);
        got
    }

    #[test]
    fn nothing_of_ours_goes_in_and_the_programs_own_does() {
        let sent = inside(&[
            ("cookie", "a=1; greenroom_session=s; __Host-greenroom_preview=p"),
            ("cookie", "greenroom_preview=q; b=2"),
            ("x-greenroom", "1"),
            ("x-greenroom-anything", "1"),
            ("authorization", "Bearer grt_secret"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        assert_eq!(sent["cookie"], "a=1; b=2");
        assert_eq!(sent["x-forwarded-host"], "3000--x.localhost:7878");
        for gone in ["x-greenroom", "x-greenroom-anything", "authorization", "x-forwarded-for"] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
        assert!(!inside(&[("cookie", "greenroom_preview=p")]).contains_key("cookie"));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("ada:grt_x"));
        assert!(!inside(&[("authorization", &basic)]).contains_key("authorization"));
        assert_eq!(inside(&[("authorization", "Bearer eyJ")])["authorization"], "Bearer eyJ");
    }

    #[test]
    fn what_belongs_to_one_connection_ends_here() {
        let pairs = [
            ("connection", "close, X-Once, content-length"),
            ("x-once", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
        ];
        for got in [inside(&pairs), outside(&pairs)] {
            for gone in ["connection", "x-once", "keep-alive", "transfer-encoding", "te", "upgrade"] {
                assert!(!got.contains_key(gone), "{gone}");
            }
            assert_eq!(got["content-length"], "3");
        }
        let socket = inside(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        assert_eq!(
            (&socket["connection"], &socket["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }

    #[test]
    fn what_comes_out_stays_on_its_own_origin_and_only_the_product_may_frame_it() {
        let got = outside(&[
            ("set-cookie", "theme=dark; Path=/; Domain=example.com; HttpOnly"),
            ("set-cookie", "greenroom_session=forged; Path=/"),
            ("set-cookie", "__Host-greenroom_preview=forged"),
            ("clear-site-data", "\"*\""),
            ("strict-transport-security", "max-age=1"),
            ("alt-svc", "h3=\":1\""),
            ("content-security-policy", "default-src 'self'"),
        ]);
        let cookies: Vec<_> = got.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["theme=dark; Path=/; HttpOnly"]);
        let policies: Vec<_> = got.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["default-src 'self'", "frame-ancestors http://127.0.0.1:7878"]);
        for gone in ["clear-site-data", "strict-transport-security", "alt-svc"] {
            assert!(!got.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn a_cookie_of_ours_is_found_among_others_and_forged_ones() {
        let sent =
            headers(&[("cookie", "greenroom_preview=a; x=y"), ("cookie", "__Host-greenroom_preview=b")]);
        assert_eq!(secrets(&sent).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            cookie("s", 60, true),
            "__Host-greenroom_preview=s; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
    }
}
