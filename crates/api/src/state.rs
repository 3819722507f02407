//! What every handler shares.

use crate::layers::{InFlight, Watched};
use crate::limits::{Limits, RateLimits, TrustedProxies};
use crate::port::UseCases;
use crate::preview::{Grants, PreviewDomain};
use greenroom_domain::RequestId;
use greenroom_telemetry::{Gauges, Telemetry};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Plain requests of one person at a time.
const REQUESTS: u32 = 64;
/// Open streams (WebSocket, SSE) of one person.
const STREAMS: u32 = 256;
/// Git exchanges of one person at a time.
const GIT_EXCHANGES: u32 = 16;
/// Requests to previews, WebSockets included, of one person.
const PREVIEW_REQUESTS: u32 = 256;
/// Sign-ins at a time, of anybody: each costs memory and time for the password hash.
const SIGN_INS: usize = 4;

/// Each may hold a body.
const HOOK_CALLS: usize = 16;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The address people use, where it is another: scheme, host and port.
    pub public_origin: Option<Url>,
    /// For previews where people are not on the server's own machine; every subdomain leads to this server.
    pub preview_domain: Option<PreviewDomain>,
}

/// Cheap to clone, and a pointer's size: every open stream holds some.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// What is behind it.
#[derive(Clone)]
pub struct Shared {
    pub(crate) app: Arc<dyn UseCases>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) telemetry: Telemetry,
    /// Cancelled when the server begins to stop: streams end, plain requests finish.
    pub(crate) shutdown: CancellationToken,
    pub(crate) limits: Arc<Limits>,
    pub(crate) requests: InFlight,
    pub(crate) streams: InFlight,
    pub(crate) watched: Watched,
    pub(crate) git_exchanges: InFlight,
    pub(crate) sign_ins: Arc<Semaphore>,
    pub(crate) hook_calls: Arc<Semaphore>,
    pub(crate) previews: Grants,
    pub(crate) preview_requests: InFlight,
}

impl ApiState {
    pub fn new(app: Arc<dyn UseCases>, settings: Settings, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            app,
            settings: Arc::new(settings),
            telemetry: Telemetry::default(),
            shutdown,
            limits: Arc::new(Limits::new(RateLimits::default(), TrustedProxies::default())),
            requests: InFlight::new("requests at the same time", REQUESTS),
            streams: InFlight::new("open streams", STREAMS),
            watched: Watched::default(),
            git_exchanges: InFlight::new("git exchanges at the same time", GIT_EXCHANGES),
            sign_ins: Arc::new(Semaphore::new(SIGN_INS)),
            hook_calls: Arc::new(Semaphore::new(HOOK_CALLS)),
            previews: Grants::default(),
            preview_requests: InFlight::new("open requests to previews", PREVIEW_REQUESTS),
        }))
    }

    pub fn measured_by(self, telemetry: Telemetry) -> Self {
        Self(Arc::new(Shared { telemetry, ..Arc::unwrap_or_clone(self.0) }))
    }

    pub fn limited_by(self, rates: RateLimits, proxies: TrustedProxies) -> Self {
        let limits = Arc::new(Limits::new(rates, proxies));
        Self(Arc::new(Shared { limits, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// What this crate knows of them.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            streams: self.streams.count(),
            requests: self.requests.count(),
            is_draining: self.app.is_draining(),
            ..Gauges::default()
        }
    }
}

impl std::ops::Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("settings", &self.settings).finish_non_exhaustive()
    }
}

pub(crate) fn new_request_id() -> RequestId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = u128::from(getrandom::u64().unwrap_or_default()) << 16
        | u128::from(getrandom::u32().unwrap_or_default() & 0xffff);
    RequestId::from_parts(u64::try_from(now.as_millis()).unwrap_or_default(), random)
}
