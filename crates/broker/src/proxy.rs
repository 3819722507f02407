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
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl UpstreamProxy {
    /// From `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, lower case first. Proxies that speak TLS themselves
    /// or SOCKS are not supported and left out with a warning.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
        let proxy = |name: &str| {
            let text = either(name).or_else(|| either("ALL_PROXY")).filter(|text| !text.is_empty())?;
            let address = parse(&text);
            if address.is_none() {
                tracing::warn!(variable = name, "only proxies of the form http://host:port are supported");
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
    let url = Url::parse(&with_scheme).ok().filter(|url| url.scheme() == "http")?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let authorization =
        (!user.is_empty()).then(|| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
    Some(ProxyAddress {
        host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
        port: url.port_or_known_default()?,
        authorization,
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
        assert_eq!(found.authorization.as_deref(), Some("Basic YW5uOnBAc3M="));
        assert!(!format!("{proxy:?}").contains("YW5u"));
        assert!(proxy.for_request(&host("example.com")).is_none());
        for direct in ["mirror.corp", "localhost", "10.0.0.1"] {
            assert!(proxy.for_tunnel(&host(direct)).is_none(), "{direct}");
        }
        assert!(proxy.for_tunnel(&host("notcorp")).is_some());
    }

    #[test]
    fn proxies_that_are_not_understood_are_left_out() {
        assert!(from(&[("ALL_PROXY", "socks5://x:1")]).https.is_none());
        assert!(from(&[]).http.is_none());
    }
}
