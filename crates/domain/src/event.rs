//! The closed set of entries of a session's log. Everything a client shows, and everything a restart needs, is here.

use crate::children::{ChildEnd, ChildRequest, ParentPoint};
use crate::message::{Content, RawItems, StopReason};
use crate::money::{Budget, Usage};
use crate::{
    Answer, AskId, Asked, Attachment, Author, BlockId, BranchName, ChangeId, CommitHash, Delivery,
    DenyReason, Effort, ImageId, PersonId, Problem, PromptId, RepositoryId, RepositoryName, RequestId,
    SessionId, SessionRole, ShareLinkId, SnapshotId, TeamAccess, TurnId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One entry: sequence numbers of a session begin at 1 and have no gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    pub seq: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    pub epoch: u64,
    pub event: Event,
}

/// Whether the append is on disk before anything follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced before `commit` returns.
    Synced,
    /// Written, synced by the next synced commit: coalesced text that can be lost and is then withdrawn.
    Buffered,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Event {
    SessionCreated {
        repository: RepositoryId,
        repository_name: RepositoryName,
        title: String,
        author: Author,
        /// Branch that the session's change will be pushed to.
        branch: BranchName,
        base_branch: BranchName,
        /// `None`: the installation's default at each turn.
        model: Option<String>,
        /// `None`: what the installation set for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effort: Option<Effort>,
        budget: Budget,
        /// What its sandbox starts from; `None`: the repository had no image yet, the first one is waited for.
        image: Option<ImageId>,
        /// Where its conversation and files come from, when it is not from the beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forked_from: Option<ForkPoint>,
        /// The file it was made from, when its conversation was had in another session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        imported_from: Option<ImportPoint>,
        /// The session whose agent began it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<ParentPoint>,
        /// What everyone of the installation may do in it.
        #[serde(default, skip_serializing_if = "TeamAccess::is_default")]
        team_access: TeamAccess,
    },
    TitleChanged {
        title: String,
        /// `None`: the server itself, or a version that did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<PersonId>,
    },
    /// From the next turn on, this model answers, with this effort; `None` as in `SessionCreated`.
    ModelChosen {
        model: Option<String>,
        effort: Option<Effort>,
        by: PersonId,
        name: String,
    },
    PromptAccepted {
        prompt: PromptId,
        author: Author,
        text: String,
        delivery: Delivery,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
    },
    PromptEdited {
        prompt: PromptId,
        text: String,
        by: PersonId,
    },
    PromptWithdrawn {
        prompt: PromptId,
        by: PersonId,
    },
    DeliverySet {
        prompt: PromptId,
        delivery: Delivery,
        by: PersonId,
    },
    /// It waits right before another prompt now, or at the end.
    PromptMoved {
        prompt: PromptId,
        before: Option<PromptId>,
        by: PersonId,
    },
    /// All prompts that wait now are held back; later ones are not.
    QueueHeld {
        by: PersonId,
        name: String,
    },
    /// Nothing is held back any more.
    QueueReleased {
        by: PersonId,
        name: String,
    },
    /// Somebody takes part, with another role, or no more (`None`). Who made the session is its owner, and who prompts
    /// takes part, without being named here.
    ParticipantChanged {
        person: PersonId,
        name: String,
        role: Option<SessionRole>,
        by: PersonId,
        by_name: String,
        /// They came by it, and stay while it lives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<ShareLinkId>,
    },
    TeamAccessChanged {
        access: TeamAccess,
        by: PersonId,
        name: String,
    },
    /// Who took part only by this link does so no more.
    ShareLinkRevoked {
        link: ShareLinkId,
        by: PersonId,
        name: String,
    },
    TurnStarted {
        turn: TurnId,
        prompts: Vec<PromptId>,
    },
    /// A waiting prompt with `insert` delivery joined the running turn.
    PromptInserted {
        turn: TurnId,
        prompt: PromptId,
    },
    ModelRequested {
        turn: TurnId,
        model: String,
        attempt: u32,
    },
    /// The provider asked to wait, or could not be reached; the turn goes on by itself.
    ModelRetry {
        turn: TurnId,
        attempt: u32,
        wait_ms: u64,
        problem: Problem,
    },
    /// One model gave out, by its provider's word or silence, and the next one that the installation named goes on with the same
    /// turn: it is asked what the other did not answer.
    ModelFallback {
        turn: TurnId,
        from: String,
        to: String,
        problem: Problem,
    },
    /// A model did a small job for the session beside its turns.
    SmallJobDone {
        job: SmallJob,
        model: String,
        usage: Usage,
    },
    BlockOpened {
        turn: TurnId,
        block: BlockId,
        kind: BlockKind,
    },
    /// Coalesced text; `offset` in bytes of UTF-8 from the block's start.
    BlockText {
        block: BlockId,
        offset: u64,
        text: String,
    },
    /// What the block showed is withdrawn: the stream broke, or the server restarted.
    BlockReset {
        block: BlockId,
    },
    /// A complete answer. `blocks[i]` is the block that streamed `content[i]`.
    AssistantMessage {
        turn: TurnId,
        content: Vec<Content>,
        blocks: Vec<BlockId>,
        raw: Option<RawItems>,
        stop_reason: StopReason,
        usage: Usage,
        model: String,
    },
    /// The intent to run a tool: durable before it runs.
    ToolStarted {
        turn: TurnId,
        call: String,
        name: String,
        title: String,
    },
    /// `text` is what the model is given.
    ToolFinished {
        turn: TurnId,
        call: String,
        outcome: ToolOutcome,
        text: String,
        display: Option<ToolDisplay>,
        duration_ms: u64,
    },
    /// The model was told something that no person said, for example that the sync changed files it had read.
    NoticeGiven {
        turn: TurnId,
        text: String,
    },
    /// From here on the model sees a note in place of what these tool calls gave it. The entries of the calls stay.
    ContextPruned {
        turn: TurnId,
        calls: Vec<String>,
        /// How many tokens that saves in each request, estimated.
        tokens: u64,
    },
    /// A person asked for a summary: the turn has nothing else to do.
    CompactionRequested {
        turn: TurnId,
        author: Author,
    },
    /// The model is asked for a summary of the conversation. Without a `ContextCompacted` in its turn it came to nothing.
    CompactionStarted {
        turn: TurnId,
        reason: CompactionReason,
        /// What the next request would have had, as far as it is known.
        tokens: u64,
    },
    /// From here on the model sees a summary in place of the conversation before it. The entries themselves stay.
    ContextCompacted {
        turn: TurnId,
        reason: CompactionReason,
        summary: String,
        /// So many of the newest messages follow the summary as they are.
        kept: u64,
        /// So many of the newest things that people said before those are repeated word for word.
        carried: u64,
        /// Tokens of the next request before and after, estimated where the provider has not said them.
        tokens_before: u64,
        tokens_after: u64,
        /// Of writing the summary.
        usage: Usage,
        model: String,
    },
    /// The agent gave people a file: a report, a picture, an archive.
    ArtifactPublished {
        turn: TurnId,
        call: String,
        file: Attachment,
        title: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    TodoChanged {
        turn: TurnId,
        items: Vec<TodoItem>,
    },
    SandboxChanged {
        state: SandboxPhase,
        image: Option<ImageId>,
        commit: Option<CommitHash>,
        problem: Option<Problem>,
    },
    /// The newest commits of the base branch arrived in the sandbox. `changed` has at most 200 paths; `changed_count` all.
    Synced {
        from: CommitHash,
        to: CommitHash,
        changed: Vec<String>,
        changed_count: u64,
        /// Steps of the recipe that ran again because the sync changed their inputs.
        rerun_steps: Vec<String>,
    },
    /// A copy of the session's files exists on the disk, synced.
    SnapshotTaken {
        snapshot: SnapshotId,
        reason: SnapshotReason,
        /// The last turn whose work it holds.
        turn: Option<TurnId>,
        /// How long processes stood still.
        freeze_us: u64,
        duration_ms: u64,
    },
    /// The working tree was committed aside, in a hidden place of the session's clone, so that it can be said whose prompts made
    /// which line.
    FilesMarked {
        commit: CommitHash,
        of: MarkedFor,
    },
    /// The working tree was committed aside, with its untracked files and without its ignored ones. Steps of a session are
    /// counted from 0, the tree that the first one found.
    StepTree {
        step: u64,
        /// The step that it is compared with: the files were as it left them. `None`: there is none, files begin here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        commit: CommitHash,
        of: StepOf,
        /// Files that differ from `from`, and lines of text, as git in the sandbox counts them.
        files: u64,
        additions: u64,
        deletions: u64,
    },
    /// A person wants the files as a step left them.
    RevertRequested {
        to: u64,
        by: PersonId,
        name: String,
    },
    /// What is there is kept as the step `from`; until `Reverted` the files may be anything between the two.
    RevertBegun {
        to: u64,
        from: u64,
    },
    /// The files are as the step `to` left them. Ignored files, the branch and what is staged were left alone.
    Reverted {
        to: u64,
        from: u64,
        by: PersonId,
        name: String,
        /// Of the step `to`.
        commit: CommitHash,
        of: StepOf,
        /// At most 200 paths; `changed_count` says how many there are.
        changed: Vec<String>,
        changed_count: u64,
        /// The step that going forward leads to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forward: Option<u64>,
        /// What later marks stand on, and whose it is where it is a new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<CommitHash>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark_of: Option<MarkedFor>,
    },
    /// They could not be put back. What was there is kept where `RevertBegun` says so.
    RevertFailed {
        to: u64,
        problem: Problem,
    },
    /// Somebody who had not prompted here is about to run a command in the sandbox, or has brought commits by an import: from
    /// here on its files may hold their work. Once for each person, before their first command runs.
    CommandsBegun {
        by: Author,
    },
    /// Made room for others; nothing can be forked from it any more.
    SnapshotDropped {
        snapshot: SnapshotId,
    },
    ServiceChanged {
        name: String,
        state: ServicePhase,
        problem: Option<Problem>,
    },
    /// By the session's sandbox, by the warm one that it was before, or by a reader.
    EgressDenied {
        host: String,
        port: u16,
        /// `None` in logs of before there were reasons.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<DenyReason>,
    },
    StartTimeline {
        turn: TurnId,
        marks: Vec<TimelineMark>,
        /// What its sandbox was made from; `None`: the turn needed none, or it did not come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sandbox: Option<SandboxStart>,
        /// The request that brought the prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
    },
    ChangeOpened {
        change: ChangeId,
        number: u64,
        title: String,
        branch: BranchName,
        commit: CommitHash,
        author: Author,
    },
    ChangeUpdated {
        change: ChangeId,
        number: u64,
        commit: CommitHash,
    },
    ChangeApproved {
        change: ChangeId,
        number: u64,
        by: PersonId,
        name: String,
    },
    ChangeMerged {
        change: ChangeId,
        number: u64,
        commit: CommitHash,
        by: PersonId,
        name: String,
    },
    /// The turn waits for people: the call is not run before they answered, or time is up.
    AskOpened {
        turn: TurnId,
        ask: AskId,
        call: String,
        of: Asked,
        /// From then on nobody is waited for. Milliseconds since 1970-01-01 UTC.
        expires_at_ms: i64,
    },
    /// The first answer, which is the only one.
    AskAnswered {
        turn: TurnId,
        ask: AskId,
        answer: Answer,
        by: PersonId,
        name: String,
    },
    /// Nobody answered in time.
    AskExpired {
        turn: TurnId,
        ask: AskId,
    },
    StopRequested {
        turn: TurnId,
        by: PersonId,
        name: String,
    },
    TurnFinished {
        turn: TurnId,
        outcome: TurnOutcome,
        usage: Usage,
        duration_ms: u64,
    },
    /// The server restarted in the middle of a turn. Names what was cut off; the turn then goes on, or ends.
    TurnInterrupted {
        turn: TurnId,
        open_calls: Vec<String>,
    },
    /// The intent to begin another session: durable before that one is made, and enough to make it after a restart.
    ChildSpawned {
        turn: TurnId,
        call: String,
        child: SessionId,
        request: ChildRequest,
    },
    /// A child was sent a message, and is at work again.
    ChildMessaged {
        turn: TurnId,
        call: String,
        child: SessionId,
        /// Its last turn of whose end was told before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<TurnId>,
    },
    /// A child came to rest.
    ChildEnded {
        child: SessionId,
        end: ChildEnd,
        /// It is a prompt here, which comes with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        notifies: bool,
    },
    /// Somebody has all children stopped that are at work, and theirs.
    ChildrenStopRequested {
        by: PersonId,
        name: String,
    },
    /// The children that are at work go on, whatever becomes of this session.
    ChildrenReleased {
        by: PersonId,
        name: String,
    },
    /// Hidden from lists, and its sandbox is let go; everything stays readable.
    SessionArchived {
        /// `None`: the installation itself, by its settings for retention.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<PersonId>,
        name: String,
    },
    /// By somebody who wanted it back, or went on with it.
    SessionUnarchived {
        by: PersonId,
        name: String,
    },
    /// One of those who are told of this session could not be reached for as long as it is tried: nothing more is
    /// done by itself until something new happens here, or somebody has it tried again.
    DeadLetterAdded {
        consumer: Consumer,
        problem: Problem,
    },
    /// Somebody had it tried again.
    DeadLetterRetried {
        consumer: Consumer,
        by: PersonId,
        name: String,
    },
    /// It arrived after all.
    DeadLetterSettled {
        consumer: Consumer,
    },
}

/// Why a conversation was summarised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompactionReason {
    /// The next request would have left no room for an answer.
    WindowFull,
    /// The provider said that the request was too long.
    Overflow,
    /// A person asked for it.
    Asked,
}

/// Who is told of what happens in a session, by its outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consumer {
    /// The installation's lists, search and statistics.
    Directory,
    /// The collector of traces.
    Collector,
    /// The forge, whose word on the session's change is brought into its log.
    Forge,
    /// The sessions above and below it: children that are still to be made or stopped, and the parent of one that ended.
    Family,
}

impl Consumer {
    pub const ALL: [Self; 4] = [Self::Directory, Self::Collector, Self::Forge, Self::Family];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Collector => "collector",
            Self::Forge => "forge",
            Self::Family => "family",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmallJob {
    /// A title for the session, from its first prompt.
    Title,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    Text,
    Thinking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    Succeeded,
    Failed,
    Cancelled,
    /// The call was cut off and nobody knows how far it came. It is never run again by itself.
    Unknown,
}

/// What people are shown of a tool call, beside the text for the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ToolDisplay {
    /// A unified diff of one file.
    Diff {
        path: String,
        diff: String,
    },
    Command {
        command: String,
        exit_code: Option<i32>,
        output: String,
        is_truncated: bool,
    },
    Change {
        number: u64,
        title: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TodoItem {
    pub text: String,
    pub status: TodoStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TodoStatus {
    Pending,
    InProgress,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxPhase {
    /// Waits for the repository's first image.
    WaitingForImage,
    Claiming,
    /// Its files come from a snapshot.
    Restoring,
    Syncing,
    Ready,
    /// Ended in order; files are kept.
    Stopped,
    /// Ended unexpectedly; files up to the last write are kept.
    Lost,
    Failed,
}

/// The turn of another session after which this one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkPoint {
    pub session: SessionId,
    /// The last turn that is taken over.
    pub turn: TurnId,
    /// The files as they were then; `None`: no turn up to it changed any.
    pub snapshot: Option<SnapshotId>,
}

/// The session, of this installation or another, whose exported file this one was made from. A fork keeps its parent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportPoint {
    /// Its id where it was exported.
    pub session: SessionId,
    /// Milliseconds since 1970-01-01 UTC.
    pub exported_at_ms: i64,
    /// The name of whoever exported it.
    pub exported_by: String,
    /// The last turn that came along; `None`: it had none.
    pub turn: Option<TurnId>,
    /// The commits that came along; `None`: there were none, its files begin from the base branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<ImportedWork>,
}

/// Commits that an import brought to the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedWork {
    /// Where the session's files begin.
    pub head: CommitHash,
    /// What the work stands on; `None`: on nothing that the repository had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<CommitHash>,
}

/// Whose work the files hold that was not there at the mark before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MarkedFor {
    /// The turn's, for all prompts that it had been given by then.
    Turn { turn: TurnId, prompts: Vec<PromptId> },
    /// A person's own command.
    Command { person: PersonId, name: String },
}

/// Whose step it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StepOf {
    /// Tool calls of one answer, at most 256 of them named.
    Calls { turn: TurnId, calls: Vec<String> },
    /// Nobody's in particular: how the files were before the first step, and what commands of people, terminals and
    /// processes changed since the step before.
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotReason {
    /// A turn that changed files has ended.
    Turn,
    /// The sandbox is about to be stopped, for whatever reason.
    Exit,
    /// The sandbox ran out of memory and ended; its files are as they were then.
    OutOfMemory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServicePhase {
    Starting,
    /// It runs and its health check, if it has one, passed.
    Ready,
    /// It ended, or did not become healthy in time.
    Failed,
}

/// A step of a turn's start, in the order it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineMark {
    pub stage: StartStage,
    /// Microseconds since the prompt arrived.
    pub at_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartStage {
    Queued,
    Committed,
    ModelCalled,
    FirstToken,
    Claimed,
    Restored,
    Synced,
}

impl StartStage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Committed => "committed",
            Self::ModelCalled => "model_called",
            Self::FirstToken => "first_token",
            Self::Claimed => "claimed",
            Self::Restored => "restored",
            Self::Synced => "synced",
        }
    }
}

/// What a turn's sandbox was made from, the quickest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxStart {
    /// It was there before the prompt.
    Running,
    /// A synced sandbox of the repository's pool.
    Warm,
    /// A started sandbox that had no image yet.
    Blank,
    Cold,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TurnOutcome {
    Completed,
    Stopped,
    Failed { problem: Problem },
    BudgetReached { problem: Problem },
}

/// What model and people are told of a tool call that was cut off.
pub const OUTCOME_UNKNOWN: &str = "Interrupted, outcome unknown: the call was cut off and may have run in part. \
    Check what it left behind before repeating it.";

impl Event {
    /// The turn whose work this is, where it is a turn's.
    pub fn turn(&self) -> Option<TurnId> {
        match self {
            Self::TurnStarted { turn, .. }
            | Self::PromptInserted { turn, .. }
            | Self::ModelRequested { turn, .. }
            | Self::ModelRetry { turn, .. }
            | Self::ModelFallback { turn, .. }
            | Self::BlockOpened { turn, .. }
            | Self::AssistantMessage { turn, .. }
            | Self::ToolStarted { turn, .. }
            | Self::ToolFinished { turn, .. }
            | Self::NoticeGiven { turn, .. }
            | Self::ContextPruned { turn, .. }
            | Self::CompactionRequested { turn, .. }
            | Self::CompactionStarted { turn, .. }
            | Self::ContextCompacted { turn, .. }
            | Self::ArtifactPublished { turn, .. }
            | Self::TodoChanged { turn, .. }
            | Self::StartTimeline { turn, .. }
            | Self::AskOpened { turn, .. }
            | Self::AskAnswered { turn, .. }
            | Self::AskExpired { turn, .. }
            | Self::StopRequested { turn, .. }
            | Self::ChildSpawned { turn, .. }
            | Self::ChildMessaged { turn, .. }
            | Self::TurnFinished { turn, .. }
            | Self::TurnInterrupted { turn, .. } => Some(*turn),
            _ => None,
        }
    }

    /// What a call of a model in it cost, and of which.
    pub fn usage(&self) -> Option<(Usage, &str)> {
        match self {
            Self::AssistantMessage { usage, model, .. } | Self::ContextCompacted { usage, model, .. } => {
                Some((*usage, model))
            }
            _ => None,
        }
    }

    /// Whether people who were away would want to look: somebody asked, was answered, or moved the change on,
    /// or the agent waits for them.
    pub fn is_news(&self) -> bool {
        matches!(
            self,
            Self::SessionCreated { .. }
                | Self::PromptAccepted { .. }
                | Self::TurnFinished { .. }
                | Self::AskOpened { .. }
                | Self::ChangeOpened { .. }
                | Self::ChangeUpdated { .. }
                | Self::ChangeApproved { .. }
                | Self::ChangeMerged { .. }
        )
    }
}
