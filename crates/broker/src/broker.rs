//! Takes every connection of every sandbox, asks whose it is and what it may do, and passes on what is allowed.
//!
//! | destination port | what is expected | what names the host |
//! |---|---|---|
//! | 80 | HTTP | the Host header; the forge is one of the hosts |
//! | 443 | TLS, passed on untouched | the server name in the ClientHello |
//! | 443 to a host that a secret is declared for | TLS, ended here, HTTP inside | the same; each request must name it too |
//! | 3128 | an HTTP proxy | CONNECT or the absolute URL |
//! | any other that a rule names | anything | the name whose address (see `dns`) it is, or the address itself |
//! | any other but 22 | HTTP or TLS, told apart by the first byte | as above |

use crate::{
    authority::Authority,
    denial::{Denial, Denials, DenyLog},
    dial::{DialError, Dialer},
    dns,
    host::{AllowRule, Host, HostPattern, Verdict, verdict},
    http::{self, Mode},
    idle::{Activity, Watched},
    inject::Injections,
    io::{BoxedIo, replayed},
    outside::Outside,
    policy::PolicySource,
    tls::{self, Hello},
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use greenroom_domain::{DenyReason, SessionId};
use greenroom_forge::Forge;
use greenroom_sandbox::{EgressHandler, EgressStream, Origin};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
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
    pub fn new(
        policies: Arc<dyn PolicySource>,
        forge: Arc<dyn Forge>,
        log: Arc<dyn DenyLog>,
        outside: Outside,
    ) -> Self {
        let (denials, connections) = (Denials::default(), Mutex::default());
        let dialer = Dialer { outside };
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
            dispatch(self.inner.clone(), guest, Box::new(watched)).await;
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
            let (sandbox, owner) = (guest.origin.sandbox.clone(), guest.origin.session.clone());
            self.log.denied(Denial { sandbox, owner, session, host: host.to_owned(), port, reason });
        }
    }

    pub(crate) fn authority(&self) -> Option<&Arc<Authority>> {
        self.dialer.outside.authority.as_ref()
    }
}

async fn dispatch(inner: Arc<Inner>, guest: Guest, stream: BoxedIo) {
    match guest.origin.destination.port() {
        80 => http::serve(inner, guest, stream, Mode::Transparent(80)).await,
        443 => tls_connection(inner, guest, stream, Vec::new(), None).await,
        3128 => http::serve(inner, guest, stream, Mode::Proxy).await,
        port => other_port(inner, guest, stream, port).await,
    }
}

async fn other_port(inner: Arc<Inner>, guest: Guest, mut stream: BoxedIo, port: u16) {
    let Some(policy) = inner.policies.policy(&guest.origin).await else { return };
    let address = Host::Address(guest.origin.destination.ip());
    let is_exact = |rule: &&AllowRule| matches!(rule.host, HostPattern::Exact(_));
    let exact: Vec<AllowRule> = policy.allow.iter().filter(is_exact).cloned().collect();
    let named = named_by_address(&exact, &guest).unwrap_or_else(|| address.clone());
    let allowed = verdict(&exact, &named, port);
    let injections = Injections(&policy.injections);
    let has_secret = injections.concern(&named, port, true) || injections.concern(&named, port, false);
    if allowed != Verdict::Refused && !has_secret {
        return splice(&inner, &guest, policy.session, stream, &named, allowed, &[]).await;
    }
    let mut first = [0u8; 1];
    let read = tokio::time::timeout(HEAD_DEADLINE, stream.read_exact(&mut first));
    let has_byte = port != 22 && matches!(read.await, Ok(Ok(_)));
    match first[0] {
        22 if has_byte => tls_connection(inner, guest, stream, first.to_vec(), None).await,
        b'A'..=b'Z' if has_byte => {
            http::serve(inner, guest, replayed(first.to_vec(), stream), Mode::Transparent(port)).await;
        }
        _ => inner.deny(&guest, policy.session, &address.to_string(), port, DenyReason::UnknownProtocol),
    }
}

/// The one name among the rules of this port that our DNS gives this address to: protocols that name no host are
/// allowed by it. Two names that share the address are none.
fn named_by_address(exact: &[AllowRule], guest: &Guest) -> Option<Host> {
    let destination = guest.origin.destination;
    let mut names = exact.iter().filter(|rule| rule.port == Some(destination.port())).filter_map(|rule| {
        match &rule.host {
            HostPattern::Exact(Host::Name(name)) => {
                dns::is_address_of(destination.ip(), name).then_some(name)
            }
            _ => None,
        }
    });
    let name = names.next()?;
    names.all(|other| other == name).then(|| Host::Name(name.clone()))
}

/// The name decides; the bytes pass untouched, unless a secret is declared for the host. `tunnel`: the host and port that
/// a CONNECT named, which the server name has to repeat.
pub(crate) fn tls_connection(
    inner: Arc<Inner>,
    guest: Guest,
    mut stream: BoxedIo,
    mut seen: Vec<u8>,
    tunnel: Option<(Host, u16)>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(policy) = inner.policies.policy(&guest.origin).await else {
            return refuse_tls(stream).await;
        };
        let port = tunnel.as_ref().map_or(guest.origin.destination.port(), |(_, port)| *port);
        let hello = tokio::time::timeout(HEAD_DEADLINE, read_hello(&mut stream, &mut seen)).await;
        let named = hello.ok().flatten().as_deref().and_then(Host::parse);
        let host = match (named, tunnel) {
            (Some(named), Some((host, _))) if named != host => {
                inner.deny(&guest, policy.session, &named.to_string(), port, DenyReason::OtherName);
                return refuse_tls(stream).await;
            }
            (_, Some((host, _))) | (Some(host @ Host::Name(_)), None) => host,
            _ => {
                let address = guest.origin.destination.ip().to_string();
                inner.deny(&guest, policy.session, &address, port, DenyReason::NoServerName);
                return refuse_tls(stream).await;
            }
        };
        let allowed = verdict(&policy.allow, &host, port);
        if allowed == Verdict::Refused {
            inner.deny(&guest, policy.session, &host.to_string(), port, DenyReason::NotAllowed);
            return refuse_tls(stream).await;
        }
        match inner.authority() {
            Some(authority) if Injections(&policy.injections).concern(&host, port, true) => {
                let authority = authority.clone();
                end_tls(inner, &authority, guest, replayed(seen, stream), host, port).await;
            }
            _ => splice(&inner, &guest, policy.session, stream, &host, allowed, &seen).await,
        }
    })
}

/// Answers in the host's name with a certificate of the installation's authority.
async fn end_tls(
    inner: Arc<Inner>,
    authority: &Authority,
    guest: Guest,
    stream: BoxedIo,
    host: Host,
    port: u16,
) {
    let name = host.to_string();
    let config = match authority.server(name.trim_matches(['[', ']']), SystemTime::now()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, host = name, "TLS could not be ended");
            return refuse_tls(stream).await;
        }
    };
    match tokio::time::timeout(HEAD_DEADLINE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => http::serve(inner, guest, Box::new(stream), Mode::Ended(host, port)).await,
        Ok(Err(error)) => tracing::info!(%error, host = name, "a sandbox's TLS failed; does it trust us?"),
        Err(_) => {}
    }
}

/// `None`: no name, or nothing that could have one.
async fn read_hello(stream: &mut BoxedIo, seen: &mut Vec<u8>) -> Option<String> {
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
async fn refuse_tls(mut stream: BoxedIo) {
    let _ = stream.write_all(&tls::ACCESS_DENIED).await;
    let _ = stream.shutdown().await;
}

async fn splice(
    inner: &Inner,
    guest: &Guest,
    session: Option<SessionId>,
    mut stream: BoxedIo,
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
