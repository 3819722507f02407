//! From which address a request comes: the connection's, or, behind proxies that the settings name, the one that the
//! nearest of them saw. What a client writes into `X-Forwarded-For` itself counts for nothing.

use super::Limits;
use crate::ApiState;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Once;

const FORWARDED: &str = "x-forwarded-for";

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Whose word about other addresses counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// What is counted as one: an IPv4 address, or the network that one customer of an IPv6 provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let mask = u128::MAX << 64;
                Self(Ipv6Addr::from_bits(address.to_bits() & mask).into())
            }
        }
    }
}

/// Around everything: puts the client's address into the request, and counts it.
pub(crate) async fn know_address(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = address_of(&state.limits, &request);
    request.extensions_mut().insert(ClientAddress(address));
    // Whoever looks whether the server lives is not to be told that it is busy.
    let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    match state.limits.address(address) {
        Err(problem) if !is_probe => crate::error::ApiError(problem).into_response(),
        _ => next.run(request).await,
    }
}

/// Where a request comes from.
pub(crate) fn address_of(limits: &Limits, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
    forwarded(limits, peer, request.headers())
}

#[derive(Clone, Copy, Debug)]
struct ClientAddress(IpAddr);

/// As [`know_address`] found out.
pub(crate) fn client_address(extensions: &http::Extensions) -> IpAddr {
    extensions.get::<ClientAddress>().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.0)
}

fn forwarded(limits: &Limits, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.to_canonical();
    if !limits.proxies.has(peer) {
        if peer.is_loopback() && headers.contains_key(FORWARDED) {
            warn_of_a_proxy();
        }
        return peer;
    }
    // The nearest proxy wrote the last one; what stands before an address that nobody vouches for is a client's word.
    let written: Vec<&str> =
        headers.get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut nearest = peer;
    for text in written.iter().rev().flat_map(|text| text.rsplit(',')) {
        let Some(address) = parsed(text.trim()) else { return nearest };
        nearest = address;
        if !limits.proxies.has(address) {
            return address;
        }
    }
    nearest
}

/// With a port, as some proxies write it, or without.
fn parsed(text: &str) -> Option<IpAddr> {
    let address = IpAddr::from_str(text)
        .or_else(|_| std::net::SocketAddr::from_str(text).map(|address| address.ip()))
        .or_else(|_| IpAddr::from_str(text.trim_start_matches('[').trim_end_matches(']')));
    address.ok().map(|address| address.to_canonical())
}

fn warn_of_a_proxy() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            "requests come through a proxy on this machine that the setting trusted_proxies does not name: everybody counts as one address"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RateLimits;

    fn found(proxies: &[&str], peer: &str, forwarded_for: &[&str]) -> String {
        let proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let limits = Limits::new(RateLimits::NONE, TrustedProxies::new(proxies));
        let mut headers = HeaderMap::new();
        for text in forwarded_for {
            headers.append(FORWARDED, text.parse().unwrap());
        }
        forwarded(&limits, peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_configured_proxy_is_believed() {
        assert_eq!(found(&[], "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(found(&["127.0.0.1/32"], "127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(found(&["10.0.0.0/8"], "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(found(&["127.0.0.1/32"], "127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn what_a_client_wrote_itself_counts_for_nothing() {
        let proxies = ["10.0.0.0/8", "127.0.0.1/32"];
        assert_eq!(found(&proxies, "127.0.0.1", &["8.8.8.8, 203.0.113.9, 10.1.1.1"]), "203.0.113.9");
        assert_eq!(found(&proxies, "127.0.0.1", &["8.8.8.8", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(found(&proxies, "127.0.0.1", &["8.8.8.8, nonsense"]), "127.0.0.1");
        assert_eq!(found(&proxies, "127.0.0.1", &["nonsense, 10.1.1.1"]), "10.1.1.1");
        assert_eq!(found(&proxies, "127.0.0.1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(found(&proxies, "::ffff:127.0.0.1", &["203.0.113.9:80"]), "203.0.113.9");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let network = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
