//! The session as a pure state machine. `decide` turns a command into events or a refusal; `step` applies one entry and
//! says what has to happen because of it. The actor in `session` persists between the two.

mod asks;
mod participants;
mod queue;
mod trees;

pub use trees::{Reverting, StepRef, Trees, Untold, step_unknown};

pub use asks::{ASKS_LIMIT, AskEnd, GRANTS_LIMIT, StandingAsk};

use crate::access::{Access, Right, SessionRole};
use crate::attachment::ATTACHMENTS_LIMIT;
use crate::children::{Child, ParentPoint};
use crate::command::{PROMPT_LIMIT, QUEUE_LIMIT, TITLE_LIMIT};
use crate::event::{Entry, Event, ForkPoint, ImportPoint, SandboxPhase, SnapshotReason, TurnOutcome};
use crate::money::{Budget, Usage};
use crate::{
    Attachment, Author, BlockId, BranchName, ChangeId, Command, CommitHash, Consumer, Delivery, Effort,
    ErrorCode, Grant, ImageId, ModelChoice, PersonId, Problem, PromptId, RepositoryId, RepositoryName, Role,
    SnapshotId, TurnId,
};
use serde::{Deserialize, Serialize};

/// Of what [`SessionState`] holds and how it is folded. A state that another version wrote is not read.
pub const STATE_VERSION: &str = env!("GREENROOM_STATE_VERSION");

/// Marks of which one is looked for: a fork, or files that were restored, may lack the last ones.
const MARKS_KEPT: usize = 32;

/// Ids for what a command makes, passed in so that deciding stays pure.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    pub prompt: PromptId,
    pub turn: TurnId,
}

/// Who gives a command, and the model that would answer it (`None`: none is configured).
#[derive(Clone, Debug)]
pub struct Asking {
    pub author: Author,
    /// In the installation.
    pub role: Role,
    pub model: Option<String>,
    /// The files that the command names, in its order.
    pub attachments: Vec<Attachment>,
    /// The person that the command names; `None`: it names none, or nobody of the installation.
    pub subject: Option<Subject>,
}

impl Asking {
    fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }
}

/// Somebody of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub person: PersonId,
    pub name: String,
    /// In the installation.
    pub role: Role,
}

/// What has to be done because an entry was appended. Effects are derived from state: a restart finds them again.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Let the agent answer these prompts.
    RunTurn { turn: TurnId },
    /// Cancel the running turn; it then reports `TurnFinished`.
    CancelTurn { turn: TurnId },
    /// The directory's line about this session is out of date.
    PublishSummary,
    /// Somebody may do less, or more, than before in this session.
    TellRights,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuedPrompt {
    pub prompt: PromptId,
    pub author: Author,
    pub text: String,
    pub delivery: Delivery,
    /// A stop held it back: it is not answered until it is released.
    pub is_held: bool,
    pub attachments: Vec<Attachment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningTurn {
    pub turn: TurnId,
    pub prompts: Vec<QueuedPrompt>,
    pub is_stopping: bool,
    pub open_blocks: Vec<BlockId>,
    pub open_calls: Vec<String>,
    /// Calls of the last assistant message that were not even started.
    pub pending_calls: Vec<String>,
    pub usage: Usage,
    pub tool_calls: u64,
    pub started_at_ms: i64,
    /// Who asked for a summary of the conversation, until it is there. Such a turn has no prompt.
    pub compaction: Option<Author>,
    /// What it was begun with.
    pub choice: ModelChoice,
    /// What it asked people, until the calls that it was for are over.
    pub asks: Vec<StandingAsk>,
    /// How long it waited for people, in answered and expired asks.
    pub waited_ms: u64,
}

/// What `SessionCreated` fixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub repository: RepositoryId,
    pub repository_name: RepositoryName,
    pub author: Author,
    pub branch: BranchName,
    pub base_branch: BranchName,
    pub budget: Budget,
    pub image: Option<ImageId>,
    pub forked_from: Option<ForkPoint>,
    pub imported_from: Option<ImportPoint>,
    pub parent: Option<ParentPoint>,
    pub created_at_ms: i64,
}

impl Origin {
    /// The last turn of the log that another session had: it counts for nothing here.
    pub fn inherited_until(&self) -> Option<TurnId> {
        inherited_until(self.forked_from.as_ref(), self.imported_from.as_ref())
    }
}

pub(crate) fn inherited_until(forked: Option<&ForkPoint>, imported: Option<&ImportPoint>) -> Option<TurnId> {
    // What a fork of an import took over holds what was imported.
    forked.map(|point| point.turn).or_else(|| imported.and_then(|point| point.turn))
}

/// What the session's files stand on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    pub image: Option<ImageId>,
    /// The commit the session's branch began at; `Some` once the first sync is complete.
    pub base_commit: Option<CommitHash>,
    /// Snapshots that exist, oldest first.
    pub snapshots: Vec<SnapshotRef>,
    /// Commits of the newest marks, oldest first; at most [`MARKS_KEPT`].
    pub marks: Vec<CommitHash>,
    /// Nothing of the files is left, and the session was told so: the next sandbox begins from the image again.
    pub is_gone: bool,
    /// When a sandbox last began to use the files; `None`: none did, or the last one was stopped in order.
    pub in_use_since_ms: Option<i64>,
}

impl Workspace {
    fn note_mark(&mut self, commit: &CommitHash) {
        if self.marks.len() >= MARKS_KEPT {
            self.marks.remove(0);
        }
        self.marks.push(commit.clone());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    pub snapshot: SnapshotId,
    /// The last turn whose work it holds.
    pub turn: Option<TurnId>,
    pub reason: SnapshotReason,
    pub at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedChange {
    pub change: ChangeId,
    pub number: u64,
    pub is_merged: bool,
}

/// Everything a command can depend on. Rebuilt from the log by `step`; its serialised form is for checkpoints only and
/// belongs to one [`STATE_VERSION`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    pub head_seq: u64,
    /// The last entry that is news.
    pub news_seq: u64,
    pub updated_at_ms: i64,
    pub origin: Option<Origin>,
    pub title: String,
    /// For the next turn.
    pub choice: ModelChoice,
    pub access: Access,
    pub queue: Vec<QueuedPrompt>,
    pub running: Option<RunningTurn>,
    /// Everyone whose prompt was answered, in order of first appearance.
    pub prompters: Vec<Author>,
    /// Those who ran commands in the sandbox without having prompted before, in order of first appearance.
    pub runners: Vec<Author>,
    /// Of whom only a file says that they prompted or ran commands: they have done neither here.
    pub imported_people: Vec<PersonId>,
    /// What comes up to the end of this turn is out of an imported file.
    imports_until: Option<TurnId>,
    pub usage: Usage,
    pub last_outcome: Option<TurnOutcome>,
    /// The last turn that ended.
    pub last_turn: Option<TurnId>,
    pub change: Option<OpenedChange>,
    pub workspace: Workspace,
    pub trees: Trees,
    pub turns: u64,
    pub is_archived: bool,
    /// What people allowed for as long as the session is, oldest first.
    pub grants: Vec<Grant>,
    /// Who could not be told of this session, at most one for each consumer.
    pub dead_letters: Vec<DeadLetter>,
    /// Sessions that its agent began, oldest first.
    pub children: Vec<Child>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub consumer: Consumer,
    pub problem: Problem,
    pub at_ms: i64,
}

impl SessionState {
    /// The events that carry out `command`, or why not. Changes nothing.
    pub fn decide(&self, command: &Command, asking: &Asking, ids: Ids) -> Result<Vec<Event>, Problem> {
        self.require_for(command, asking)?;
        match command {
            Command::Prompt { text, delivery, .. } => self.decide_prompt(text, *delivery, asking, ids),
            Command::EditPrompt { prompt, text } => self.decide_edit(*prompt, text, asking),
            Command::SetDelivery { prompt, delivery } => self.decide_delivery(*prompt, *delivery, asking),
            Command::MovePrompt { prompt, before } => self.decide_move(*prompt, *before, asking),
            Command::WithdrawPrompt { prompt } => self.decide_withdraw(*prompt, asking),
            Command::Stop { hold_queue } => self.decide_stop(*hold_queue, asking),
            Command::Answer { ask, answer } => self.decide_answer(*ask, answer, asking),
            Command::ReleaseQueue {} => Ok(self.decide_release(asking, ids)),
            Command::Compact {} => self.decide_compact(asking, ids),
            Command::Rename { title } => self.decide_rename(title, asking),
            Command::ChooseModel { model, effort } => {
                Ok(self.decide_model(model.as_deref(), *effort, asking))
            }
            Command::Archive {} => self.decide_archive(asking),
            Command::Unarchive {} => Ok(self.unarchived(asking)),
            Command::StopChildren {} => Ok(self.decide_stop_children(&asking.author)),
            Command::ReleaseChildren {} => Ok(self.decide_release_children(&asking.author)),
            Command::RetryDeadLetter { consumer } => Ok(self.decide_retry(*consumer, asking)),
            Command::SetParticipant { person, role } => self.decide_participant(*person, *role, asking),
            Command::RemoveParticipant { person } => self.decide_removal(*person, asking),
            Command::SetTeamAccess { access } => Ok(self.decide_team_access(*access, asking)),
            Command::Revert { to } => self.decide_revert(*to, asking),
            Command::Forward {} => self.decide_forward(asking),
        }
    }

    fn decide_prompt(
        &self,
        text: &str,
        delivery: Delivery,
        asking: &Asking,
        ids: Ids,
    ) -> Result<Vec<Event>, Problem> {
        check_prompt(text)?;
        if asking.attachments.len() > ATTACHMENTS_LIMIT {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                format!("A prompt takes at most {ATTACHMENTS_LIMIT} files."),
            )
            .hint("Put them into one archive, or send several prompts."));
        }
        if self.queue.len() >= QUEUE_LIMIT {
            return Err(Problem::new(
                ErrorCode::QueueFull,
                format!("{QUEUE_LIMIT} prompts are already waiting in this session."),
            )
            .hint("Wait for the running turn, or withdraw a prompt."));
        }
        let accepted = Event::PromptAccepted {
            prompt: ids.prompt,
            author: asking.author.clone(),
            text: text.to_owned(),
            delivery,
            attachments: asking.attachments.clone(),
        };
        if self.running.is_some() {
            return Ok(vec![accepted]);
        }
        // What waited before it goes first: between two turns there may be a moment in which none runs.
        let first =
            self.queue.iter().find(|queued| !queued.is_held).map_or(ids.prompt, |queued| queued.prompt);
        Ok([
            self.unarchived(asking),
            vec![accepted],
            start_turn(ids.turn, vec![first], asking.model.as_deref()),
        ]
        .concat())
    }

    fn decide_stop(&self, hold_queue: bool, asking: &Asking) -> Result<Vec<Event>, Problem> {
        let Some(running) = &self.running else {
            return Err(Problem::new(ErrorCode::NotRunning, "No turn is running in this session."));
        };
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        let is_anything_to_hold = self.queue.iter().any(|queued| !queued.is_held);
        let held = (hold_queue && is_anything_to_hold).then(|| Event::QueueHeld { by, name: name.clone() });
        let stop = (!running.is_stopping).then_some(Event::StopRequested { turn: running.turn, by, name });
        Ok(held.into_iter().chain(stop).collect())
    }

    /// A turn without a prompt: it can be stopped, has its budget, and prompts wait behind it.
    fn decide_compact(&self, asking: &Asking, ids: Ids) -> Result<Vec<Event>, Problem> {
        if self.running.is_some() {
            return Err(Problem::new(ErrorCode::SessionBusy, "A turn is running in this session.")
                .hint("It summarises by itself when the model's window is full; otherwise wait for its end, or stop it."));
        }
        if self.turns == 0 {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                "There is nothing to summarise: no prompt was answered yet.",
            ));
        }
        if asking.model.is_none() {
            return Err(Problem::new(
                ErrorCode::ModelNotConfigured,
                "No model is configured that could summarise.",
            )
            .hint("An admin adds one with `greenroom model add`."));
        }
        let (turn, author) = (ids.turn, asking.author.clone());
        let started = Event::TurnStarted { turn, prompts: vec![] };
        let requested = Event::CompactionRequested { turn, author };
        Ok([self.unarchived(asking), vec![started, requested]].concat())
    }

    fn decide_rename(&self, title: &str, asking: &Asking) -> Result<Vec<Event>, Problem> {
        let title = title.trim();
        check_title(title)?;
        if title == self.title {
            return Ok(vec![]);
        }
        let by = Some(asking.author.on_behalf_of);
        Ok(vec![Event::TitleChanged { title: title.to_owned(), by }])
    }

    /// Whether the installation knows them is asked before.
    fn decide_model(&self, model: Option<&str>, effort: Option<Effort>, asking: &Asking) -> Vec<Event> {
        let choice = ModelChoice { model: model.map(str::to_owned), effort };
        if choice == self.choice {
            return vec![];
        }
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        vec![Event::ModelChosen { model: choice.model, effort, by, name }]
    }

    fn decide_archive(&self, asking: &Asking) -> Result<Vec<Event>, Problem> {
        if self.running.is_some() || !self.queue.is_empty() {
            let what = if self.running.is_some() { "A turn is running" } else { "Prompts are waiting" };
            return Err(Problem::new(ErrorCode::SessionBusy, format!("{what} in this session."))
                .hint("Stop the turn and withdraw what waits, then archive it."));
        }
        self.require_children_settled()?;
        let (by, name) = (Some(asking.author.on_behalf_of), asking.author.name.clone());
        Ok((!self.is_archived).then_some(Event::SessionArchived { by, name }).into_iter().collect())
    }

    /// Empty when it is not archived.
    fn unarchived(&self, asking: &Asking) -> Vec<Event> {
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        self.is_archived.then_some(Event::SessionUnarchived { by, name }).into_iter().collect()
    }

    /// Empty when there is no such dead letter.
    fn decide_retry(&self, consumer: Consumer, asking: &Asking) -> Vec<Event> {
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        let is_dead = self.dead_letters.iter().any(|letter| letter.consumer == consumer);
        is_dead.then_some(Event::DeadLetterRetried { consumer, by, name }).into_iter().collect()
    }

    /// The addresses that commits of this session may be by: a file can say of anybody that they worked in it.
    pub fn commit_emails(&self) -> Vec<String> {
        let is_here = |author: &&Author| !self.imported_people.contains(&author.on_behalf_of);
        self.contributors().filter(is_here).map(|author| author.email.clone()).collect()
    }

    /// What a restart must say about a turn that was cut off: text that nobody can finish is withdrawn, tool calls
    /// whose outcome nobody knows are named. Empty when no turn runs.
    pub fn interruption(&self) -> Vec<Event> {
        let Some(running) = &self.running else { return vec![] };
        let resets = running.open_blocks.iter().map(|block| Event::BlockReset { block: *block });
        let unknown = running.open_calls.iter().map(|call| {
            // What it was to do is in the log, and is done after the restart.
            let (outcome, text) = match self.child_of_call(running.turn, call) {
                Some(child) => (crate::event::ToolOutcome::Succeeded, child.begun_in_words()),
                None => (crate::event::ToolOutcome::Unknown, crate::event::OUTCOME_UNKNOWN.to_owned()),
            };
            let (turn, call) = (running.turn, call.clone());
            Event::ToolFinished { turn, call, outcome, text, display: None, duration_ms: 0 }
        });
        let interrupted =
            Event::TurnInterrupted { turn: running.turn, open_calls: running.open_calls.clone() };
        std::iter::once(interrupted).chain(resets).chain(unknown).collect()
    }

    /// Whether a turn may append this event now: work of a turn that has ended is refused.
    pub fn accepts(&self, turn: TurnId, event: &Event) -> bool {
        let is_running = self.running.as_ref().is_some_and(|running| running.turn == turn);
        is_running && event.turn().is_none_or(|of| of == turn)
    }

    /// Applies one entry of the log.
    pub fn step(&mut self, entry: &Entry) -> Vec<Effect> {
        self.head_seq = entry.seq;
        if entry.event.is_news() {
            self.news_seq = entry.seq;
        }
        self.updated_at_ms = entry.at_ms;
        match &entry.event {
            Event::SessionCreated {
                repository,
                repository_name,
                title,
                author,
                branch,
                base_branch,
                model,
                effort,
                budget,
                image,
                forked_from,
                imported_from,
                parent,
                team_access,
            } => {
                self.choice = ModelChoice { model: model.clone(), effort: *effort };
                self.title.clone_from(title);
                self.access.team = *team_access;
                self.access.note(author, SessionRole::Owner);
                self.access.inherits_until = inherited_until(forked_from.as_ref(), imported_from.as_ref());
                self.imports_until = imported_from.as_ref().and_then(|point| point.turn);
                self.origin = Some(Origin {
                    repository: *repository,
                    repository_name: repository_name.clone(),
                    author: author.clone(),
                    branch: branch.clone(),
                    base_branch: base_branch.clone(),
                    budget: *budget,
                    image: *image,
                    forked_from: forked_from.clone(),
                    imported_from: imported_from.clone(),
                    parent: parent.clone(),
                    created_at_ms: entry.at_ms,
                });
                vec![Effect::PublishSummary]
            }
            Event::TitleChanged { title, .. } => {
                self.title.clone_from(title);
                vec![Effect::PublishSummary]
            }
            Event::SmallJobDone { usage, .. } => {
                self.usage += *usage;
                vec![Effect::PublishSummary]
            }
            Event::ModelChosen { model, effort, .. } => {
                self.choice = ModelChoice { model: model.clone(), effort: *effort };
                vec![Effect::PublishSummary]
            }
            Event::ParticipantChanged { .. }
            | Event::TeamAccessChanged { .. }
            | Event::ShareLinkRevoked { .. } => {
                self.step_access(&entry.event);
                vec![Effect::PublishSummary, Effect::TellRights]
            }
            Event::PromptAccepted { .. }
            | Event::PromptEdited { .. }
            | Event::DeliverySet { .. }
            | Event::PromptMoved { .. }
            | Event::PromptWithdrawn { .. }
            | Event::QueueHeld { .. }
            | Event::QueueReleased { .. } => {
                self.step_queue(&entry.event);
                if let Event::PromptAccepted { author, .. } = &entry.event {
                    self.access.note(author, SessionRole::Contributor);
                }
                vec![Effect::PublishSummary]
            }
            Event::TurnStarted { turn, prompts } => self.step_turn_started(*turn, prompts, entry.at_ms),
            Event::TurnFinished { turn, outcome, .. } => self.step_turn_finished(*turn, outcome),
            Event::StopRequested { turn, .. } => self.step_stop(*turn),
            Event::AskOpened { .. } | Event::AskAnswered { .. } | Event::AskExpired { .. } => {
                self.step_ask(entry)
            }
            Event::SandboxChanged { state, image, commit, problem } => {
                let is_gone = |problem: &Problem| problem.code == ErrorCode::SnapshotDamaged;
                match state {
                    SandboxPhase::Failed if problem.as_ref().is_some_and(is_gone) => {
                        self.workspace.is_gone = true;
                        self.workspace.base_commit = None;
                    }
                    SandboxPhase::Ready => self.workspace.is_gone = false,
                    _ => {}
                }
                match state {
                    SandboxPhase::Stopped => self.workspace.in_use_since_ms = None,
                    SandboxPhase::Claiming
                    | SandboxPhase::Restoring
                    | SandboxPhase::Syncing
                    | SandboxPhase::Ready => self.workspace.in_use_since_ms = Some(entry.at_ms),
                    _ => {}
                }
                self.workspace.image = image.or(self.workspace.image);
                if commit.is_some() {
                    self.workspace.base_commit.clone_from(commit);
                }
                vec![]
            }
            Event::Synced { to, .. } => {
                self.workspace.base_commit = Some(to.clone());
                vec![]
            }
            Event::SnapshotTaken { snapshot, reason, turn, .. } => {
                let (snapshot, reason, turn) = (*snapshot, *reason, *turn);
                self.workspace.snapshots.push(SnapshotRef { snapshot, turn, reason, at_ms: entry.at_ms });
                vec![]
            }
            Event::SnapshotDropped { snapshot } => {
                self.workspace.snapshots.retain(|kept| kept.snapshot != *snapshot);
                vec![]
            }
            Event::FilesMarked { commit, .. } => {
                self.workspace.note_mark(commit);
                vec![]
            }
            Event::StepTree { .. }
            | Event::RevertRequested { .. }
            | Event::RevertBegun { .. }
            | Event::Reverted { .. }
            | Event::RevertFailed { .. }
            | Event::NoticeGiven { .. } => {
                self.step_trees(&entry.event);
                vec![]
            }
            Event::CommandsBegun { by } => {
                self.note_runner(by);
                vec![]
            }
            Event::ChangeOpened { change, number, .. } => {
                self.change = Some(OpenedChange { change: *change, number: *number, is_merged: false });
                vec![Effect::PublishSummary]
            }
            Event::ChangeMerged { change, number, .. } => {
                self.change = Some(OpenedChange { change: *change, number: *number, is_merged: true });
                vec![Effect::PublishSummary]
            }
            Event::SessionArchived { .. } | Event::SessionUnarchived { .. } => {
                self.is_archived = matches!(entry.event, Event::SessionArchived { .. });
                vec![Effect::PublishSummary]
            }
            Event::DeadLetterAdded { consumer, problem } => {
                let (consumer, problem) = (*consumer, problem.clone());
                self.dead_letters.retain(|letter| letter.consumer != consumer);
                self.dead_letters.push(DeadLetter { consumer, problem, at_ms: entry.at_ms });
                vec![]
            }
            Event::DeadLetterRetried { consumer, .. } => {
                self.dead_letters.retain(|letter| letter.consumer != *consumer);
                vec![Effect::PublishSummary]
            }
            Event::DeadLetterSettled { consumer } => {
                self.dead_letters.retain(|letter| letter.consumer != *consumer);
                vec![]
            }
            Event::ChildSpawned { .. }
            | Event::ChildMessaged { .. }
            | Event::ChildEnded { .. }
            | Event::ChildrenStopRequested { .. }
            | Event::ChildrenReleased { .. } => {
                self.step_children(&entry.event, entry.seq);
                vec![Effect::PublishSummary]
            }
            event => {
                self.step_work(event);
                vec![]
            }
        }
    }

    /// Everyone whose work the session's files may hold: who prompted, and who ran commands. Each once.
    pub fn contributors(&self) -> impl Iterator<Item = &Author> {
        let has_prompted = |of: &Author| self.prompters.iter().any(|one| one.on_behalf_of == of.on_behalf_of);
        self.prompters.iter().chain(self.runners.iter().filter(move |runner| !has_prompted(runner)))
    }

    /// The asking person is about to run a command in the sandbox. Empty when it is known that files may be theirs.
    pub fn decide_run(&self, asking: &Asking) -> Result<Vec<Event>, Problem> {
        let person = asking.author.on_behalf_of;
        self.require(person, asking.role, Right::Prompt)?;
        let is_known = self.contributors().any(|known| known.on_behalf_of == person)
            && !self.imported_people.contains(&person);
        Ok((!is_known).then(|| Event::CommandsBegun { by: asking.author.clone() }).into_iter().collect())
    }

    fn note_runner(&mut self, by: &Author) {
        let person = by.on_behalf_of;
        match self.imports_until {
            Some(_) => self.note_imported(person),
            None => self.imported_people.retain(|imported| *imported != person),
        }
        if !self.runners.iter().any(|runner| runner.on_behalf_of == person) {
            self.runners.push(by.clone());
        }
    }

    fn note_imported(&mut self, person: PersonId) {
        if !self.imported_people.contains(&person) {
            self.imported_people.push(person);
        }
    }

    fn note_prompters(&mut self, prompts: &[QueuedPrompt]) {
        for queued in prompts {
            let person = queued.author.on_behalf_of;
            let known = self.prompters.iter().any(|author| author.on_behalf_of == person);
            if !known {
                self.prompters.push(queued.author.clone());
            }
            match self.imports_until {
                Some(_) => self.note_imported(person),
                None => self.imported_people.retain(|imported| *imported != person),
            }
        }
    }

    fn step_turn_started(&mut self, turn: TurnId, prompts: &[PromptId], at_ms: i64) -> Vec<Effect> {
        let prompts = self.take_queued(prompts);
        self.note_prompters(&prompts);
        self.turns += 1;
        self.running = Some(RunningTurn {
            turn,
            prompts,
            is_stopping: false,
            open_blocks: vec![],
            open_calls: vec![],
            pending_calls: vec![],
            usage: Usage::default(),
            tool_calls: 0,
            started_at_ms: at_ms,
            compaction: None,
            choice: self.choice.clone(),
            asks: vec![],
            waited_ms: 0,
        });
        vec![Effect::RunTurn { turn }, Effect::PublishSummary]
    }

    fn step_turn_finished(&mut self, turn: TurnId, outcome: &TurnOutcome) -> Vec<Effect> {
        if self.running.as_ref().is_some_and(|running| running.turn == turn) {
            self.running = None;
            self.last_outcome = Some(outcome.clone());
            self.last_turn = Some(turn);
            if self.access.inherits_until == Some(turn) {
                self.access.inherits_until = None;
            }
            if self.imports_until == Some(turn) {
                self.imports_until = None;
            }
        }
        vec![Effect::PublishSummary]
    }

    fn step_stop(&mut self, turn: TurnId) -> Vec<Effect> {
        match &mut self.running {
            Some(running) if running.turn == turn => {
                running.is_stopping = true;
                vec![Effect::CancelTurn { turn }]
            }
            _ => vec![],
        }
    }

    /// What a running turn reports of itself.
    fn step_work(&mut self, event: &Event) {
        if let Event::PromptInserted { prompt, .. } = event {
            let inserted = self.take_queued(&[*prompt]);
            self.note_prompters(&inserted);
            if let Some(running) = &mut self.running {
                running.prompts.extend(inserted);
            }
            return;
        }
        if let Some((usage, _)) = event.usage() {
            self.usage += usage;
        }
        if let Some(running) = &mut self.running {
            running.step(event);
        }
    }
}

impl RunningTurn {
    fn step(&mut self, event: &Event) {
        match event {
            Event::BlockOpened { block, .. } => self.open_blocks.push(*block),
            Event::BlockReset { block } => self.open_blocks.retain(|open| open != block),
            Event::AssistantMessage { content, usage, .. } => {
                self.open_blocks.clear();
                self.asks.clear();
                self.usage += *usage;
                self.pending_calls = content
                    .iter()
                    .filter_map(|part| match part {
                        crate::message::Content::ToolCall(call) => Some(call.id.clone()),
                        _ => None,
                    })
                    .collect();
            }
            Event::CompactionRequested { author, .. } => self.compaction = Some(author.clone()),
            Event::ContextCompacted { usage, .. } => {
                self.compaction = None;
                self.usage += *usage;
            }
            Event::ToolStarted { call, .. } => {
                self.tool_calls += 1;
                self.pending_calls.retain(|pending| pending != call);
                self.open_calls.push(call.clone());
            }
            Event::ToolFinished { call, .. } => {
                self.asks.retain(|standing| standing.call != *call);
                self.pending_calls.retain(|pending| pending != call);
                self.open_calls.retain(|open| open != call);
            }
            _ => {}
        }
    }
}

fn start_turn(turn: TurnId, prompts: Vec<PromptId>, model: Option<&str>) -> Vec<Event> {
    let mut events = vec![Event::TurnStarted { turn, prompts }];
    if let Some(model) = model {
        events.push(Event::ModelRequested { turn, model: model.to_owned(), attempt: 1 });
    }
    events
}

fn check_prompt(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new(ErrorCode::InvalidRequest, "The prompt is empty.")
            .hint("Say what should be changed."));
    }
    if text.len() > PROMPT_LIMIT {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("The prompt has {} bytes; at most {PROMPT_LIMIT} are taken.", text.len()),
        )
        .hint("Put long material into a file of the repository and name it in the prompt."));
    }
    Ok(())
}

fn check_title(title: &str) -> Result<(), Problem> {
    let long = title.chars().count();
    if long > TITLE_LIMIT {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("The title has {long} characters; at most {TITLE_LIMIT} are taken."),
        ));
    }
    if title.is_empty() || title.chars().any(char::is_control) {
        return Err(Problem::new(ErrorCode::InvalidRequest, "A title is one line of text, and not empty."));
    }
    Ok(())
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
