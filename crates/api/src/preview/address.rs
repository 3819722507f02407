//! Where previews are: the host name of a port of a session, and which domain a person's browser reaches it under.

use crate::Settings;
use greenroom_domain::{ErrorCode, Problem, SessionId};
use http::uri::Authority;
use std::net::IpAddr;
use std::str::FromStr;

/// Browsers resolve every name below it to the machine they run on.
const LOOPBACK: &str = "localhost";
const PATH_LIMIT: usize = 2048;

/// A port of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) session: SessionId,
    pub(crate) port: u16,
}

impl Address {
    /// First label of its host name: `3000--01jd3k…`.
    fn label(self) -> String {
        let id = self.session.to_string();
        let id = id.split_once('_').map_or(id.as_str(), |(_, ulid)| ulid);
        format!("{}--{id}", self.port)
    }

    fn of_label(label: &str) -> Option<Self> {
        let (port, id) = label.split_once("--")?;
        let session = format!("{}_{id}", SessionId::PREFIX).parse().ok()?;
        let address = Self { session, port: port.parse().ok().filter(|port| *port != 0)? };
        // One name for each preview: neither `03000` nor a differently spelt id.
        (address.label() == label).then_some(address)
    }
}

/// Domain whose every subdomain leads to this server, `previews.example.com` or `previews.example.com:8443`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PreviewDomain {
    host: String,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain, with or without a port, such as previews.example.com")]
pub struct InvalidPreviewDomain(String);

impl FromStr for PreviewDomain {
    type Err = InvalidPreviewDomain;
    fn from_str(text: &str) -> Result<Self, InvalidPreviewDomain> {
        let invalid = || InvalidPreviewDomain(text.chars().take(128).collect());
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let port = port.map(|port| port.parse().map_err(|_| invalid())).transpose()?;
        let host = host.to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_domain = host.split('.').all(is_label) && host.parse::<IpAddr>().is_err();
        // A label of a preview is added in front.
        if !is_domain || host.len() > 200 {
            return Err(invalid());
        }
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for PreviewDomain {
    type Error = InvalidPreviewDomain;
    fn try_from(text: String) -> Result<Self, InvalidPreviewDomain> {
        text.parse()
    }
}

impl From<PreviewDomain> for String {
    fn from(domain: PreviewDomain) -> Self {
        domain.to_string()
    }
}

impl std::fmt::Display for PreviewDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl PreviewDomain {
    /// Whether pages of previews could set cookies for the product, or the product's name is one of a preview's.
    pub fn is_too_near(&self, product: &str) -> bool {
        let product = product.to_ascii_lowercase();
        let is_below = |name: &str, of: &str| name.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
        product == self.host || is_below(&product, &self.host) || is_below(&self.host, &product)
    }
}

/// The preview that a request's host names.
pub(super) fn parse(host: &Authority, settings: &Settings) -> Option<Address> {
    if host.as_str().contains('@') {
        return None;
    }
    let name = host.host().to_ascii_lowercase();
    let (label, domain) = name.split_once('.')?;
    let is_ours =
        domain == LOOPBACK || settings.preview_domain.as_ref().is_some_and(|ours| ours.host == domain);
    is_ours.then(|| Address::of_label(label))?
}

/// Scheme, host and port under which the person who asks at `host` (of the product) reaches a preview.
pub(crate) fn base_for(address: Address, host: &Authority, settings: &Settings) -> Result<String, Problem> {
    let label = address.label();
    if is_loopback(host.host()) {
        let port = host.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        return Ok(format!("http://{label}.{LOOPBACK}{port}"));
    }
    let domain = settings.preview_domain.as_ref().ok_or_else(|| {
        Problem::new(ErrorCode::SandboxUnsupported, "Previews have no address that this browser could reach.")
            .hint("An admin sets `preview_domain` to a domain whose every subdomain leads to this server, or opens Greenroom at localhost.")
    })?;
    let public = settings.public_origin.as_ref();
    let scheme = public.map_or("http", |origin| origin.scheme());
    let port = domain.port.or_else(|| match public {
        Some(origin) => origin.port(),
        None => host.port_u16(),
    });
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{label}.{}{port}", domain.host))
}

/// Whether this preview is reached by https: as the product is, on the machine itself never.
pub(super) fn is_secure(host: &Authority, settings: &Settings) -> bool {
    let is_local = host.host().to_ascii_lowercase().ends_with(".localhost");
    !is_local && settings.public_origin.as_ref().is_some_and(|origin| origin.scheme() == "https")
}

/// Where the product is, for a link in an answer to somebody unknown.
pub(super) fn product_origin(settings: &Settings) -> String {
    match &settings.public_origin {
        Some(origin) => origin.origin().ascii_serialization(),
        None if settings.listen.ip().is_unspecified() => {
            format!("http://localhost:{}", settings.listen.port())
        }
        None => format!("http://{}", settings.listen),
    }
}

/// A path and query on the same origin.
pub(crate) fn is_path(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next() == Some('/')
        && !matches!(characters.next(), Some('/' | '\\'))
        && text.len() <= PATH_LIMIT
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case(LOOPBACK) || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(public: Option<&str>, previews: Option<&str>) -> Settings {
        Settings {
            listen: "127.0.0.1:7878".parse().unwrap(),
            public_origin: public.map(|url| url.parse().unwrap()),
            preview_domain: previews.map(|domain| domain.parse().unwrap()),
        }
    }

    fn at(port: u16) -> Address {
        Address { session: SessionId::from_parts(1, 1), port }
    }

    fn base(host: &str, settings: &Settings) -> Result<String, Problem> {
        base_for(at(3000), &host.parse().unwrap(), settings)
    }

    #[test]
    fn on_this_machine_a_preview_is_below_localhost_at_the_port_that_the_person_uses() {
        let settings = settings(None, None);
        for host in ["127.0.0.1:7878", "localhost:7878", "[::1]:7878"] {
            let url = base(host, &settings).unwrap();
            assert_eq!(url, "http://3000--00000000010000000000000001.localhost:7878");
            let host = url.strip_prefix("http://").unwrap().parse().unwrap();
            assert_eq!(parse(&host, &settings), Some(at(3000)));
        }
        assert!(base("192.168.1.5:7878", &settings).is_err(), "that browser's localhost is another machine");
    }

    #[test]
    fn elsewhere_a_preview_is_below_the_domain_that_was_set() {
        let both = settings(Some("https://room.example:8443"), Some("previews.example"));
        let url = base("room.example:8443", &both).unwrap();
        assert_eq!(url, "https://3000--00000000010000000000000001.previews.example:8443");
        let own_port = settings(None, Some("previews.example:81"));
        assert!(base("10.0.0.7:80", &own_port).unwrap().ends_with(".previews.example:81"));
    }

    #[test]
    fn a_host_that_is_not_exactly_a_previews_is_none() {
        let settings = settings(None, Some("previews.example"));
        let good = "3000--00000000010000000000000001";
        assert!(parse(&format!("{}.LOCALHOST", good.to_uppercase()).parse().unwrap(), &settings).is_some());
        for host in [
            format!("{good}.evil.example"),
            format!("{good}.previews.example.evil.example"),
            format!("x.{good}.localhost"),
            format!("{good}.localhost."),
            format!("user@{good}.localhost"),
            format!("0{good}.localhost"),
            format!("+{good}.localhost"),
            "0--00000000010000000000000001.localhost".into(),
            "65536--00000000010000000000000001.localhost".into(),
            "3000--0000000001000000000000000.localhost".into(),
            "3000--o0000000010000000000000001.localhost".into(),
            good.to_owned(),
            "localhost".to_owned(),
        ] {
            assert_eq!(parse(&host.parse().unwrap(), &settings), None, "{host}");
        }
    }

    #[test]
    fn a_domain_that_shares_cookies_with_the_product_is_too_near() {
        let domain: PreviewDomain = "previews.example.com".parse().unwrap();
        assert!(domain.is_too_near("previews.example.com") && domain.is_too_near("Example.com"));
        assert!(domain.is_too_near("a.previews.example.com") && !domain.is_too_near("room.example.com"));
        assert!(!domain.is_too_near("ws.example.com"));
        for bad in
            ["", "http://x.example", "10.0.0.1", "a..b", "x.example/path", "u@x.example", "x.example:99999"]
        {
            assert!(bad.parse::<PreviewDomain>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_paths_of_the_same_origin_are_paths() {
        assert!(is_path("/") && is_path("/a?b=c#d"));
        for bad in ["", "//evil.example", "/\\evil.example", "http://evil.example", "/a b", "/a\r\nx: y"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
