//! What answers show. Times are milliseconds since 1970-01-01 UTC.

use greenroom_domain::event::{ForkPoint, ImportPoint, ServicePhase, SnapshotReason};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Attachment, BranchName, ChangeId, CommitHash, Effort, ErrorCode, ImageId, LoginName, Person, PersonId,
    Problem, RepositoryId, RepositoryName, Right, SessionId, SnapshotId, TeamAccess, TokenId, TurnId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is an error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorView,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds after which the same can be asked again, where that is known; also the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// Also in the server's log.
    pub request_id: String,
}

impl ErrorView {
    pub fn of(problem: Problem, request_id: String) -> Self {
        let Problem { code, message, hint, detail, retry_after_s } = problem;
        Self { code, message, hint, detail, retry_after_s, request_id }
    }

    pub fn into_problem(self) -> Problem {
        let Self { code, message, hint, detail, retry_after_s, .. } = self;
        Problem { code, message, hint, detail, retry_after_s }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    pub person: Person,
}

/// A one-time link: shown once, to be handed to the person.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PersonAdded {
    pub person: Person,
    pub sign_in_path: String,
    pub expires_at_ms: i64,
}

/// A token: `secret` is shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    pub id: TokenId,
    pub name: String,
    pub login: LoginName,
    pub secret: String,
    /// `None`: it does not end.
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RepositoryView {
    pub id: RepositoryId,
    pub name: RepositoryName,
    /// Where it was mirrored from, without credentials.
    pub source: String,
    pub mirror: MirrorView,
    pub default_branch: BranchName,
    pub required_approvals: u32,
    /// Path of git's smart HTTP address on this server, for example `/git/sample.git`.
    pub clone_path: String,
    pub head: Option<CommitHash>,
    /// The newest good image.
    pub image: Option<ImageView>,
    /// The newest build, when it is not the image: running or failed.
    pub build: Option<ImageView>,
    pub added_at_ms: i64,
}

/// How a repository follows its source.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// When its branches were last fetched.
    pub refreshed_at_ms: Option<i64>,
    /// Why the last look failed, or which branches went apart.
    pub problem: Option<Problem>,
    /// When the push hook's secret was made; `None`: there is none.
    pub hook_made_at_ms: Option<i64>,
}

/// A push hook's address and secret. Shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct HookCreated {
    pub url: String,
    pub secret: String,
}

impl std::fmt::Debug for HookCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookCreated").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    Building,
    Ready,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    pub id: ImageId,
    pub repository: RepositoryId,
    pub state: ImageState,
    pub commit: Option<CommitHash>,
    pub steps: Vec<StepView>,
    pub problem: Option<Problem>,
    pub started_at_ms: i64,
    pub finished_at_ms: Option<i64>,
}

/// An image in a repository's list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedImage {
    #[serde(flatten)]
    pub image: ImageView,
    /// All its layers, shared ones included; `None`: it is no good image.
    pub size_bytes: Option<u64>,
    /// `None`: it is being built.
    pub kept: Option<ImageKept>,
}

/// Why an image is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum ImageKept {
    /// New sessions start from it.
    Newest,
    /// This many good ones are kept.
    AmongNewest { of: u64 },
    /// Files of a session, or a warm sandbox, may stand on it. It goes after a build that finds it unused.
    InUse,
    /// A failed build, whose log is kept until then.
    ForItsLog { until_ms: i64 },
}

/// An image as it lies in `<data>/exchange`, for another machine.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportedImage {
    pub image: ImageId,
    /// On the server.
    pub directory: String,
    /// One for each layer.
    pub blobs: u64,
    pub size_bytes: u64,
}

/// What a good image holds.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageContents {
    pub image: ImageId,
    /// What its lowest layer lies on; `None`: the programs of the server's machine.
    pub base: Option<String>,
    /// All layers together.
    pub size_bytes: u64,
    /// Lowest first.
    pub layers: Vec<LayerView>,
    pub checks: Vec<CheckView>,
    pub services: Vec<DeclaredService>,
    pub ports: Vec<DeclaredPort>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerView {
    pub step: String,
    pub size_bytes: u64,
    /// Good images of the repository that stand on it, this one included.
    pub images: u64,
}

/// What a check of the recipe said when the image was built.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    pub name: String,
    pub is_optional: bool,
    pub has_passed: bool,
    /// For example `exit code 1`.
    pub ended: String,
    pub duration_ms: u64,
}

/// A service as the recipe declares it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeclaredService {
    pub name: String,
    pub run: String,
    /// In words, for example `port 5432 listens`; `None`: it counts as up once it was started.
    pub ready_when: Option<String>,
    pub within_seconds: Option<u32>,
    pub is_restarted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeclaredPort {
    pub port: u16,
    pub name: String,
    /// Opens as a page.
    pub is_http: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub name: String,
    /// An unchanged step's layer was used again.
    pub is_reused: bool,
    pub duration_ms: u64,
}

/// A line of a running or finished build, as the stream of `GET /images/{id}/log` gives it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum BuildFrame {
    Output { text: String },
    Finished { image: ImageView },
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    pub name: String,
    pub provider: crate::ModelProvider,
    pub model: String,
    pub base_url: Option<String>,
    pub has_key: bool,
    pub is_default: bool,
    /// How hard it thinks where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// How hard it can be asked to think; empty: it cannot be asked.
    #[serde(default)]
    #[schema(required)]
    pub efforts: Vec<Effort>,
    /// Tokens that a request may have.
    #[serde(default)]
    #[schema(required)]
    pub context_window: u64,
    /// Whether it takes pictures.
    #[serde(default)]
    #[schema(required)]
    pub sees_images: bool,
    /// Whether it calls tools: without, no session can use it.
    #[serde(default)]
    #[schema(required)]
    pub uses_tools: bool,
    /// Whether its price is known: without one it counts as free.
    #[serde(default)]
    #[schema(required)]
    pub has_price: bool,
    /// Its place, from 1, among the models that go on with a turn when another one gives out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<usize>,
    /// Whether it does small jobs beside the turns.
    #[serde(default)]
    #[schema(required)]
    pub is_small: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelTested {
    pub model: String,
    pub first_token_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Idle,
    Running,
    /// The last turn failed or reached a limit.
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    pub id: SessionId,
    pub repository: RepositoryName,
    pub title: String,
    pub status: SessionStatus,
    pub created_by: Option<PersonId>,
    pub created_by_name: String,
    pub branch: BranchName,
    /// A name of the installation's; `None`: its default.
    pub model: Option<String>,
    /// Lists do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    pub queued_prompts: u32,
    /// What the agent asked people and waits for.
    #[serde(default)]
    pub open_asks: u32,
    pub usage: Usage,
    pub change: Option<ChangeRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkPoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<ImportPoint>,
    pub head_seq: u64,
    /// The last entry that is news: who has read less has something to look at.
    pub news_seq: u64,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    /// What everyone of the installation may do in it.
    #[serde(default)]
    pub team_access: TeamAccess,
    /// What the reader may do in it. Lists do without: whoever opens the session is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub my_rights: Vec<Right>,
    /// Hidden from lists that do not ask for it.
    pub is_archived: bool,
    /// The session whose agent began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
}

/// Sessions that agents began, with the one that a person began: those that the reader may see.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionTree {
    pub root: SessionId,
    /// Parents before their children, each level oldest first; at most 500.
    pub sessions: Vec<SessionView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeRef {
    pub id: ChangeId,
    pub number: u64,
    pub state: ChangeStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStatus {
    Open,
    Merged,
    Closed,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    pub id: ChangeId,
    pub repository: RepositoryName,
    pub number: u64,
    pub session: Option<SessionId>,
    pub title: String,
    pub body: String,
    pub branch: BranchName,
    pub base: BranchName,
    pub head: CommitHash,
    pub author_id: PersonId,
    pub author_name: String,
    pub state: ChangeStatus,
    pub approvals: Vec<ApprovalView>,
    pub required_approvals: u32,
    pub is_unreviewed: bool,
    pub merge_commit: Option<CommitHash>,
    pub commits: Vec<CommitView>,
    /// What the asking person may do now; the reason where not.
    pub may_approve: Permission,
    pub may_merge: Permission,
    pub opened_at_ms: i64,
    pub updated_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Permission {
    pub is_allowed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    pub by: PersonId,
    pub name: String,
    /// False once the branch moved on.
    pub is_current: bool,
    pub at_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CommitView {
    pub hash: CommitHash,
    pub author_name: String,
    pub author_email: String,
    pub subject: String,
    pub at_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileDiffView {
    pub path: String,
    pub old_path: Option<String>,
    pub additions: u64,
    pub deletions: u64,
    pub is_binary: bool,
    /// Unified diff of the file.
    pub patch: String,
    pub is_truncated: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    pub output: String,
    /// `None` when it was ended by a signal or a limit; then `ended_by` says which.
    pub exit_code: Option<i32>,
    pub ended_by: Option<String>,
    pub is_truncated: bool,
    pub duration_ms: u64,
}

/// A page of a session's log, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntryPage {
    pub entries: Vec<greenroom_domain::Entry>,
    pub head_seq: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub version: String,
    /// As `/readyz` says it: false while the server drains, or cannot work.
    pub is_ready: bool,
}

/// Whether the server can take work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    pub is_ready: bool,
    pub checks: Vec<ReadinessCheck>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadinessCheck {
    /// `accepting`, `directory`, `disk` or `sandboxes`.
    pub name: String,
    pub is_ok: bool,
    /// Why not, in one sentence that names nothing of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A file that the agent gave people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// The entry of the session's log that says so.
    pub seq: u64,
    pub at_ms: i64,
    pub turn: TurnId,
    pub file: Attachment,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What surrounds a session's conversation: its sandbox, services, ports and snapshots.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionEnvironment {
    pub is_running: bool,
    pub image: Option<ImageId>,
    pub services: Vec<ServiceView>,
    pub ports: Vec<PortView>,
    /// Newest first.
    pub snapshots: Vec<SnapshotView>,
    /// What the sandbox holds now; `None`: it does not run, or the machine does not count it.
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    pub name: String,
    pub state: ServicePhase,
    pub problem: Option<Problem>,
}

/// A port inside that people can open as a page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    pub port: u16,
    /// From the recipe; `None`: a process listens there and the recipe does not name it.
    pub name: Option<String>,
    pub is_listening: bool,
    /// Where to open it: an address on the session's own origin, which signs the caller in by itself.
    pub url: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotView {
    pub id: SnapshotId,
    pub reason: SnapshotReason,
    pub turn: Option<TurnId>,
    pub at_ms: i64,
}

/// A sandbox that is made ready for the caller's next session.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WarmView {
    pub state: WarmState,
    pub expires_at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarmState {
    Preparing,
    /// Started and synced.
    Ready,
    /// The repository has no image yet; its first build is on its way.
    WaitingForImage,
    /// All places are taken: the session starts without.
    Unavailable,
}

/// What the installation's sandboxes hold of the machine.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MachineResources {
    pub sandboxes: u64,
    pub most_sandboxes: u64,
    /// Started sandboxes without an image that stand ready now, and how many are to.
    pub blanks: u64,
    pub blanks_wanted: u64,
    pub pools: Vec<PoolView>,
    pub disk: DiskView,
}

/// The warm sandboxes of one repository.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    pub repository: RepositoryName,
    pub floor: u64,
    pub cap: u64,
    /// How many recent demand asks for, between floor and cap.
    pub wanted: u64,
    /// Synced to the head of the default branch: only these are offered.
    pub ready: u64,
    pub preparing: u64,
    /// Kept for people who are writing a prompt.
    pub reserved: u64,
    /// Sessions since the server started, a day at most, that found one, and all that asked.
    pub hits: u64,
    pub starts: u64,
    /// What its sandboxes hold; `None`: the machine does not count it.
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DiskView {
    /// Of the file system that sandboxes write to.
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub layers_bytes: u64,
    /// What image layers may take: beyond it old images are removed.
    pub layers_limit_bytes: u64,
    /// What sandboxes of sessions and pools wrote; `None`: the file system keeps no count.
    pub workspaces_bytes: Option<u64>,
    /// Without what they share with workspaces.
    pub snapshots_bytes: Option<u64>,
    /// `None`: not bounded on this machine.
    pub limit_per_sandbox_bytes: Option<u64>,
    pub images: u64,
    pub snapshots: u64,
}

/// What this installation can do, and cannot.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    pub mode: String,
    pub capabilities: Vec<CapabilityView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CapabilityView {
    pub name: String,
    pub is_available: bool,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
