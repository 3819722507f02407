//! The address of a server: an origin, and perhaps a path prefix where a reverse proxy puts one.

use std::{fmt, net::IpAddr, str::FromStr};
use url::{Host, Url};

/// `http://` or `https://`, host, perhaps port and path prefix; no credentials, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Url);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a server: {reason}")]
pub struct InvalidAddress {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |reason| InvalidAddress { text: text.chars().take(200).collect(), reason };
        let mut url =
            Url::parse(text).map_err(|_| invalid("expected something like http://127.0.0.1:7878"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("expected http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a token belongs in GREENROOM_TOKEN, not in the address"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query or a fragment"));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }
}

impl Address {
    /// True where nothing but this machine can be behind the name.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }

    /// As browsers send it in `Origin`.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// A page or git address of the server; `path` begins with `/`.
    pub fn page(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// A route of the API. Each segment is escaped, so that no name can reach another route.
    pub(crate) fn route(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("http addresses have a path")
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(segments);
        url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_prefix_and_escapes_segments() {
        let address: Address = "https://code.example/greenroom".parse().unwrap();
        let route = address.route(&["models", "a/../b"]);
        assert_eq!(route.as_str(), "https://code.example/greenroom/api/v1/models/a%2F..%2Fb");
        assert_eq!(address.page("/changes/1"), "https://code.example/greenroom/changes/1");
        assert_eq!(address.origin(), "https://code.example");
    }

    #[test]
    fn addresses_with_credentials_or_another_scheme_are_refused() {
        for bad in ["", "localhost:7878", "ftp://x", "http://me:secret@x", "http://x/?a=1", "http://x/#a"] {
            let refused = bad.parse::<Address>();
            assert!(refused.is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_by_address_not_by_appearance() {
        let is_loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(is_loopback("http://127.0.0.1:7878"));
        assert!(is_loopback("http://[::1]:7878"));
        assert!(is_loopback("http://localhost:7878"));
        assert!(!is_loopback("http://127.0.0.1.example:7878"));
        assert!(!is_loopback("http://10.0.0.1"));
    }
}
