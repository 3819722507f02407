//! Takes every connection of every sandbox, asks whose it is and what it may do, and passes on what is allowed.
//!
//! | destination port | what is expected | what names the host |
//! |---|---|---|
//! | 80 | HTTP | the Host header; the forge is one of the hosts |
//! | 443 | TLS, passed on untouched | the server name in the ClientHello |
//! | 3128 | an HTTP proxy | CONNECT or the absolute URL |
//! | 22 | refused, unless a rule names the address itself | the address |
//! | any other that a recipe declares | HTTP or TLS, told apart by the first byte | as above |

use crate::{
    denial::{Denial, Denials, DenyLog, DenyReason},
    dial::{DialError, Dialer, Resolver, SystemResolver},
    dns,
    host::{AllowRule, Host, HostPattern, Verdict, verdict},
    http::{self, Mode},
    idle::{Activity, Watched},
    policy::PolicySource,
    proxy::UpstreamProxy,
    tls::{self, Hello},
};
use async_trait::async_trait;
use greenroom_domain::SessionId;
use greenroom_forge::Forge;
use greenroom_sandbox::{EgressHandler, EgressStream, Origin};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const MOST_CONNECTIONS: usize = 256;
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) policies: Arc<dyn PolicySource>,
    pub(crate) forge: Arc<dyn Forge>,
    pub(crate) dialer: Dialer,
    log: Arc<dyn DenyLog>,
    denials: Denials,
    connections: Mutex<HashMap<String, usize>>,
}

/// A connection's sandbox, and the tasks that the connection started: none outlives it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) origin: Origin,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Guest {
    /// The connection waits for it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.end.clone().run_until_cancelled_owned(work));
    }

    /// The connection does not wait for it.
    pub(crate) fn spawn_loose(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.end.clone().run_until_cancelled_owned(work));
    }
}

impl Broker {
    /// Resolves as the host does, and dials as it does: through the proxy of its environment where there is one.
    pub fn new(policies: Arc<dyn PolicySource>, forge: Arc<dyn Forge>, log: Arc<dyn DenyLog>) -> Self {
        let proxy = UpstreamProxy::from_environment(|name| std::env::var(name).ok());
        Self::with(policies, forge, log, Arc::new(SystemResolver), proxy)
    }

    /// With another resolver or proxy.
    pub fn with(
        policies: Arc<dyn PolicySource>,
        forge: Arc<dyn Forge>,
        log: Arc<dyn DenyLog>,
        resolver: Arc<dyn Resolver>,
        proxy: UpstreamProxy,
    ) -> Self {
        let dialer = Dialer { resolver, proxy };
        let (denials, connections) = (Denials::default(), Mutex::default());
        Self { inner: Arc::new(Inner { policies, forge, dialer, log, denials, connections }) }
    }
}

#[async_trait]
impl EgressHandler for Broker {
    async fn connection(&self, origin: Origin, stream: Box<dyn EgressStream>) {
        let Some(_slot) = Slot::take(&self.inner, &origin.sandbox) else {
            tracing::info!(sandbox = origin.sandbox, "too many connections at once; one more is closed");
            return;
        };
        let activity = Activity::new();
        let watched = Watched::new(stream, activity.clone());
        let guest = Guest { origin, tasks: TaskTracker::new(), end: CancellationToken::new() };
        let (tasks, _end) = (guest.tasks.clone(), guest.end.clone().drop_guard());
        let work = async {
            dispatch(self.inner.clone(), guest, watched).await;
            tasks.close();
            tasks.wait().await;
        };
        tokio::select! {
            () = work => {}
            () = activity.idle(IDLE_LIMIT) => {}
        }
    }

    async fn dns(&self, origin: Origin, query: Vec<u8>) -> Option<Vec<u8>> {
        let answer = dns::answer(&query);
        if answer.is_none() {
            tracing::debug!(sandbox = origin.sandbox, "a DNS query that is none");
        }
        answer
    }
}

impl Inner {
    pub(crate) fn deny(
        &self,
        guest: &Guest,
        session: Option<SessionId>,
        host: &str,
        port: u16,
        reason: DenyReason,
    ) {
        if self.denials.is_news(&guest.origin, host, port) {
            let sandbox = guest.origin.sandbox.clone();
            self.log.denied(Denial { sandbox, session, host: host.to_owned(), port, reason });
        }
    }

    async fn rules(&self, guest: &Guest) -> Option<(Vec<AllowRule>, Option<SessionId>)> {
        let policy = self.policies.policy(&guest.origin).await?;
        Some((policy.allow, policy.session))
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

async fn dispatch(inner: Arc<Inner>, guest: Guest, stream: impl Io) {
    match guest.origin.destination.port() {
        80 => http::serve(inner, guest, stream, Mode::Transparent(80)).await,
        443 => tls_connection(&inner, &guest, stream, Vec::new()).await,
        3128 => http::serve(inner, guest, stream, Mode::Proxy).await,
        port => other_port(inner, guest, stream, port).await,
    }
}

async fn other_port(inner: Arc<Inner>, guest: Guest, mut stream: impl Io, port: u16) {
    let Some((rules, session)) = inner.rules(&guest).await else { return };
    let address = Host::Address(guest.origin.destination.ip());
    let is_exact = |rule: &&AllowRule| matches!(rule.host, HostPattern::Exact(_));
    let exact: Vec<AllowRule> = rules.iter().filter(is_exact).cloned().collect();
    let by_address = verdict(&exact, &address, port);
    if by_address != Verdict::Refused {
        return splice(&inner, &guest, session, stream, &address, by_address, &[]).await;
    }
    let mut first = [0u8; 1];
    let read = tokio::time::timeout(HEAD_DEADLINE, stream.read_exact(&mut first));
    let has_byte = port != 22 && matches!(read.await, Ok(Ok(_)));
    match first[0] {
        22 if has_byte => tls_connection(&inner, &guest, stream, first.to_vec()).await,
        b'A'..=b'Z' if has_byte => {
            let (reader, writer) = tokio::io::split(stream);
            let reader = std::io::Cursor::new(first).chain(reader);
            let joined = tokio::io::join(reader, writer);
            http::serve(inner, guest, joined, Mode::Transparent(port)).await;
        }
        _ => inner.deny(&guest, session, &address.to_string(), port, DenyReason::UnknownProtocol),
    }
}

/// The name decides; the bytes pass untouched.
async fn tls_connection(inner: &Inner, guest: &Guest, mut stream: impl Io, mut seen: Vec<u8>) {
    let port = guest.origin.destination.port();
    let Some((rules, session)) = inner.rules(guest).await else { return refuse_tls(stream).await };
    let hello = tokio::time::timeout(HEAD_DEADLINE, read_hello(&mut stream, &mut seen)).await;
    let host = match hello.ok().flatten().as_deref().and_then(Host::parse) {
        Some(host @ Host::Name(_)) => host,
        _ => {
            let address = guest.origin.destination.ip().to_string();
            inner.deny(guest, session, &address, port, DenyReason::NoServerName);
            return refuse_tls(stream).await;
        }
    };
    match verdict(&rules, &host, port) {
        Verdict::Refused => {
            inner.deny(guest, session, &host.to_string(), port, DenyReason::NotAllowed);
            refuse_tls(stream).await;
        }
        allowed => splice(inner, guest, session, stream, &host, allowed, &seen).await,
    }
}

/// `None`: no name, or nothing that could have one.
async fn read_hello(stream: &mut impl Io, seen: &mut Vec<u8>) -> Option<String> {
    loop {
        match tls::read_hello(seen) {
            Hello::Complete(name) => return name,
            Hello::Invalid(reason) => {
                tracing::debug!(reason, "a TLS connection that is none");
                return None;
            }
            Hello::Incomplete(needed) => {
                let from = seen.len();
                seen.resize(needed.min(tls::LONGEST), 0);
                let read = stream.read(&mut seen[from..]).await.unwrap_or(0);
                seen.truncate(from + read);
                if read == 0 {
                    return None;
                }
            }
        }
    }
}

/// Clients print the alert; a closed connection alone would look like a broken network.
async fn refuse_tls(mut stream: impl Io) {
    let _ = stream.write_all(&tls::ACCESS_DENIED).await;
    let _ = stream.shutdown().await;
}

async fn splice(
    inner: &Inner,
    guest: &Guest,
    session: Option<SessionId>,
    mut stream: impl Io,
    host: &Host,
    verdict: Verdict,
    seen: &[u8],
) {
    let port = guest.origin.destination.port();
    let mut upstream = match inner.dialer.dial(host, port, verdict).await {
        Ok(upstream) => upstream,
        Err(error) => {
            if matches!(error, DialError::PrivateAddress { .. }) {
                inner.deny(guest, session, &host.to_string(), port, DenyReason::PrivateAddress);
            }
            tracing::info!(sandbox = guest.origin.sandbox, %error, "a connection was not made");
            return;
        }
    };
    if upstream.write_all(seen).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

/// One of a sandbox's connections.
struct Slot<'a> {
    inner: &'a Inner,
    sandbox: String,
}

impl<'a> Slot<'a> {
    fn take(inner: &'a Inner, sandbox: &str) -> Option<Self> {
        let mut connections = inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(sandbox.to_owned()).or_default();
        if *count >= MOST_CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Self { inner, sandbox: sandbox.to_owned() })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut connections = self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.sandbox) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.sandbox);
            }
        }
    }
}
