//! The proxy through which the host itself reaches the outside, as its environment names it.

use crate::host::Host;
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;

/// Which destinations go through a proxy. Empty by default: everything is dialled directly.
#[derive(Clone, Debug, Default)]
pub struct UpstreamProxy {
    https: Option<ProxyAddress>,
    http: Option<ProxyAddress>,
    exceptions: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyAddress {
    pub(crate) kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) login: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS version 5. Names are resolved and checked here, and the proxy is given the address.
    Socks,
    /// SOCKS version 5 that resolves names itself.
    SocksNames,
}

impl ProxyAddress {
    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<String> {
        let (user, password) = self.login.as_ref()?;
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Whether a plain request is sent to it as it is; through others a tunnel is made.
    pub(crate) fn takes_requests(&self) -> bool {
        matches!(self.kind, ProxyKind::Http | ProxyKind::Https)
    }
}

impl std::fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl UpstreamProxy {
    /// From `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, lower case first: `http`, `https`, `socks5` and
    /// `socks5h` proxies. Others are left out with a warning.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
        let proxy = |name: &str| {
            let text = either(name).or_else(|| either("ALL_PROXY")).filter(|text| !text.is_empty())?;
            let address = parse(&text);
            if address.is_none() {
                tracing::warn!(variable = name, "only http, https, socks5 and socks5h proxies are supported");
            }
            address
        };
        let exceptions = either("NO_PROXY").unwrap_or_default();
        let exceptions = exceptions.split(',').map(|text| text.trim().to_ascii_lowercase());
        Self {
            https: proxy("HTTPS_PROXY"),
            http: proxy("HTTP_PROXY"),
            exceptions: exceptions.filter(|text| !text.is_empty()).collect(),
        }
    }

    pub(crate) fn for_tunnel(&self, host: &Host) -> Option<&ProxyAddress> {
        self.https.as_ref().filter(|_| !self.is_exception(host))
    }

    pub(crate) fn for_request(&self, host: &Host) -> Option<&ProxyAddress> {
        self.http.as_ref().filter(|_| !self.is_exception(host))
    }

    /// As curl reads it: a name stands for itself and everything below.
    fn is_exception(&self, host: &Host) -> bool {
        let host = host.to_string();
        self.exceptions.iter().any(|exception| {
            let name = exception.trim_start_matches('.');
            exception == "*"
                || host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

fn parse(text: &str) -> Option<ProxyAddress> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).ok()?;
    let (kind, port) = match url.scheme() {
        "http" => (ProxyKind::Http, 80),
        "https" => (ProxyKind::Https, 443),
        "socks5" => (ProxyKind::Socks, 1080),
        "socks5h" => (ProxyKind::SocksNames, 1080),
        _ => return None,
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    Some(ProxyAddress {
        kind,
        host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(port),
        login: (!user.is_empty()).then_some((user, password)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &'static [(&str, &str)]) -> UpstreamProxy {
        UpstreamProxy::from_environment(|name| {
            pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_names_proxy_and_exceptions() {
        let proxy = from(&[
            ("HTTPS_PROXY", "http://ann:p%40ss@proxy.corp:3128"),
            ("no_proxy", "localhost, .corp,10.0.0.1"),
        ]);
        let host = |text: &str| Host::parse(text).unwrap();
        let found = proxy.for_tunnel(&host("example.com")).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("proxy.corp", 3128));
        assert_eq!(found.authorization().as_deref(), Some("Basic YW5uOnBAc3M="));
        assert!(!format!("{proxy:?}").contains("YW5u"));
        assert!(proxy.for_request(&host("example.com")).is_none());
        for direct in ["mirror.corp", "localhost", "10.0.0.1"] {
            assert!(proxy.for_tunnel(&host(direct)).is_none(), "{direct}");
        }
        assert!(proxy.for_tunnel(&host("notcorp")).is_some());
    }

    #[test]
    fn proxies_that_are_not_understood_are_left_out() {
        assert!(from(&[("ALL_PROXY", "socks4://x:1")]).https.is_none());
        let kind = |pairs| from(pairs).https.map(|proxy| (proxy.kind, proxy.port));
        assert_eq!(kind(&[("ALL_PROXY", "socks5://x")]), Some((ProxyKind::Socks, 1080)));
        assert_eq!(kind(&[("all_proxy", "socks5h://x:9")]), Some((ProxyKind::SocksNames, 9)));
        assert_eq!(kind(&[("HTTPS_PROXY", "https://x")]), Some((ProxyKind::Https, 443)));
        assert!(from(&[]).http.is_none());
    }
}
