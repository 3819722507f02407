//! An application with two people and sessions whose streams the test writes; and a server around it.

use crate::inside::Inside;
use async_trait::async_trait;
use axum::body::Body;
use futures::stream::{self, StreamExt};
use greenroom_api::{
    ApiState, BuildFrames, Frames, PreviewStream, RateLimits, SessionsFrames, Settings, TrustedProxies,
    UseCases, WebSession, metrics_router, router, serve,
};
use greenroom_app::{
    Archived, BlobFile, ExportedSession, GitService, HookCall, PreviewUse, Rights, RightsChanges, RightsOf,
    SharedFrame, StatisticsRange, Upload,
};
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{
    Attachment, BlobDigest, ChangeId, Command, CommandId, Entry, ErrorCode, Event, ExchangeName, ImageId,
    Person, PersonId, Problem, RepositoryName, Right, Role, SessionId, ShareLinkId,
};
use greenroom_telemetry::{Gauges, Telemetry};
use greenroom_wire::*;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const HOST: &str = "127.0.0.1:4400";
pub(crate) const OWN_ORIGIN: &str = "http://127.0.0.1:4400";
pub(crate) const COOKIE: &str = "greenroom_session=good-cookie";
pub(crate) const BEARER: &str = "Bearer grt_good";
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

pub(crate) fn session_id() -> SessionId {
    SessionId::from_parts(1, 1)
}

pub(crate) fn entry(seq: u64) -> Frame {
    let event = Event::TitleChanged { title: format!("title {seq}") };
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
        queued_prompts: 0,
        usage: greenroom_domain::money::Usage::default(),
        change: None,
        forked_from: None,
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

fn unused<T>() -> Result<T> {
    Err(problem(ErrorCode::Internal))
}

#[async_trait]
impl UseCases for Fake {
    async fn readiness(&self) -> Readiness {
        Readiness { is_ready: true, checks: vec![] }
    }

    fn is_draining(&self) -> bool {
        false
    }

    async fn machine(&self, _: &Person) -> Result<Machine> {
        Ok(Machine { mode: "fake".into(), capabilities: vec![] })
    }
    async fn retention(&self, _: &Person) -> Result<RetentionView> {
        unused()
    }
    async fn retention_plan(&self, _: &Person) -> Result<RetentionReport> {
        unused()
    }
    async fn run_retention(&self, _: &Person) -> Result<RetentionReport> {
        unused()
    }
    async fn machine_resources(&self, _: &Person) -> Result<MachineResources> {
        unused()
    }
    async fn metrics(&self, caller: &Person, gauges: Gauges) -> Result<String> {
        match caller.role {
            Role::Admin => self.local_metrics(gauges).await,
            _ => Err(problem(ErrorCode::NotAllowed)),
        }
    }
    async fn local_metrics(&self, gauges: Gauges) -> Result<String> {
        Ok(self.telemetry.render(&gauges))
    }
    async fn session_trace(&self, _: &Person, _: SessionId, _: Option<u64>) -> Result<Vec<TurnTrace>> {
        Ok(vec![])
    }
    async fn person_of_cookie(&self, secret: &str) -> Result<Person> {
        self.known(secret == "good-cookie")
    }
    async fn person_of_token(&self, secret: &str) -> Result<Person> {
        if secret == "grt_admin" {
            return Ok(Person { role: Role::Admin, ..self.known(true)? });
        }
        self.known(secret == "grt_good")
    }
    async fn sign_in(&self, body: SignIn) -> Result<WebSession> {
        match body.password.as_str() {
            "right" => Ok(WebSession { person: ada(), secret: "good-cookie".into(), max_age_s: 60 }),
            "panic" => panic!("a bug"),
            _ => Err(problem(ErrorCode::WrongCredentials)),
        }
    }
    async fn use_sign_in_link(&self, _: UseSignInLink) -> Result<WebSession> {
        unused()
    }
    async fn sign_out(&self, _: &str) -> Result<()> {
        self.sign_everyone_out();
        Ok(())
    }
    fn rights_changes(&self) -> RightsChanges {
        self.rights.changes()
    }
    async fn people(&self, _: &Person) -> Result<Vec<Person>> {
        Ok(vec![ada()])
    }
    async fn add_person(&self, _: &Person, _: AddPerson) -> Result<PersonAdded> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn quotas(&self, _: &Person) -> Result<QuotasView> {
        unused()
    }
    async fn set_quotas(
        &self,
        _: &Person,
        _: Option<&greenroom_domain::LoginName>,
        _: greenroom_domain::quota::Quotas,
    ) -> Result<QuotasView> {
        unused()
    }
    async fn quota_usage(&self, _: &Person, _: &greenroom_domain::LoginName) -> Result<QuotaUsage> {
        unused()
    }
    async fn create_token(&self, _: &Person, _: CreateToken) -> Result<TokenCreated> {
        unused()
    }
    async fn repositories(&self, _: &Person) -> Result<Vec<RepositoryView>> {
        Ok(vec![])
    }
    async fn add_repository(&self, _: &Person, _: AddRepository) -> Result<RepositoryView> {
        unused()
    }
    async fn repository(&self, _: &Person, _: &RepositoryName) -> Result<RepositoryView> {
        Err(problem(ErrorCode::RepositoryUnknown))
    }
    async fn remove_repository(&self, _: &Person, _: &RepositoryName) -> Result<()> {
        unused()
    }
    async fn create_hook(&self, _: &Person, _: &RepositoryName) -> Result<HookCreated> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn remove_hook(&self, _: &Person, _: &RepositoryName) -> Result<()> {
        unused()
    }
    async fn push_hook(&self, _: &RepositoryName, call: HookCall<'_>) -> Result<()> {
        match call.signature {
            Some("sha256=good") if call.body == b"{}" => Ok(()),
            _ => Err(problem(ErrorCode::HookRefused)),
        }
    }
    async fn egress(&self, _: &Person, _: &RepositoryName) -> Result<EgressView> {
        unused()
    }
    async fn set_egress(&self, _: &Person, _: &RepositoryName, _: SetEgress) -> Result<EgressView> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn secrets(&self, _: &Person, _: &RepositoryName) -> Result<Vec<SecretView>> {
        Ok(vec![])
    }
    async fn add_secret(&self, _: &Person, _: &RepositoryName, _: AddSecret) -> Result<SecretView> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn remove_secret(&self, _: &Person, _: &RepositoryName, _: &str) -> Result<()> {
        Err(problem(ErrorCode::SecretUnknown))
    }
    async fn warm(&self, _: &Person, _: &RepositoryName, _: WarmRepository) -> Result<WarmView> {
        Ok(WarmView { state: WarmState::Preparing, expires_at_ms: 1 })
    }
    async fn build_image(&self, _: &Person, _: &RepositoryName) -> Result<ImageView> {
        unused()
    }
    async fn export_image(&self, _: &Person, _: ImageId, _: ExchangeName) -> Result<ExportedImage> {
        unused()
    }
    async fn import_image(&self, _: &Person, _: &RepositoryName, _: ExchangeName) -> Result<ImageView> {
        unused()
    }
    async fn images(&self, _: &Person, _: &RepositoryName) -> Result<Vec<ListedImage>> {
        unused()
    }
    async fn image(&self, _: &Person, _: ImageId) -> Result<ImageView> {
        unused()
    }
    async fn image_contents(&self, _: &Person, _: ImageId) -> Result<ImageContents> {
        unused()
    }
    async fn image_log(&self, _: &Person, _: ImageId) -> Result<BuildFrames> {
        let frame = BuildFrame::Output { text: "one\ntwo\n".into() };
        Ok(Box::pin(stream::iter([frame])))
    }
    async fn models(&self, _: &Person) -> Result<Vec<ModelView>> {
        Ok(vec![])
    }
    async fn add_model(&self, _: &Person, _: AddModel) -> Result<ModelView> {
        unused()
    }
    async fn remove_model(&self, _: &Person, _: &str) -> Result<()> {
        unused()
    }
    async fn test_model(&self, _: &Person, _: &str) -> Result<ModelTested> {
        unused()
    }
    async fn sessions(
        &self,
        _: &Person,
        _: Option<&RepositoryName>,
        _: Archived,
        _: u32,
    ) -> Result<Vec<SessionView>> {
        Ok(vec![session_view(session_id())])
    }
    async fn search(
        &self,
        _: &Person,
        _: &str,
        _: Option<&RepositoryName>,
        _: usize,
    ) -> Result<Vec<SearchHit>> {
        Ok(vec![SearchHit { session: session_view(session_id()), matches: vec![] }])
    }
    async fn statistics(&self, _: &Person, _: StatisticsRange) -> Result<StatisticsView> {
        Err(problem(ErrorCode::PersonUnknown))
    }
    async fn follow_sessions(&self, _: &Person, name: Option<&RepositoryName>) -> Result<SessionsFrames> {
        if name.is_some_and(|name| name.as_str() != "sample") {
            return Err(problem(ErrorCode::RepositoryUnknown));
        }
        let (reader, lines) = mpsc::unbounded_channel();
        self.lists.lock().unwrap().push(reader);
        let first = SessionsFrame::Snapshot { sessions: vec![session_view(session_id())], reads: vec![] };
        let lines = stream::unfold(lines, async |mut lines| Some((lines.recv().await?, lines)));
        Ok(Box::pin(stream::iter([first]).chain(lines)))
    }
    async fn create_session(&self, _: &Person, _: &CommandId, _: CreateSession) -> Result<SessionView> {
        Ok(session_view(session_id()))
    }
    async fn fork_session(
        &self,
        _: &Person,
        _: &CommandId,
        id: SessionId,
        _: ForkSession,
    ) -> Result<SessionView> {
        Ok(session_view(id))
    }
    async fn session_queue(&self, _: &Person, _: SessionId) -> Result<Vec<QueuedPromptView>> {
        Ok(vec![])
    }
    async fn session_outbox(&self, _: &Person, _: SessionId) -> Result<OutboxView> {
        Ok(OutboxView { head_seq: 0, consumers: vec![] })
    }
    async fn session_environment(&self, _: &Person, _: SessionId) -> Result<SessionEnvironment> {
        let port = PortView { port: 3000, name: None, is_listening: true, url: String::new() };
        Ok(SessionEnvironment {
            is_running: true,
            image: None,
            services: vec![],
            ports: vec![port],
            snapshots: vec![],
            memory_bytes: None,
            processes: None,
            disk_bytes: None,
        })
    }
    async fn preview(
        &self,
        caller: &Person,
        _: SessionId,
        port: u16,
        wanted: PreviewUse,
    ) -> Result<(Box<dyn PreviewStream>, Right)> {
        let right = if caller.role == Role::Viewer { Right::View } else { Right::Prompt };
        if (right, wanted) == (Right::View, PreviewUse::Act) {
            return Err(problem(ErrorCode::NotAllowed));
        }
        let stream =
            crate::inside::connect(port, &self.inside).ok_or_else(|| problem(ErrorCode::PortClosed))?;
        Ok((Box::new(stream), right))
    }
    async fn session(&self, _: &Person, id: SessionId) -> Result<SessionView> {
        match id == session_id() {
            true if self.is_shut.load(Ordering::Relaxed) => Err(problem(ErrorCode::NotAllowed)),
            true => Ok(session_view(id)),
            false => Err(problem(ErrorCode::SessionUnknown)),
        }
    }
    async fn require_right(&self, caller: &Person, id: SessionId, right: Right) -> Result<()> {
        let count = |left: u64| left.checked_sub(1);
        if self.unanswered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok() {
            return Err(problem(ErrorCode::Deadline));
        }
        self.session(caller, id).await?;
        let may = right == Right::View || caller.role >= Role::Member;
        may.then_some(()).ok_or_else(|| problem(ErrorCode::NotAllowed))
    }
    async fn delete_session(&self, _: &Person, _: SessionId) -> Result<()> {
        Ok(())
    }
    async fn submit_command(&self, caller: &Person, _: SessionId, body: SubmitCommand) -> Result<Receipt> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut held = self.is_held.subscribe();
        held.wait_for(|is_held| !is_held).await.expect("the fake is there");
        if caller.role == Role::Viewer {
            return Err(problem(ErrorCode::NotAllowed));
        }
        if body.command == (Command::Stop { hold_queue: false }) {
            return Err(problem(ErrorCode::NotRunning));
        }
        let seq = PAST + 1 + self.commands.fetch_add(1, Ordering::Relaxed);
        Ok(Receipt { key: body.key, seq: Some(seq), problem: None })
    }
    async fn entries(&self, _: &Person, _: SessionId, _: u64, _: usize) -> Result<EntryPage> {
        Ok(EntryPage { entries: vec![], head_seq: PAST })
    }
    async fn session_people(&self, _: &Person, _: SessionId) -> Result<SessionPeople> {
        unused()
    }
    async fn create_share_link(
        &self,
        _: &Person,
        _: SessionId,
        _: CreateShareLink,
    ) -> Result<ShareLinkCreated> {
        unused()
    }
    async fn share_links(&self, _: &Person, _: SessionId) -> Result<Vec<ShareLinkView>> {
        Ok(vec![])
    }
    async fn revoke_share_link(&self, _: &Person, _: SessionId, _: ShareLinkId) -> Result<()> {
        Err(problem(ErrorCode::ShareLinkUnknown))
    }
    async fn use_share_link(&self, _: &Person, _: UseShareLink) -> Result<SessionView> {
        Err(problem(ErrorCode::ShareLinkUnknown))
    }
    async fn presence(&self, _: &Person, _: SessionId) -> Result<Presence> {
        Ok(Presence::default())
    }
    async fn say_typing(&self, _: &Person, _: SessionId, client: ClientKind, is_typing: bool) -> Result<()> {
        self.say(format!("{} types: {is_typing}", client.as_str()));
        Ok(())
    }
    async fn mark_read(&self, _: &Person, session: SessionId, seq: u64) -> Result<ReadPosition> {
        self.say(format!("read to {seq}"));
        Ok(ReadPosition { session, seq: seq.min(PAST) })
    }
    async fn read_positions(&self, _: &Person) -> Result<Vec<ReadPosition>> {
        Ok(vec![ReadPosition { session: session_id(), seq: 1 }])
    }
    async fn draft(
        &self,
        _: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
    ) -> Result<Draft> {
        Ok(Draft { session, repository, text: "kept".into(), revision: 7, updated_at_ms: 1 })
    }
    async fn write_draft(
        &self,
        _: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
        body: WriteDraft,
    ) -> Result<DraftAnswer> {
        let is_refused = body.revision != 7;
        let (text, revision) = if is_refused { ("kept".into(), 7) } else { (body.text, 8) };
        self.say(format!("typed {text}"));
        Ok(DraftAnswer { draft: Draft { session, repository, text, revision, updated_at_ms: 1 }, is_refused })
    }
    /// Says which were asked for.
    async fn entries_before(&self, _: &Person, _: SessionId, before: u64, _: usize) -> Result<EntryPage> {
        Ok(EntryPage { entries: vec![], head_seq: before })
    }
    async fn subscribe(
        &self,
        _: &Person,
        _: SessionId,
        after: u64,
        window: Option<u32>,
        _: ClientKind,
    ) -> Result<Frames> {
        let (viewer, live) = mpsc::unbounded_channel();
        self.live.lock().unwrap().push(viewer);
        let hello = Frame::Hello { protocol: PROTOCOL, head_seq: PAST, epoch: 1 };
        // Only that the window arrives here: what it means is tested where it is made.
        let after = window.map_or(after, |window| after.max(PAST.saturating_sub(window.into())));
        let past = (after + 1..=PAST).map(entry);
        let replay = std::iter::once(hello).chain(past).chain([Frame::CaughtUp { seq: PAST }]);
        let live = stream::unfold(live, async |mut live| Some((live.recv().await?, live)));
        Ok(Box::pin(stream::iter(replay.collect::<Vec<_>>()).chain(live).map(SharedFrame::from)))
    }
    async fn session_diff(&self, _: &Person, _: SessionId) -> Result<Vec<FileDiffView>> {
        Ok(vec![])
    }
    async fn session_blame(&self, _: &Person, _: SessionId, _: &str) -> Result<Blame> {
        Err(problem(ErrorCode::FileUnknown))
    }
    async fn attach(
        &self,
        _: &Person,
        _: Option<SessionId>,
        name: &str,
        _: Option<u64>,
        mut upload: Upload,
    ) -> Result<Attachment> {
        let mut bytes = vec![];
        tokio::io::AsyncReadExt::read_to_end(&mut upload, &mut bytes).await.unwrap();
        if bytes == b"too much" {
            return Err(problem(ErrorCode::QuotaReached));
        }
        let (digest, media_type) = ("0".repeat(64).parse().unwrap(), "text/plain".to_owned());
        Ok(Attachment {
            digest,
            name: name.into(),
            media_type,
            bytes: bytes.len() as u64,
            width: None,
            height: None,
        })
    }
    async fn export_session(&self, _: &Person, id: SessionId) -> Result<ExportedSession> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, PAGE.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(ExportedSession { file, bytes: PAGE.len() as u64, name: format!("{id}.greenroom") })
    }
    async fn import_session(
        &self,
        _: &Person,
        _: &CommandId,
        _: Option<&RepositoryName>,
        mut upload: Upload,
    ) -> Result<SessionView> {
        let mut bytes = vec![];
        tokio::io::AsyncReadExt::read_to_end(&mut upload, &mut bytes).await.unwrap();
        Err(problem(ErrorCode::ArchiveDamaged))
    }
    /// Its bytes are always a page.
    async fn blob(&self, caller: &Person, id: SessionId, digest: &BlobDigest) -> Result<BlobFile> {
        self.session(caller, id).await?;
        let media_type = match &digest.as_str()[..1] {
            "1" => "image/png",
            "2" => "text/plain",
            _ => return Err(problem(ErrorCode::AttachmentUnknown)),
        };
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, PAGE.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(BlobFile { file, bytes: PAGE.len() as u64, media_type })
    }
    async fn artifacts(&self, _: &Person, _: SessionId) -> Result<Vec<ArtifactView>> {
        Ok(vec![])
    }
    async fn exec(&self, _: &Person, _: SessionId, _: Exec) -> Result<ExecResult> {
        unused()
    }
    async fn changes(&self, _: &Person, _: Option<&RepositoryName>) -> Result<Vec<ChangeView>> {
        Ok(vec![])
    }
    async fn change(&self, _: &Person, _: ChangeId) -> Result<ChangeView> {
        Err(problem(ErrorCode::ChangeUnknown))
    }
    async fn change_diff(&self, _: &Person, _: ChangeId) -> Result<Vec<FileDiffView>> {
        unused()
    }
    async fn approve_change(&self, _: &Person, _: ChangeId, _: ApproveChange) -> Result<ChangeView> {
        Err(problem(ErrorCode::SelfApproval))
    }
    async fn merge_change(&self, _: &Person, _: ChangeId) -> Result<ChangeView> {
        unused()
    }
    async fn git_advertise(
        &self,
        _: &Person,
        name: &RepositoryName,
        _: GitService,
        protocol: Option<&str>,
    ) -> Result<Vec<u8>> {
        Ok(format!("refs of {name}, {}", protocol.unwrap_or_default()).into_bytes())
    }
    /// Keeps what it is sent and answers it; refuses the repository `locked`.
    async fn git_serve(
        &self,
        _: &Person,
        name: &RepositoryName,
        _: GitService,
        _: Option<&str>,
        mut input: Box<dyn AsyncRead + Send + Unpin>,
        mut output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()> {
        if name.as_str() == "locked" {
            return Err(problem(ErrorCode::PushRefused));
        }
        let mut received = vec![];
        input.read_to_end(&mut received).await.map_err(|_| problem(ErrorCode::Internal))?;
        output.write_all(&received).await.map_err(|_| problem(ErrorCode::Internal))?;
        *self.received.lock().unwrap() = received;
        Ok(())
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
    app_limited_by(RateLimits::NONE)
}

fn app_limited_by(rates: RateLimits) -> TestApp {
    let fake = Arc::new(Fake::default());
    let shutdown = CancellationToken::new();
    let settings = Settings { listen: HOST.parse().unwrap(), public_origin: None, preview_domain: None };
    let state = ApiState::new(fake.clone(), settings, shutdown.clone())
        .limited_by(rates, TrustedProxies::default())
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
    server_of(app()).await.0
}

pub(crate) async fn server_limited_by(rates: RateLimits) -> TestServer {
    server_of(app_limited_by(rates)).await.0
}

/// And what ends with it.
pub(crate) async fn server_of(app: TestApp) -> (TestServer, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let TestApp { fake, router, shutdown, .. } = app;
    let serving = tokio::spawn(serve(listener, router, shutdown.clone()));
    (TestServer { fake, address, shutdown: shutdown.clone(), _stop: shutdown.drop_guard() }, serving)
}
