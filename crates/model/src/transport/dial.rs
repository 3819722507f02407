//! Makes one connection: name resolution, TCP without delay, TLS with ALPN, the HTTP handshake; and sends on it.

use super::EndpointOptions;
use crate::provider::Error;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Addresses of one name that are tried, and the time for each: a broken address family must not eat the deadline.
const ADDRESS_LIMIT: usize = 8;
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const HEADER_LIMIT: u32 = 64 * 1024;

type Http1Sender = http1::SendRequest<Full<Bytes>>;
type Http2Sender = http2::SendRequest<Full<Bytes>>;

/// Where connections go.
pub(super) struct Target {
    host: String,
    port: u16,
    /// `host[:port]`, as the `Host` header has it.
    authority: String,
    base_path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A connection on which a request can be sent now.
pub(super) enum Connection {
    Http1(Http1Sender),
    Http2(Http2Sender),
}

/// An answer's head, and for HTTP/1.1 the connection, which is free again after the body.
pub(super) struct Sent {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Option<Http1Sender>,
}

pub(super) enum SendFailure {
    /// The server certainly did not work on the request.
    NotProcessed(String),
    Broken(String),
}

impl Target {
    pub(super) fn new(base: &Url, options: &EndpointOptions) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::Unreachable { reason: format!("the address {reason}") };
        let host = match base.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(refuse("names no host")),
        };
        let port = base.port_or_known_default().ok_or_else(|| refuse("names no port"))?;
        let tls = match base.scheme() {
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| refuse("is no valid host name"))?;
                Some((TlsConnector::from(Arc::new(client_config(options)?)), name))
            }
            "http" => None,
            _ => return Err(refuse("is neither http nor https")),
        };
        let shown = base.host_str().unwrap_or_default();
        let authority = base.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
        let base_path = base.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, authority, base_path, tls })
    }

    pub(super) fn shown(&self) -> &str {
        &self.authority
    }

    /// `on_close` is notified when the connection has ended, for whatever reason.
    pub(super) async fn dial(&self, on_close: Arc<Notify>) -> Result<Connection, Error> {
        let stream = self.open_tcp().await?;
        let Some((connector, name)) = &self.tls else {
            return self.handshake_http1(stream, on_close).await;
        };
        let stream = connector
            .connect(name.clone(), stream)
            .await
            .map_err(|error| self.unreachable(format_args!("the TLS handshake failed: {error}")))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.handshake_http2(stream, on_close).await
        } else {
            self.handshake_http1(stream, on_close).await
        }
    }

    fn unreachable(&self, what: impl std::fmt::Display) -> Error {
        Error::Unreachable { reason: format!("{}: {what}", self.authority) }
    }

    async fn open_tcp(&self) -> Result<TcpStream, Error> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|_| self.unreachable("the name could not be resolved"))?
            .take(ADDRESS_LIMIT)
            .collect();
        let mut last = self.unreachable("the name has no address");
        for address in addresses {
            match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = self.unreachable(connect_failure(&error)),
                Err(_) => last = self.unreachable("the connection attempt was not answered"),
            }
        }
        Err(last)
    }

    async fn handshake_http1<S>(&self, stream: S, on_close: Arc<Notify>) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(describe(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to a model provider ended");
            }
            on_close.notify_one();
        });
        Ok(Connection::Http1(sender))
    }

    async fn handshake_http2<S>(&self, stream: S, on_close: Arc<Notify>) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(describe(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to a model provider ended");
            }
            on_close.notify_one();
        });
        Ok(Connection::Http2(sender))
    }

    fn request(&self, uri: Uri, headers: &HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.clone();
        request
    }

    fn uri(&self, prefix: &str, path: &str) -> Result<Uri, SendFailure> {
        format!("{prefix}{}{path}", self.base_path)
            .parse()
            .map_err(|error| SendFailure::Broken(format!("the address is not valid: {error}")))
    }
}

impl Connection {
    pub(super) async fn send(
        self,
        target: &Target,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Sent, SendFailure> {
        match self {
            Self::Http1(mut sender) => {
                let mut request = target.request(target.uri("", path)?, headers, body);
                if let Ok(host) = HeaderValue::from_str(&target.authority) {
                    request.headers_mut().insert(HOST, host);
                }
                let response = sender.try_send_request(request).await.map_err(|mut failure| {
                    let is_unsent = failure.take_message().is_some();
                    failure_of(failure.error(), is_unsent)
                })?;
                Ok(Sent { response, connection: Some(sender) })
            }
            Self::Http2(mut sender) => {
                let prefix = format!("https://{}", target.authority);
                let request = target.request(target.uri(&prefix, path)?, headers, body);
                let response = sender.try_send_request(request).await.map_err(|mut failure| {
                    let is_unsent = failure.take_message().is_some();
                    failure_of(failure.error(), is_unsent)
                })?;
                Ok(Sent { response, connection: None })
            }
        }
    }
}

fn failure_of(error: &hyper::Error, is_unsent: bool) -> SendFailure {
    if is_unsent || was_refused(error) {
        return SendFailure::NotProcessed(describe(error));
    }
    SendFailure::Broken(format!("the connection ended before an answer began ({})", describe(error)))
}

/// HTTP/2 says so when a stream was not worked on (RFC 9113, section 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        source = inner.source();
    }
    false
}

/// hyper's message with its cause: "connection error: broken pipe".
pub(super) fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn connect_failure(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".to_owned(),
        _ => error.to_string(),
    }
}

fn client_config(options: &EndpointOptions) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_roots().iter().cloned());
    roots.add_parsable_certificates(options.extra_roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Unreachable { reason: format!("TLS could not be set up: {error}") })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols =
        if options.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

/// Read once: some hundred files on some systems.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "a root certificate could not be read");
        }
        loaded.certs
    })
}
