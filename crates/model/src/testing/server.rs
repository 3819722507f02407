//! The server itself.

use super::authority::Authority;
use super::proxy::DelayProxy;
use super::record::{Recorded, Records, Timeout};
use super::render::{self, Ending, Piece};
use super::script::{Fault, Turn};
use crate::config::{ModelConfig, ProviderKind};
use crate::transport::EndpointOptions;
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, io::Error>;
type Responder = dyn Fn(&Recorded) -> Turn + Send + Sync;

/// Plain HTTP/1.1 without delay by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireServerOptions {
    pub tls: bool,
    /// With TLS: offer HTTP/2.
    pub http2: bool,
    /// Injected between client and server; see [`DelayProxy`].
    pub round_trip: Duration,
}

/// Runs until it is dropped.
pub struct WireServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    proxy: Option<DelayProxy>,
    authority: Option<(CertificateDer<'static>, String)>,
    /// Raised to end all connections.
    generation: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    records: Records,
    turns: Mutex<VecDeque<Turn>>,
    responder: Mutex<Option<Arc<Responder>>>,
    connections: AtomicU64,
}

impl WireServer {
    /// On a free port of 127.0.0.1.
    pub async fn start(options: WireServerOptions) -> io::Result<Self> {
        let authority = options.tls.then(|| Authority::new(options.http2)).transpose()?;
        let acceptor = authority.as_ref().map(|made| TlsAcceptor::from(Arc::clone(&made.server)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let proxy = (!options.round_trip.is_zero())
            .then(|| DelayProxy::start(address, options.round_trip))
            .transpose()?;
        let shared = Arc::new(Shared::default());
        let (generation, watching) = watch::channel(0);
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared), watching));
        let authority = authority.map(|made| (made.root, made.root_pem));
        Ok(Self { shared, address, proxy, authority, generation, accepting })
    }

    /// Answers the next request that no earlier turn answers.
    pub fn push(&self, turn: Turn) {
        self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner).push_back(turn);
    }

    /// Answers requests for which no turn is left.
    pub fn respond_with(&self, responder: impl Fn(&Recorded) -> Turn + Send + Sync + 'static) {
        *self.shared.responder.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(responder));
    }

    /// `http://127.0.0.1:PORT`, the proxy's port where there is one.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let address = self.proxy.as_ref().map_or(self.address, DelayProxy::address);
        format!("{scheme}://{address}")
    }

    /// A model of this server.
    pub fn config(&self, provider: ProviderKind) -> ModelConfig {
        let path = match provider {
            ProviderKind::Anthropic => "",
            ProviderKind::Gemini => "/v1beta",
            _ => "/v1",
        };
        let base_url = Some(format!("{}{path}", self.url()));
        ModelConfig { base_url, ..ModelConfig::new("wire", provider, "wire-model") }
    }

    /// Default options that trust this server.
    pub fn endpoint_options(&self) -> EndpointOptions {
        let roots = self.authority.iter().map(|(root, _)| root.clone());
        EndpointOptions { extra_roots: roots.collect(), ..EndpointOptions::default() }
    }

    /// The certificate authority, for clients that read files (`SSL_CERT_FILE`).
    pub fn authority_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(|(_, pem)| pem.as_str())
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.records.all()
    }

    /// All requests, once there are at least `wanted`.
    pub async fn wait_for_requests(&self, wanted: usize, limit: Duration) -> Result<Vec<Recorded>, Timeout> {
        self.shared.records.wait_for(wanted, limit).await
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Ends all connections at once; new ones are accepted.
    pub fn close_connections(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl fmt::Debug for WireServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Drop for WireServer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.close_connections();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    generation: watch::Receiver<u64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let connection = serve(stream, acceptor.clone(), Arc::clone(&shared), number);
        let mut generation = generation.clone();
        generation.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                _ = generation.changed() => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, number: u64) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&shared), number));
    let server = auto::Builder::new(TokioExecutor::new());
    // A connection that breaks is the client's business.
    match acceptor {
        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    connection: u64,
) -> Result<Response<Body>, Infallible> {
    let head_at = Instant::now();
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(text(StatusCode::BAD_REQUEST, "cut off")) };
    let recorded = Recorded {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        connection,
        head_at,
        received_at: Instant::now(),
    };
    shared.records.add(recorded.clone());
    let Some(protocol) = protocol_of(&recorded.path) else {
        return Ok(text(StatusCode::NOT_FOUND, "no such path"));
    };
    let Some(turn) = shared.next_turn(&recorded) else {
        return Ok(text(StatusCode::BAD_REQUEST, "the script has no turn for this request"));
    };
    Ok(speak(protocol, &recorded, turn).await)
}

fn protocol_of(path: &str) -> Option<ProviderKind> {
    ProviderKind::ALL.into_iter().find(|kind| path.ends_with(kind.path()))
}

impl Shared {
    fn next_turn(&self, recorded: &Recorded) -> Option<Turn> {
        let next = self.turns.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.or_else(|| {
            let responder = self.responder.lock().unwrap_or_else(PoisonError::into_inner).clone();
            responder.map(|respond| respond(recorded))
        })
    }
}

async fn speak(protocol: ProviderKind, recorded: &Recorded, turn: Turn) -> Response<Body> {
    match &turn.fault {
        Some(Fault::Status(fault)) => {
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = render::error_body(protocol, &fault.kind, &fault.message).to_string();
            let mut response = text(status, &body);
            for (name, value) in &fault.headers {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                    response.headers_mut().insert(name, value);
                }
            }
            return response;
        }
        Some(Fault::NotEvents) => return text(StatusCode::OK, "<html><body>Welcome</body></html>"),
        Some(Fault::SilenceBeforeHeaders) => std::future::pending::<()>().await,
        _ => {}
    }
    let json = recorded.json();
    let model = json["model"].as_str().unwrap_or_default();
    let (pieces, ending) = render::render(protocol, model, &turn);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(write(pieces, ending, turn.pace, sender));
    let frames = stream::unfold(receiver, |mut receiver| async {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response
}

/// Ends when the client is gone.
async fn write(pieces: Vec<Piece>, ending: Ending, pace: Duration, sender: mpsc::Sender<io::Result<Bytes>>) {
    let last = pieces.last().map(|piece| piece.bytes.clone()).unwrap_or_default();
    for piece in pieces {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        if sender.send(Ok(Bytes::from(piece.bytes))).await.is_err() {
            return;
        }
    }
    match ending {
        Ending::Close => {}
        Ending::Abort => {
            // A failing body ends the connection (HTTP/1.1) or the stream (HTTP/2) without its proper end.
            let _ = sender.send(Err(io::Error::other("cut off by the script"))).await;
        }
        Ending::Hang => sender.closed().await,
        Ending::Repeat => while sender.send(Ok(Bytes::from(last.repeat(64)))).await.is_ok() {},
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
