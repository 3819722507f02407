//! Connections to the outside. Names are resolved here, once, and what was checked is what is dialled: an address that
//! the sandbox chose or that a second look-up would give plays no part. With an upstream proxy the proxy resolves, and
//! only addresses that were written as such can be checked.

use crate::{
    address::is_public,
    host::{Host, Verdict},
    proxy::{ProxyAddress, UpstreamProxy},
};
use async_trait::async_trait;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DEADLINE: Duration = Duration::from_secs(15);
const MOST_ADDRESSES: usize = 8;
const LONGEST_PROXY_ANSWER: usize = 8 * 1024;

/// Looks names up on the host's side.
#[async_trait]
pub trait Resolver: Send + Sync + std::fmt::Debug {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the host itself resolves: its hosts file, its name servers.
#[derive(Debug)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{host} leads to {address}, an address that is not public")]
    PrivateAddress { host: String, address: IpAddr },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("{host}:{port} did not answer within {} s", DEADLINE.as_secs())]
    Deadline { host: String, port: u16 },
    #[error("{host}:{port} cannot be reached: {source}")]
    Failed { host: String, port: u16, source: io::Error },
    #[error("the upstream proxy did not connect to {host}:{port}: {reason}")]
    Proxy { host: String, port: u16, reason: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) proxy: UpstreamProxy,
}

impl Dialer {
    /// A byte stream to the host itself, through the upstream proxy's CONNECT where there is one.
    pub(crate) async fn dial(
        &self,
        host: &Host,
        port: u16,
        verdict: Verdict,
    ) -> Result<TcpStream, DialError> {
        let work = async {
            match self.proxy.for_tunnel(host) {
                None => self.dial_directly(host, port, verdict).await,
                Some(proxy) => {
                    check_literal(host, verdict)?;
                    tunnel(self.dial_proxy(proxy).await?, proxy, host, port).await
                }
            }
        };
        let deadline = || DialError::Deadline { host: host.to_string(), port };
        tokio::time::timeout(DEADLINE, work).await.map_err(|_| deadline())?
    }

    /// For one plain request: the proxy that it is sent to (in absolute form), or the host itself.
    pub(crate) async fn dial_for_request(
        &self,
        host: &Host,
        port: u16,
        verdict: Verdict,
    ) -> Result<(TcpStream, Option<&ProxyAddress>), DialError> {
        let Some(proxy) = self.proxy.for_request(host) else {
            let direct = tokio::time::timeout(DEADLINE, self.dial_directly(host, port, verdict));
            let deadline = |_| DialError::Deadline { host: host.to_string(), port };
            return Ok((direct.await.map_err(deadline)??, None));
        };
        check_literal(host, verdict)?;
        let deadline = |_| DialError::Deadline { host: proxy.host.clone(), port: proxy.port };
        let stream = tokio::time::timeout(DEADLINE, self.dial_proxy(proxy)).await.map_err(deadline)??;
        Ok((stream, Some(proxy)))
    }

    async fn dial_directly(&self, host: &Host, port: u16, verdict: Verdict) -> Result<TcpStream, DialError> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let failed = |source| DialError::Failed { host: name.clone(), port, source };
                self.resolver.resolve(name).await.map_err(failed)?
            }
        };
        let allowed = allowed_addresses(host, &found, verdict)?;
        let mut last = DialError::NoAddress { host: host.to_string() };
        for address in allowed.into_iter().take(MOST_ADDRESSES) {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(prompt(stream)),
                Err(source) => last = DialError::Failed { host: host.to_string(), port, source },
            }
        }
        Err(last)
    }

    /// The proxy is the administrator's and may be anywhere.
    async fn dial_proxy(&self, proxy: &ProxyAddress) -> Result<TcpStream, DialError> {
        let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
        let failed = |source| DialError::Failed { host: proxy.host.clone(), port: proxy.port, source };
        stream.map(prompt).map_err(failed)
    }
}

fn prompt(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}

fn check_literal(host: &Host, verdict: Verdict) -> Result<(), DialError> {
    match host {
        Host::Address(address) => allowed_addresses(host, &[*address], verdict).map(drop),
        Host::Name(_) => Ok(()),
    }
}

fn allowed_addresses(host: &Host, found: &[IpAddr], verdict: Verdict) -> Result<Vec<IpAddr>, DialError> {
    let is_allowed = |address: &IpAddr| verdict == Verdict::Anywhere || is_public(*address);
    let allowed: Vec<IpAddr> = found.iter().copied().filter(is_allowed).collect();
    match (allowed.is_empty(), found.first()) {
        (false, _) => Ok(allowed),
        (true, Some(address)) => Err(DialError::PrivateAddress { host: host.to_string(), address: *address }),
        (true, None) => Err(DialError::NoAddress { host: host.to_string() }),
    }
}

async fn tunnel(
    mut stream: TcpStream,
    proxy: &ProxyAddress,
    host: &Host,
    port: u16,
) -> Result<TcpStream, DialError> {
    let refused = |reason: String| DialError::Proxy { host: host.to_string(), port, reason };
    let authorization = proxy.authorization.as_ref();
    let authorization = authorization.map_or_else(String::new, |a| format!("Proxy-Authorization: {a}\r\n"));
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| refused(error.to_string()))?;
    let mut answer = Vec::new();
    // One byte at a time: what follows the head belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == LONGEST_PROXY_ANSWER {
            return Err(refused("its answer is too long".into()));
        }
        answer.push(stream.read_u8().await.map_err(|error| refused(error.to_string()))?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(stream),
        _ => Err(refused(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn private_addresses_are_left_out_and_alone_refused() {
        let host = Host::parse("rebind.example.com").unwrap();
        let mixed = ips(&["127.0.0.1", "1.1.1.1"]);
        assert_eq!(allowed_addresses(&host, &mixed, Verdict::Public).unwrap(), ips(&["1.1.1.1"]));
        assert_eq!(allowed_addresses(&host, &mixed, Verdict::Anywhere).unwrap(), mixed);
        let inside = ips(&["169.254.169.254"]);
        let refused = allowed_addresses(&host, &inside, Verdict::Public);
        assert!(matches!(refused, Err(DialError::PrivateAddress { .. })));
    }
}
