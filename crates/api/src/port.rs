//! What the routes need of the application. `app` is behind it in the server, a fake in the tests of this crate.

use async_trait::async_trait;
use futures::stream::BoxStream;
use greenroom_app::{
    Archived, BlobFile, ExportedSession, GitService, HookCall, PreviewUse, RightsChanges, SharedFrame,
    StatisticsRange, Upload,
};
use greenroom_domain::quota::Quotas;
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{
    Attachment, BlobDigest, ChangeId, CommandId, ExchangeName, ImageId, LoginName, Person, Problem,
    RepositoryName, Right, SessionId, ShareLinkId,
};
use greenroom_telemetry::Gauges;
use greenroom_wire::{
    AddModel, AddPerson, AddRepository, AddSecret, ApproveChange, ArtifactView, AskView, Blame, BuildFrame,
    ChangeView, ClientKind, ContextView, CreateSession, CreateShareLink, CreateToken, Draft, DraftAnswer,
    EgressView, EntryPage, Exec, ExecResult, ExportedImage, FileDiffView, ForkSession, HookCreated,
    ImageContents, ImageView, ListedImage, Machine, MachineResources, ModelTested, ModelView, OutboxView,
    PersonAdded, Presence, QueuedPromptView, QuotaUsage, QuotasView, ReadPosition, Readiness, Receipt,
    RepositoryView, RetentionReport, RetentionView, SearchHit, SecretView, SessionEnvironment, SessionPeople,
    SessionSteps, SessionTree, SessionView, SessionsFrame, SetEgress, ShareLinkCreated, ShareLinkView,
    SignIn, StatisticsView, SubmitCommand, TokenCreated, TreesOf, UseShareLink, UseSignInLink,
    WarmRepository, WarmView, WriteDraft,
};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// A browser that signed in.
#[derive(Clone)]
pub struct WebSession {
    pub person: Person,
    /// For the cookie.
    pub secret: String,
    pub max_age_s: i64,
}

impl std::fmt::Debug for WebSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSession").field("person", &self.person.login).finish_non_exhaustive()
    }
}

/// A session's stream: `hello`, entries after the asked one, `caught_up`, then live, without gap. Ends with the session,
/// after an `error`, or with `resume` when its reader was too slow.
pub type Frames = BoxStream<'static, SharedFrame>;

/// A build's log from its beginning; ends after `finished`.
pub type BuildFrames = BoxStream<'static, BuildFrame>;

/// The list of sessions, then its changes; ends when it cannot be read.
pub type SessionsFrames = BoxStream<'static, SessionsFrame>;

/// A byte stream to a port inside a sandbox.
pub trait PreviewStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> PreviewStream for T {}
/// A connection to a port inside, and the right that it rests on.
pub type Preview = (Box<dyn PreviewStream>, Right);

/// Each checks whether the caller may, and answers a `Problem` otherwise.
#[async_trait]
pub trait UseCases: Send + Sync + 'static {
    /// For everybody: it says nothing of the machine.
    async fn readiness(&self) -> Readiness;
    /// Nothing new begins any more.
    fn is_draining(&self) -> bool;
    async fn machine(&self, caller: &Person) -> Result<Machine>;
    /// The metrics' text; `gauges` has what the routes know.
    async fn metrics(&self, caller: &Person, gauges: Gauges) -> Result<String>;
    /// The same for a listener that an admin set up for it.
    async fn local_metrics(&self, gauges: Gauges) -> Result<String>;
    async fn machine_resources(&self, caller: &Person) -> Result<MachineResources>;
    async fn retention(&self, caller: &Person) -> Result<RetentionView>;
    async fn retention_plan(&self, caller: &Person) -> Result<RetentionReport>;
    async fn run_retention(&self, caller: &Person) -> Result<RetentionReport>;

    /// `not_signed_in` when the secret is not, or no longer, known.
    async fn person_of_cookie(&self, secret: &str) -> Result<Person>;
    async fn person_of_token(&self, secret: &str) -> Result<Person>;
    async fn sign_in(&self, body: SignIn) -> Result<WebSession>;
    async fn use_sign_in_link(&self, body: UseSignInLink) -> Result<WebSession>;
    async fn sign_out(&self, secret: &str) -> Result<()>;
    /// Of everybody, from now on: for streams that outlive the moment at which their caller was checked.
    fn rights_changes(&self) -> RightsChanges;
    async fn people(&self, caller: &Person) -> Result<Vec<Person>>;
    async fn add_person(&self, caller: &Person, body: AddPerson) -> Result<PersonAdded>;
    async fn quotas(&self, caller: &Person) -> Result<QuotasView>;
    /// `None`: everyone's.
    async fn set_quotas(
        &self,
        caller: &Person,
        login: Option<&LoginName>,
        quotas: Quotas,
    ) -> Result<QuotasView>;
    async fn quota_usage(&self, caller: &Person, login: &LoginName) -> Result<QuotaUsage>;
    async fn create_token(&self, caller: &Person, body: CreateToken) -> Result<TokenCreated>;

    async fn repositories(&self, caller: &Person) -> Result<Vec<RepositoryView>>;
    async fn add_repository(&self, caller: &Person, body: AddRepository) -> Result<RepositoryView>;
    async fn repository(&self, caller: &Person, name: &RepositoryName) -> Result<RepositoryView>;
    async fn remove_repository(&self, caller: &Person, name: &RepositoryName) -> Result<()>;
    async fn create_hook(&self, caller: &Person, name: &RepositoryName) -> Result<HookCreated>;
    async fn remove_hook(&self, caller: &Person, name: &RepositoryName) -> Result<()>;
    /// Nobody is signed in: the call proves itself. `hook_refused` when it does not.
    async fn push_hook(&self, name: &RepositoryName, call: HookCall<'_>) -> Result<()>;
    async fn egress(&self, caller: &Person, name: &RepositoryName) -> Result<EgressView>;
    async fn set_egress(&self, caller: &Person, name: &RepositoryName, body: SetEgress)
    -> Result<EgressView>;
    async fn secrets(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<SecretView>>;
    async fn add_secret(&self, caller: &Person, name: &RepositoryName, body: AddSecret)
    -> Result<SecretView>;
    async fn remove_secret(&self, caller: &Person, name: &RepositoryName, secret: &str) -> Result<()>;
    async fn warm(&self, caller: &Person, name: &RepositoryName, body: WarmRepository) -> Result<WarmView>;
    async fn build_image(&self, caller: &Person, name: &RepositoryName) -> Result<ImageView>;
    async fn export_image(&self, caller: &Person, id: ImageId, to: ExchangeName) -> Result<ExportedImage>;
    async fn import_image(
        &self,
        caller: &Person,
        name: &RepositoryName,
        from: ExchangeName,
    ) -> Result<ImageView>;
    async fn images(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<ListedImage>>;
    async fn image(&self, caller: &Person, id: ImageId) -> Result<ImageView>;
    /// `image_missing` unless it is a good one.
    async fn image_contents(&self, caller: &Person, id: ImageId) -> Result<ImageContents>;
    async fn image_log(&self, caller: &Person, id: ImageId) -> Result<BuildFrames>;

    async fn models(&self, caller: &Person) -> Result<Vec<ModelView>>;
    async fn add_model(&self, caller: &Person, body: AddModel) -> Result<ModelView>;
    async fn remove_model(&self, caller: &Person, name: &str) -> Result<()>;
    async fn test_model(&self, caller: &Person, name: &str) -> Result<ModelTested>;

    /// Newest first.
    async fn sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
        archived: Archived,
        limit: u32,
    ) -> Result<Vec<SessionView>>;
    async fn follow_sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
    ) -> Result<SessionsFrames>;
    async fn create_session(
        &self,
        caller: &Person,
        key: &CommandId,
        body: CreateSession,
    ) -> Result<SessionView>;
    async fn fork_session(
        &self,
        caller: &Person,
        key: &CommandId,
        id: SessionId,
        body: ForkSession,
    ) -> Result<SessionView>;
    async fn session(&self, caller: &Person, id: SessionId) -> Result<SessionView>;
    async fn session_tree(&self, caller: &Person, id: SessionId) -> Result<SessionTree>;
    /// `session_unknown` or `not_allowed` without it. Asked again and again by what is open: wakes no session that sleeps.
    async fn require_right(&self, caller: &Person, id: SessionId, right: Right) -> Result<()>;
    /// `url` of the ports is not known there: the route fills it in.
    async fn session_environment(&self, caller: &Person, id: SessionId) -> Result<SessionEnvironment>;
    async fn session_queue(&self, caller: &Person, id: SessionId) -> Result<Vec<QueuedPromptView>>;
    async fn session_asks(&self, caller: &Person, id: SessionId) -> Result<Vec<AskView>>;
    async fn search(
        &self,
        caller: &Person,
        query: &str,
        repository: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<SearchHit>>;
    async fn statistics(&self, caller: &Person, range: StatisticsRange) -> Result<StatisticsView>;
    async fn session_outbox(&self, caller: &Person, id: SessionId) -> Result<OutboxView>;
    /// A connection to a port inside, and the right that it rests on; `port_closed` when nothing listens there.
    async fn preview(&self, caller: &Person, id: SessionId, port: u16, wanted: PreviewUse)
    -> Result<Preview>;
    async fn delete_session(&self, caller: &Person, id: SessionId) -> Result<()>;
    async fn submit_command(&self, caller: &Person, id: SessionId, body: SubmitCommand) -> Result<Receipt>;
    async fn session_trace(
        &self,
        caller: &Person,
        id: SessionId,
        turn: Option<u64>,
    ) -> Result<Vec<TurnTrace>>;
    async fn session_context(&self, caller: &Person, id: SessionId) -> Result<ContextView>;
    async fn entries(&self, caller: &Person, id: SessionId, after: u64, limit: usize) -> Result<EntryPage>;
    async fn entries_before(
        &self,
        caller: &Person,
        id: SessionId,
        before: u64,
        limit: usize,
    ) -> Result<EntryPage>;
    /// While the stream lives, its caller is here, with such a client.
    async fn subscribe(
        &self,
        caller: &Person,
        id: SessionId,
        after: u64,
        window: Option<u32>,
        client: ClientKind,
    ) -> Result<Frames>;
    async fn session_people(&self, caller: &Person, id: SessionId) -> Result<SessionPeople>;
    /// The secret is answered this once.
    async fn create_share_link(
        &self,
        caller: &Person,
        id: SessionId,
        body: CreateShareLink,
    ) -> Result<ShareLinkCreated>;
    async fn share_links(&self, caller: &Person, id: SessionId) -> Result<Vec<ShareLinkView>>;
    async fn revoke_share_link(&self, caller: &Person, id: SessionId, link: ShareLinkId) -> Result<()>;
    async fn use_share_link(&self, caller: &Person, body: UseShareLink) -> Result<SessionView>;
    async fn presence(&self, caller: &Person, id: SessionId) -> Result<Presence>;
    async fn say_typing(
        &self,
        caller: &Person,
        id: SessionId,
        client: ClientKind,
        is_typing: bool,
    ) -> Result<()>;
    async fn mark_read(&self, caller: &Person, id: SessionId, seq: u64) -> Result<ReadPosition>;
    async fn read_positions(&self, caller: &Person) -> Result<Vec<ReadPosition>>;
    /// Of a session, or for a new one.
    async fn draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
    ) -> Result<Draft>;
    async fn write_draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
        body: WriteDraft,
    ) -> Result<DraftAnswer>;
    async fn session_diff(&self, caller: &Person, id: SessionId) -> Result<Vec<FileDiffView>>;
    /// Newest first, those before the step that is named.
    async fn session_steps(
        &self,
        caller: &Person,
        id: SessionId,
        before: Option<u64>,
    ) -> Result<SessionSteps>;
    async fn tree_diff(&self, caller: &Person, id: SessionId, of: TreesOf) -> Result<Vec<FileDiffView>>;
    async fn session_blame(&self, caller: &Person, id: SessionId, path: &str) -> Result<Blame>;
    async fn attach(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        name: &str,
        declared: Option<u64>,
        upload: Upload,
    ) -> Result<Attachment>;
    async fn export_session(&self, caller: &Person, id: SessionId) -> Result<ExportedSession>;
    async fn import_session(
        &self,
        caller: &Person,
        key: &CommandId,
        repository: Option<&RepositoryName>,
        upload: Upload,
    ) -> Result<SessionView>;
    async fn blob(&self, caller: &Person, id: SessionId, digest: &BlobDigest) -> Result<BlobFile>;
    async fn artifacts(&self, caller: &Person, id: SessionId) -> Result<Vec<ArtifactView>>;
    async fn exec(&self, caller: &Person, id: SessionId, body: Exec) -> Result<ExecResult>;

    async fn changes(&self, caller: &Person, repository: Option<&RepositoryName>) -> Result<Vec<ChangeView>>;
    async fn change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView>;
    async fn change_diff(&self, caller: &Person, id: ChangeId) -> Result<Vec<FileDiffView>>;
    async fn approve_change(&self, caller: &Person, id: ChangeId, body: ApproveChange) -> Result<ChangeView>;
    async fn merge_change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView>;

    async fn git_advertise(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        protocol: Option<&str>,
    ) -> Result<Vec<u8>>;
    /// One exchange; returns when `output` is complete.
    async fn git_serve(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        protocol: Option<&str>,
        input: Box<dyn AsyncRead + Send + Unpin>,
        output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()>;
}
