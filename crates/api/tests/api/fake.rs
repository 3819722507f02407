//! An application with two people and sessions whose streams the test writes; and a server around it.

#[path = "fake/use_cases.rs"]
mod use_cases;

use crate::inside::Inside;
use axum::body::Body;
use greenroom_api::{ApiState, RateLimits, Settings, TrustedProxies, metrics_router, router, serve};
use greenroom_app::{Rights, RightsOf};
use greenroom_domain::{Entry, ErrorCode, Event, Person, PersonId, Problem, Role, SessionId};
use greenroom_telemetry::Telemetry;
use greenroom_wire::*;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const HOST: &str = "127.0.0.1:4400";
pub(crate) const OWN_ORIGIN: &str = "http://127.0.0.1:4400";
pub(crate) const COOKIE: &str = "greenroom_session=good-cookie";
pub(crate) const BEARER: &str = "Bearer grt_good";
pub(crate) const OTHER_BEARER: &str = "Bearer grt_other";
/// Entries in the log of every session.
pub(crate) const PAST: u64 = 3;
/// What a file of a session holds.
pub(crate) const PAGE: &str = "<script>alert(1)</script>";

type Result<T, E = Problem> = std::result::Result<T, E>;

#[derive(Default)]
pub(crate) struct Fake {
    is_signed_out: AtomicBool,
    /// What was said beside commands: typing, reads, drafts.
    pub(crate) said: Mutex<Vec<String>>,
    /// What the session may be seen by.
    is_shut: AtomicBool,
    is_viewer: AtomicBool,
    /// Questions for a right that are not answered in time.
    pub(crate) unanswered: AtomicU64,
    pub(crate) inside: Arc<Inside>,
    rights: Rights,
    live: Mutex<Vec<mpsc::UnboundedSender<Frame>>>,
    lists: Mutex<Vec<mpsc::UnboundedSender<SessionsFrame>>>,
    pub(crate) commands: AtomicU64,
    /// Commands that have begun, and whether they wait then.
    pub(crate) begun: AtomicU64,
    pub(crate) is_held: watch::Sender<bool>,
    pub(crate) telemetry: Telemetry,
    pub(crate) received: Mutex<Vec<u8>>,
}

impl Fake {
    /// To everyone who follows a session.
    pub(crate) fn publish(&self, frame: &Frame) {
        self.live.lock().unwrap().retain(|viewer| viewer.send(frame.clone()).is_ok());
    }

    pub(crate) fn viewers(&self) -> usize {
        self.live.lock().unwrap().len()
    }

    /// To everyone who follows the list.
    pub(crate) fn publish_line(&self, frame: &SessionsFrame) {
        self.lists.lock().unwrap().retain(|reader| reader.send(frame.clone()).is_ok());
    }

    pub(crate) fn sign_everyone_out(&self) {
        self.is_signed_out.store(true, Ordering::Relaxed);
        self.rights.changed(RightsOf::Person(ada().id));
    }

    fn say(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }

    /// The session is not for the caller any more.
    pub(crate) fn shut_the_session(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
        self.rights.changed(RightsOf::Session(session_id()));
    }

    /// Without anybody being told.
    pub(crate) fn shut_the_session_silently(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
    }

    /// The caller may only look from now on.
    pub(crate) fn demote(&self) {
        self.is_viewer.store(true, Ordering::Relaxed);
        self.rights.changed(RightsOf::Person(ada().id));
    }

    /// Something that concerns nobody here.
    pub(crate) fn change_a_strangers_rights(&self) {
        self.rights.changed(RightsOf::Person(PersonId::from_parts(9, 9)));
        self.rights.changed(RightsOf::Session(SessionId::from_parts(9, 9)));
    }

    fn known(&self, is_known: bool) -> Result<Person> {
        let is_signed_out = self.is_signed_out.load(Ordering::Relaxed);
        let role = if self.is_viewer.load(Ordering::Relaxed) { Role::Viewer } else { Role::Member };
        let person = Person { role, ..ada() };
        (is_known && !is_signed_out).then_some(person).ok_or_else(|| problem(ErrorCode::NotSignedIn))
    }
}

pub(crate) fn problem(code: ErrorCode) -> Problem {
    Problem::new(code, "The fake says no.")
}

pub(crate) fn ada() -> Person {
    Person {
        id: PersonId::from_parts(1, 1),
        login: "ada".parse().unwrap(),
        name: "Ada".into(),
        email: "ada@example.org".into(),
        role: Role::Member,
    }
}

pub(crate) fn ben() -> Person {
    Person {
        id: PersonId::from_parts(1, 2),
        login: "ben".parse().unwrap(),
        name: "Ben".into(),
        email: "ben@example.org".into(),
        role: Role::Member,
    }
}

pub(crate) fn session_id() -> SessionId {
    SessionId::from_parts(1, 1)
}

pub(crate) fn entry(seq: u64) -> Frame {
    let event = Event::TitleChanged { title: format!("title {seq}"), by: None };
    Frame::Entry { entry: Entry { seq, at_ms: 1, epoch: 1, event } }
}

fn session_view(id: SessionId) -> SessionView {
    SessionView {
        id,
        repository: "sample".parse().unwrap(),
        title: "A session".into(),
        status: SessionStatus::Idle,
        created_by: None,
        created_by_name: "Ada".into(),
        branch: "greenroom/x".parse().unwrap(),
        model: None,
        effort: None,
        queued_prompts: 0,
        open_asks: 0,
        usage: greenroom_domain::money::Usage::default(),
        change: None,
        forked_from: None,
        parent: None,
        imported_from: None,
        head_seq: PAST,
        news_seq: PAST,
        created_at_ms: 1,
        is_archived: false,
        updated_at_ms: 1,
        team_access: Default::default(),
        my_rights: vec![],
    }
}

/// A router, without a listener.
pub(crate) struct TestApp {
    pub(crate) fake: Arc<Fake>,
    pub(crate) router: axum::Router,
    /// Of the listener for metrics.
    pub(crate) metrics: axum::Router,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn app() -> TestApp {
    // One person plays all the clients of a test.
    limited(RateLimits::NONE, TrustedProxies::default())
}

pub(crate) fn limited(rates: RateLimits, proxies: TrustedProxies) -> TestApp {
    let fake = Arc::new(Fake::default());
    let shutdown = CancellationToken::new();
    let settings = Settings { listen: HOST.parse().unwrap(), public_origin: None, preview_domain: None };
    let state = ApiState::new(fake.clone(), settings, shutdown.clone())
        .limited_by(rates, proxies)
        .measured_by(fake.telemetry.clone());
    TestApp { fake, metrics: metrics_router(state.clone()), router: router(state), shutdown }
}

impl TestApp {
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", HOST)
}

/// A signed-in program's request.
pub(crate) fn by_token(method: &str, path: &str) -> http::request::Builder {
    request(method, path).header("authorization", BEARER)
}

pub(crate) async fn body_of(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// The error of an answer, after checking its shape.
pub(crate) async fn error_of(response: Response<Body>) -> (StatusCode, ErrorView) {
    let status = response.status();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: ErrorBody = serde_json::from_slice(&body_of(response).await).unwrap();
    assert_eq!(body.error.request_id, id);
    assert_eq!(body.error.code.http_status(), status.as_u16());
    (status, body.error)
}

/// A server on a port of its own; stops when dropped.
pub(crate) struct TestServer {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    _stop: DropGuard,
}

pub(crate) async fn server() -> TestServer {
    served(app()).await
}

pub(crate) async fn served(app: TestApp) -> TestServer {
    server_of(app).await.0
}

pub(crate) async fn server_limited_by(rates: RateLimits) -> TestServer {
    served(limited(rates, TrustedProxies::default())).await
}

/// And what ends with it.
pub(crate) async fn server_of(app: TestApp) -> (TestServer, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let TestApp { fake, router, shutdown, .. } = app;
    let serving = tokio::spawn(serve(listener, router, shutdown.clone()));
    (TestServer { fake, address, shutdown: shutdown.clone(), _stop: shutdown.drop_guard() }, serving)
}
