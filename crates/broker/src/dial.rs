//! Connections to the outside. Names are resolved here, once, and what was checked is what is dialled: an address that
//! the sandbox chose or that a second look-up would give plays no part.
//!
//! | upstream | who resolves | check against private addresses |
//! |---|---|---|
//! | none, `socks5` proxy | this host | every address; the proxy is given the checked one |
//! | `http`, `https`, `socks5h` proxy | the proxy | only addresses that were written as such |

mod socks;

use crate::{
    address::is_public,
    host::{Host, Verdict},
    io::BoxedIo,
    outside::Outside,
    proxy::{ProxyAddress, ProxyKind},
};
use async_trait::async_trait;
use rustls::pki_types::ServerName;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

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
    #[error("TLS with {host}:{port} failed: {source}")]
    Tls { host: String, port: u16, source: io::Error },
}

#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) outside: Outside,
}

impl Dialer {
    /// A byte stream to the host itself, through the upstream proxy where there is one.
    pub(crate) async fn dial(&self, host: &Host, port: u16, verdict: Verdict) -> Result<BoxedIo, DialError> {
        let work = async {
            match self.outside.proxy.for_tunnel(host) {
                None => Ok(Box::new(self.dial_directly(host, port, verdict).await?) as BoxedIo),
                Some(proxy) => self.tunnel(proxy, host, port, verdict).await,
            }
        };
        within(host, port, work).await
    }

    /// TLS to the host itself, whose certificate the host's roots must vouch for.
    pub(crate) async fn dial_tls(
        &self,
        host: &Host,
        port: u16,
        verdict: Verdict,
    ) -> Result<BoxedIo, DialError> {
        let stream = self.dial(host, port, verdict).await?;
        within(host, port, self.tls(&bare(host), port, stream, true)).await
    }

    /// For one plain request: the proxy that it is sent to (in absolute form), or the host itself.
    pub(crate) async fn dial_for_request(
        &self,
        host: &Host,
        port: u16,
        verdict: Verdict,
    ) -> Result<(BoxedIo, Option<&ProxyAddress>), DialError> {
        let work = async {
            match self.outside.proxy.for_request(host) {
                None => Ok((Box::new(self.dial_directly(host, port, verdict).await?) as BoxedIo, None)),
                Some(proxy) if proxy.takes_requests() => {
                    check_literal(host, verdict)?;
                    Ok((self.dial_proxy(proxy).await?, Some(proxy)))
                }
                Some(proxy) => Ok((self.tunnel(proxy, host, port, verdict).await?, None)),
            }
        };
        within(host, port, work).await
    }

    async fn dial_directly(&self, host: &Host, port: u16, verdict: Verdict) -> Result<TcpStream, DialError> {
        let mut last = DialError::NoAddress { host: host.to_string() };
        for address in self.addresses(host, port, verdict).await?.into_iter().take(MOST_ADDRESSES) {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(prompt(stream)),
                Err(source) => last = DialError::Failed { host: host.to_string(), port, source },
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &Host, port: u16, verdict: Verdict) -> Result<Vec<IpAddr>, DialError> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let failed = |source| DialError::Failed { host: name.clone(), port, source };
                self.outside.resolver.resolve(name).await.map_err(failed)?
            }
        };
        allowed_addresses(host, &found, verdict)
    }

    /// The proxy is the administrator's and may be anywhere.
    async fn dial_proxy(&self, proxy: &ProxyAddress) -> Result<BoxedIo, DialError> {
        let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
        let failed = |source| DialError::Failed { host: proxy.host.clone(), port: proxy.port, source };
        let stream: BoxedIo = Box::new(stream.map(prompt).map_err(failed)?);
        match proxy.kind {
            ProxyKind::Https => self.tls(&proxy.host, proxy.port, stream, false).await,
            _ => Ok(stream),
        }
    }

    async fn tunnel(
        &self,
        proxy: &ProxyAddress,
        host: &Host,
        port: u16,
        verdict: Verdict,
    ) -> Result<BoxedIo, DialError> {
        let target = match proxy.kind {
            ProxyKind::Socks => {
                let first = self.addresses(host, port, verdict).await?.into_iter().next();
                Host::Address(first.ok_or_else(|| DialError::NoAddress { host: host.to_string() })?)
            }
            _ => {
                check_literal(host, verdict)?;
                host.clone()
            }
        };
        let mut stream = self.dial_proxy(proxy).await?;
        let connected = match proxy.kind {
            ProxyKind::Http | ProxyKind::Https => connect(&mut stream, proxy, &target, port).await,
            ProxyKind::Socks | ProxyKind::SocksNames => {
                socks::connect(&mut stream, proxy.login.as_ref(), &target, port).await
            }
        };
        connected.map_err(|reason| DialError::Proxy { host: host.to_string(), port, reason })?;
        Ok(stream)
    }

    async fn tls(&self, name: &str, port: u16, stream: BoxedIo, is_http: bool) -> Result<BoxedIo, DialError> {
        let failed = |source| DialError::Tls { host: name.to_owned(), port, source };
        let server = ServerName::try_from(name.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let mut config = (*self.outside.tls).clone();
        if is_http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let stream = TlsConnector::from(std::sync::Arc::new(config)).connect(server, stream).await;
        Ok(Box::new(stream.map_err(failed)?))
    }
}

async fn within<T>(
    host: &Host,
    port: u16,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    let deadline = || DialError::Deadline { host: host.to_string(), port };
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| deadline())?
}

/// Without the brackets of an address.
fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
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

/// HTTP CONNECT. The error is a reason in words.
async fn connect(stream: &mut BoxedIo, proxy: &ProxyAddress, host: &Host, port: u16) -> Result<(), String> {
    let authorization = proxy.authorization();
    let authorization = authorization.map_or_else(String::new, |a| format!("Proxy-Authorization: {a}\r\n"));
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // One byte at a time: what follows the head belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == LONGEST_PROXY_ANSWER {
            return Err("its answer is too long".into());
        }
        answer.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(line),
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
