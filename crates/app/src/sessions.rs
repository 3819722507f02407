//! Sessions as people use them: create, prompt, watch, delete. Commands in their sandboxes are in `exec`.

use crate::access::{asking_of, onlooker};
use crate::moments::Ending;
use crate::session_list::ListChange;
use crate::timeline::Arrival;
use crate::{App, Inner, Result, require};
use greenroom_directory::{Archived, Remembered, SessionRow, SessionStatus as IndexStatus};
use greenroom_domain::access::unknown_session;
use greenroom_domain::command::TITLE_LIMIT;
use greenroom_domain::money::Budget;
use greenroom_domain::{
    Asking, BranchName, Command, CommandId, ErrorCode, Event, Ids, ModelChoice, Person, Problem, PromptId,
    RepositoryName, Right, Role, SessionId, SessionState, TurnId,
};
use greenroom_session::{SessionHandle, Shelf, StoredReceipt};
use greenroom_wire::{
    ChangeRef, ChangeStatus, CreateSession, EntryPage, Receipt, SessionStatus, SessionView, SubmitCommand,
};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const LISTED: u32 = 200;
const PAGE_LIMIT: usize = 1000;
const DELETED: &str = "the session was deleted";

impl App {
    /// Makes a session, with its first prompt where given. The key makes a repetition answer the same session.
    pub async fn create_session(
        &self,
        caller: &Person,
        key: &CommandId,
        body: CreateSession,
    ) -> Result<SessionView> {
        let arrived = Arrival::now();
        require(caller, Role::Member)?;
        self.inner.may_begin()?;
        let digest = body_digest(&body);
        let has_title = body.title.is_some();
        let asked = body.prompt.clone().map(|prompt| (prompt, body.repository.clone()));
        let (at, random) = self.inner.id_parts();
        let fresh = SessionId::from_parts(at, random);
        let scope = format!("create-session/{}", caller.id);
        let (now_ms, id) = (self.inner.now_ms(), fresh.to_string());
        let remembered = self.inner.directory.remember(scope, key.as_str().to_owned(), digest, id, now_ms);
        // A key that is remembered for a refused session is refused again.
        let (events, remembered) = tokio::join!(self.inner.first_events(caller, fresh, body), remembered);
        let (events, remembered) = (events?, remembered?);
        let session = match remembered {
            Remembered::New => fresh,
            Remembered::Same(id) => {
                let known: SessionId = id.parse().map_err(|_| unknown_session())?;
                match self.inner.session_handle(known).await {
                    Ok(handle) => return self.inner.session_view(caller, &handle).await,
                    // The first attempt ended before the session was made: this one makes it.
                    Err(problem) if problem.code == ErrorCode::SessionUnknown => {
                        self.inner.not_deleted(known).await?;
                        known
                    }
                    Err(problem) => return Err(problem),
                }
            }
            Remembered::Different => {
                return Err(Problem::new(
                    ErrorCode::KeyReused,
                    "This idempotency key was used for another session.",
                )
                .hint("Make a new key for every new session."));
            }
        };
        let prompts = events.iter().filter(|event| matches!(event, Event::PromptAccepted { .. })).count();
        self.inner.admit_session(caller.id, session).await?;
        let counted = match prompts {
            0 => Ok(None),
            _ => self.inner.admit_prompt(caller.id, &format!("create/{}", key.as_str())).await.map(Some),
        };
        let counted = counted.inspect_err(|_| self.inner.session_is_gone(session))?;
        self.inner.prepare_files(Shelf::Person(caller.id), session, &events).await?;
        if prompts > 0 {
            self.inner.arrivals.note(session, arrived);
        }
        let digests = crate::attachments::digests(&events);
        let created = self.inner.sessions().create(session, events).await;
        if created.is_err() {
            self.inner.arrivals.forget(session, arrived);
            self.inner.session_is_gone(session);
            self.inner.forget_files(session).await;
            if let Some(counted) = counted {
                counted.refused().await;
            }
        } else {
            counted.into_iter().for_each(crate::quotas::CountedPrompt::accepted);
            if !digests.is_empty() {
                self.inner.directory.files_taken(caller.id, session, digests).await?;
            }
        }
        let handle = created?;
        (0..prompts).for_each(|_| self.inner.telemetry.prompt_accepted());
        if let Some((prompt, repository)) = asked {
            let forget = |name| self.inner.forget_sent_draft(caller.id, None, name, &prompt);
            tokio::join!(forget(None), forget(Some(&repository)));
            if !has_title {
                self.inner.begin_title(handle.clone(), prompt);
            }
        }
        self.inner.session_view(caller, &handle).await
    }

    /// Those that the caller may see, newest first; those that are archived only when they are asked for.
    pub async fn sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
        archived: Archived,
        limit: u32,
    ) -> Result<Vec<SessionView>> {
        require(caller, Role::Viewer)?;
        let repository = match repository {
            Some(name) => Some(self.inner.repository_row(name).await?.id),
            None => None,
        };
        let onlooker = onlooker(caller);
        let limit = limit.clamp(1, LISTED);
        let rows = self.inner.directory.sessions(onlooker, repository, archived, limit).await?;
        Ok(rows.into_iter().map(view_of_row).collect())
    }

    pub async fn session(&self, caller: &Person, id: SessionId) -> Result<SessionView> {
        let handle = self.open(caller, Right::View, id).await?;
        self.inner.session_view(caller, &handle).await
    }

    /// Carries out a command once per key. A refusal is in the receipt, as the answer to every repetition.
    pub async fn submit_command(
        &self,
        caller: &Person,
        id: SessionId,
        body: SubmitCommand,
    ) -> Result<Receipt> {
        let arrived = Arrival::now();
        // What the command itself needs, the session decides: this keeps its log from who may not use it at all.
        let right = match &body.command {
            Command::SetParticipant { .. }
            | Command::RemoveParticipant { .. }
            | Command::SetTeamAccess { .. } => Right::View,
            _ => Right::Prompt,
        };
        let handle = self.open(caller, right, id).await?;
        if matches!(body.command, Command::Prompt { .. } | Command::ReleaseQueue {} | Command::Compact {}) {
            self.inner.may_begin()?;
        }
        let attachments = match &body.command {
            Command::Prompt { attachments, .. } => {
                self.inner.attached(Shelf::Session(id), attachments).await?
            }
            _ => vec![],
        };
        if let Command::ChooseModel { model, effort } = &body.command {
            let choice = ModelChoice { model: model.clone(), effort: *effort };
            self.inner.check_choice(&choice).await?;
        }
        let subject = self.inner.subject_of(&body.command).await?;
        // The session's actor looks the model up itself.
        let asking = Asking { attachments, subject, ..asking_of(caller) };
        let prompt = match &body.command {
            Command::Prompt { text, .. } => Some(text.clone()),
            _ => None,
        };
        let comes_back = self.inner.admit_return(caller.id, &handle, &body.command).await?;
        let counted = match prompt {
            Some(_) => {
                let admitted =
                    self.inner.admit_prompt(caller.id, &format!("{id}/{}", body.key.as_str())).await;
                Some(admitted.inspect_err(|_| {
                    if comes_back {
                        self.inner.session_is_gone(id);
                    }
                })?)
            }
            None => None,
        };
        if prompt.is_some() {
            self.inner.arrivals.note(id, arrived);
        }
        let is_archiving = body.command == Command::Archive {};
        let is_reverting = matches!(body.command, Command::Revert { .. } | Command::Forward {});
        if is_reverting {
            // One that a restart cut off comes first.
            self.inner.may_begin()?;
            self.inner.carry_out_revert(&handle).await;
        }
        let retried = match &body.command {
            Command::RetryDeadLetter { consumer } => Some(*consumer),
            _ => None,
        };
        let stored = handle.command(body.key.clone(), body.command, asking).await;
        if is_archiving && matches!(stored, Ok(StoredReceipt { problem: None, .. })) {
            self.inner.session_is_gone(id);
            self.inner.end_sandbox(&handle, Ending::Parked, "the session was archived").await;
        }
        if is_reverting && matches!(stored, Ok(StoredReceipt { problem: None, .. })) {
            self.inner.begin_revert(&handle);
        }
        if let (Ok(StoredReceipt { problem: None, .. }), Some(consumer)) = (&stored, retried) {
            self.inner.retry_delivery(id, consumer);
        }
        let is_refused = stored.as_ref().map_or(true, |stored| stored.problem.is_some());
        match &stored {
            Ok(StoredReceipt { problem: Some(problem), .. }) | Err(problem) => {
                self.inner.telemetry.command_refused(problem.code);
            }
            Ok(_) if prompt.is_some() => self.inner.telemetry.prompt_accepted(),
            Ok(_) => {}
        }
        if comes_back && is_refused {
            self.inner.session_is_gone(id);
        }
        match counted {
            Some(counted) if is_refused => counted.refused().await,
            counted => counted.into_iter().for_each(crate::quotas::CountedPrompt::accepted),
        }
        match prompt {
            Some(_) if is_refused => self.inner.arrivals.forget(id, arrived),
            Some(text) => self.inner.forget_sent_draft(caller.id, Some(id), None, &text).await,
            None => {}
        }
        Ok(receipt_of(body.key, stored?))
    }

    pub async fn entries(
        &self,
        caller: &Person,
        id: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<EntryPage> {
        let handle = self.open(caller, Right::View, id).await?;
        let entries = handle.entries(after, limit.clamp(1, PAGE_LIMIT)).await?;
        Ok(EntryPage { entries, head_seq: handle.state().await?.head_seq })
    }

    /// The last entries before this one, without streamed text; fewer where a turn begins among them.
    pub async fn entries_before(
        &self,
        caller: &Person,
        id: SessionId,
        before: u64,
        limit: usize,
    ) -> Result<EntryPage> {
        let handle = self.open(caller, Right::View, id).await?;
        let entries = handle.entries_before(before, limit.clamp(1, PAGE_LIMIT)).await?;
        Ok(EntryPage { entries, head_seq: handle.state().await?.head_seq })
    }

    /// Ends the sandbox and removes the log and everything that belongs to it.
    pub async fn delete_session(&self, caller: &Person, id: SessionId) -> Result<()> {
        let handle = self.open(caller, Right::Manage, id).await?;
        handle.look(|state| state.require_children_settled()).await??;
        let parent = handle.look(SessionState::parent_session).await?;
        self.inner.end_sandbox(&handle, Ending::Deleted, DELETED).await;
        self.inner.part_with(id).await?;
        self.inner.erase(id).await?;
        if let Some(parent) = parent {
            self.inner.tell_deleted(parent, id).await;
        }
        Ok(())
    }
}

/// Sessions that are deleted and whose logs could not be removed yet.
#[derive(Debug, Default)]
pub(crate) struct Unerased(Mutex<HashSet<SessionId>>);

impl Unerased {
    fn note(&self, session: SessionId) {
        self.lock().insert(session);
    }

    fn forget(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.lock().contains(&session)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The session's end, durable and told: from here on a start finishes what is left to do.
    pub(crate) async fn part_with(&self, id: SessionId) -> Result<()> {
        let _told = self.outbox.telling().await;
        self.directory.remove_session(id, self.now_ms()).await?;
        self.unerased.note(id);
        self.session_is_gone(id);
        self.list_changes.tell(ListChange::Removed { session: id });
        Ok(())
    }

    /// For a repeated key: a session that was deleted is not made anew. No list would have it, and the next start would erase
    /// it as left over.
    pub(crate) async fn not_deleted(&self, id: SessionId) -> Result<()> {
        if self.directory.is_removed(id).await? { Err(unknown_session()) } else { Ok(()) }
    }

    /// The log and all files of a session that the directory has parted with. Where they cannot be removed nobody opens
    /// them, and the next start tries again.
    pub(crate) async fn erase(self: &Arc<Self>, id: SessionId) -> Result<()> {
        let track = self.snapshots.track(id);
        {
            // A copy that is being made is finished first; after this none begins.
            let _one = track.turn.lock().await;
            self.unerased.note(id);
            self.sessions().remove(id).await?;
        }
        self.forget_session(id).await;
        Ok(())
    }

    /// All but the log of a session that is gone. Not while its files' lock is held: the claim of a sandbox waits for it, one
    /// that a call of its turn began before the log went.
    pub(crate) async fn forget_session(&self, id: SessionId) {
        self.unerased.forget(id);
        self.end_orphan(id, DELETED).await;
        let track = self.snapshots.track(id);
        let _one = track.turn.lock().await;
        self.memories.forget(id);
        self.discard_files(id);
    }

    pub(crate) async fn first_events(
        &self,
        caller: &Person,
        session: SessionId,
        body: CreateSession,
    ) -> Result<Vec<Event>> {
        let repository = self.repository_row(&body.repository).await?;
        let base_branch = match body.base_branch {
            Some(name) => self.known_branch(repository.id, &name).await?,
            None => repository.default_branch.clone(),
        };
        let choice = ModelChoice { model: body.model, effort: body.effort };
        if choice != ModelChoice::default() {
            self.check_choice(&choice).await?;
        }
        let image = self.directory.newest_ready_image(repository.id).await?.map(|image| image.id);
        let title = title_of(body.title.as_deref(), body.prompt.as_deref());
        let created = Event::SessionCreated {
            repository: repository.id,
            repository_name: repository.name,
            title,
            author: caller.as_author(),
            branch: format!("greenroom/{session}").parse().expect("an id is a valid branch name"),
            base_branch,
            model: choice.model.clone(),
            effort: choice.effort,
            budget: body.budget.map_or(self.config.budget, |asked| bounded(asked, self.config.budget)),
            image,
            forked_from: None,
            imported_from: None,
            parent: None,
            team_access: body.team_access,
        };
        let mut events = vec![created];
        if body.prompt.is_none() && !body.attachments.is_empty() {
            return Err(Problem::new(ErrorCode::InvalidRequest, "Files come with a prompt.")
                .hint("Say what should be done with them."));
        }
        if let Some(text) = body.prompt {
            let attachments = self.attached(Shelf::Person(caller.id), &body.attachments).await?;
            let command =
                Command::Prompt { text, delivery: Default::default(), attachments: body.attachments };
            let asking = Asking { attachments, model: self.model_label(&choice).await, ..asking_of(caller) };
            events.extend(SessionState::default().decide(&command, &asking, self.new_ids())?);
        }
        Ok(events)
    }

    pub(crate) async fn known_branch(
        &self,
        repository: greenroom_domain::RepositoryId,
        name: &str,
    ) -> Result<BranchName> {
        let branch: BranchName =
            name.parse().map_err(|error| Problem::new(ErrorCode::InvalidRequest, format!("{error}.")))?;
        match self.forge.branch_head(repository, &branch).await? {
            Some(_) => Ok(branch),
            None => Err(Problem::new(
                ErrorCode::InvalidRequest,
                format!("The repository has no branch {branch}."),
            )
            .hint("Leave the branch out to begin at the default one.")),
        }
    }

    pub(crate) fn new_ids(&self) -> Ids {
        let (at, random) = self.id_parts();
        let (_, other) = self.id_parts();
        Ids { prompt: PromptId::from_parts(at, random), turn: TurnId::from_parts(at, other) }
    }

    /// From the session's own state: the index may be a moment behind.
    pub(crate) async fn session_view(&self, caller: &Person, handle: &SessionHandle) -> Result<SessionView> {
        let state = handle.state().await?;
        state.require(caller.id, caller.role, Right::View)?;
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        Ok(SessionView {
            id: handle.id(),
            repository: origin.repository_name.clone(),
            title: state.title.clone(),
            status: status_view(crate::outbox::status_of(&state)),
            created_by: Some(origin.author.on_behalf_of),
            created_by_name: origin.author.name.clone(),
            branch: origin.branch.clone(),
            model: state.choice.model.clone(),
            effort: state.choice.effort,
            queued_prompts: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
            open_asks: crate::outbox::open_asks(&state),
            usage: state.usage,
            change: state
                .change
                .as_ref()
                .map(|change| change_ref(change.change, change.number, change.is_merged)),
            forked_from: origin.forked_from.clone(),
            imported_from: origin.imported_from.clone(),
            head_seq: state.head_seq,
            news_seq: state.news_seq,
            created_at_ms: origin.created_at_ms,
            updated_at_ms: state.updated_at_ms,
            team_access: state.access.team,
            my_rights: state.access.rights(caller.id, caller.role),
            is_archived: state.is_archived,
            parent: state.parent_session(),
        })
    }
}

fn receipt_of(key: CommandId, stored: StoredReceipt) -> Receipt {
    Receipt { key, seq: stored.seq, problem: stored.problem }
}

fn body_digest(body: &CreateSession) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(body).unwrap_or_default()).into()
}

/// No session may have more than the installation allows.
pub(crate) fn bounded(asked: Budget, most: Budget) -> Budget {
    Budget {
        tokens: asked.tokens.min(most.tokens),
        cost_microusd: asked.cost_microusd.min(most.cost_microusd),
        wall_ms: asked.wall_ms.min(most.wall_ms),
        tool_calls: asked.tool_calls.min(most.tool_calls),
    }
}

/// The given title, else the prompt's first line, cut at a word.
pub(crate) fn title_of(title: Option<&str>, prompt: Option<&str>) -> String {
    let line = title.or(prompt).unwrap_or("New session").trim().lines().next().unwrap_or("New session");
    if line.chars().count() <= TITLE_LIMIT {
        return line.to_owned();
    }
    let cut: String = line.chars().take(TITLE_LIMIT - 1).collect();
    let end = cut.rfind(' ').unwrap_or(cut.len());
    format!("{}…", &cut[..end])
}

pub(crate) fn view_of_row(row: SessionRow) -> SessionView {
    SessionView {
        id: row.id,
        repository: row.repository_name,
        title: row.title,
        status: status_view(row.status),
        created_by: Some(row.created_by),
        created_by_name: row.created_by_name,
        branch: row.branch,
        model: row.model,
        // As is the effort.
        effort: None,
        queued_prompts: row.queued_prompts,
        open_asks: row.open_asks,
        usage: row.usage,
        change: row.change.map(|(id, number, is_merged)| change_ref(id, number, is_merged)),
        // Lists do without: whoever opens the session is told.
        forked_from: None,
        imported_from: None,
        head_seq: row.head_seq,
        news_seq: row.news_seq,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        team_access: row.team_access,
        my_rights: vec![],
        is_archived: row.is_archived,
        parent: row.parent,
    }
}

fn change_ref(id: greenroom_domain::ChangeId, number: u64, is_merged: bool) -> ChangeRef {
    let state = if is_merged { ChangeStatus::Merged } else { ChangeStatus::Open };
    ChangeRef { id, number, state }
}

fn status_view(status: IndexStatus) -> SessionStatus {
    match status {
        IndexStatus::Idle => SessionStatus::Idle,
        IndexStatus::Running => SessionStatus::Running,
        IndexStatus::Failed => SessionStatus::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::title_of;

    #[test]
    fn a_title_is_the_prompts_first_line_cut_at_a_word() {
        assert_eq!(title_of(None, Some("make the failing test pass\nplease")), "make the failing test pass");
        let title = title_of(None, Some(&"word ".repeat(40)));
        assert!(title.ends_with("word…") && title.chars().count() <= 80, "{title}");
    }
}
