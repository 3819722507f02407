//! Forks: a new session that goes on from an ended turn of another, with its conversation and its files as they were
//! then. Owns the decision which snapshot that is; `inherited` takes the conversation over; `restore` puts the files
//! where the fork's first sandbox finds them.

mod inherited;

use crate::access::asking_of;
use crate::snapshots::{Place, ended_turns};
use crate::{App, Inner, Result, require};
use greenroom_directory::Remembered;
use greenroom_domain::event::{ForkPoint, SandboxPhase, SnapshotReason};
use greenroom_domain::state::{Origin, SnapshotRef};
use greenroom_domain::{
    Asking, Command, CommandId, Entry, ErrorCode, Event, Person, Problem, Right, Role, SessionId,
    SessionState, TurnId,
};
use greenroom_session::{SessionHandle, Shelf};
use greenroom_wire::{ForkSession, SessionView};
pub(crate) use inherited::conversation;
use inherited::inherited;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long a fork waits for a snapshot that is being taken.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(60);
/// Forks of forks that are followed back to the files of an early turn.
const DEPTH_LIMIT: usize = 64;

/// What a fork is made of.
struct Fork {
    events: Vec<Event>,
    files: Option<Place>,
}

impl App {
    /// Makes a session that goes on from an ended turn of another. The key makes a repetition answer the same session,
    /// also when the other one is gone by then.
    pub async fn fork_session(
        &self,
        caller: &Person,
        key: &CommandId,
        id: SessionId,
        body: ForkSession,
    ) -> Result<SessionView> {
        let arrived = crate::timeline::Arrival::now();
        require(caller, Role::Member)?;
        self.inner.may_begin()?;
        let digest = Sha256::digest(serde_json::to_vec(&(id, &body)).unwrap_or_default()).into();
        let (at, random) = self.inner.id_parts();
        let fresh = SessionId::from_parts(at, random);
        let scope = format!("fork-session/{}", caller.id);
        // Who may not fork it leaves nothing behind; a key that is known is answered also when the parent is gone.
        if !self.inner.directory.is_remembered(scope.clone(), key.as_str().to_owned()).await? {
            self.open(caller, Right::Prompt, id).await?;
        }
        let remembered = self
            .inner
            .directory
            .remember(scope, key.as_str().to_owned(), digest, fresh.to_string(), self.inner.now_ms())
            .await?;
        let session = match remembered {
            Remembered::New => fresh,
            Remembered::Same(known) => known.parse().map_err(|_| unknown_turn())?,
            Remembered::Different => {
                return Err(Problem::new(
                    ErrorCode::KeyReused,
                    "This idempotency key was used for another fork.",
                )
                .hint("Make a new key for every new session."));
            }
        };
        // The same key twice at once makes one session.
        let track = self.inner.snapshots.track(session);
        let made = {
            let _one = track.turn.lock().await;
            Box::pin(self.fork_once(caller, key, id, body, session, arrived)).await
        };
        if made.is_err() {
            self.inner.snapshots.let_go(session, &track);
        }
        made
    }

    async fn fork_once(
        &self,
        caller: &Person,
        key: &CommandId,
        id: SessionId,
        body: ForkSession,
        session: SessionId,
        arrived: crate::timeline::Arrival,
    ) -> Result<SessionView> {
        match self.inner.session_handle(session).await {
            Ok(handle) => return self.inner.session_view(caller, &handle).await,
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {}
            Err(problem) => return Err(problem),
        }
        self.inner.not_deleted(session).await?;
        let parent = self.open(caller, Right::Prompt, id).await?;
        let has_prompt = body.prompt.is_some();
        let fork = Box::pin(self.inner.fork(caller, &parent, session, body)).await?;
        self.inner.admit_session(caller.id, session).await?;
        let counted = match has_prompt {
            true => self.inner.admit_prompt(caller.id, &format!("fork/{}", key.as_str())).await.map(Some),
            false => Ok(None),
        };
        let counted = counted.inspect_err(|_| self.inner.session_is_gone(session))?;
        if let Some(place) = fork.files {
            // The reference first: what a crash leaves of it goes with the next start.
            self.inner.snapshots.shelf.need(session, place).map_err(crate::snapshots::unwritten)?;
        }
        if has_prompt {
            self.inner.arrivals.note(session, arrived);
        }
        self.inner.prepare_files(Shelf::Session(parent.id()), session, &fork.events).await?;
        let created = self.inner.sessions().create(session, fork.events).await;
        if created.is_err() {
            self.inner.session_is_gone(session);
            self.inner.forget_files(session).await;
            self.inner.discard_files(session);
            if let Some(counted) = counted {
                counted.refused().await;
            }
        } else {
            counted.into_iter().for_each(crate::quotas::CountedPrompt::accepted);
        }
        let created = created?;
        if has_prompt {
            self.inner.telemetry.prompt_accepted();
        }
        self.inner.session_view(caller, &created).await
    }
}

impl Inner {
    async fn fork(
        self: &Arc<Self>,
        caller: &Person,
        parent: &SessionHandle,
        session: SessionId,
        body: ForkSession,
    ) -> Result<Fork> {
        let turn = self.ended_turn(parent, body.turn).await?;
        self.save_unsaved(parent, turn).await;
        // After the wait, so that it shows the snapshot.
        let state = parent.state().await?;
        let entries = parent.conversation().await?;
        let conversation = inherited(&entries, turn).ok_or_else(unknown_turn)?;
        let files = Box::pin(self.files_at(parent.id(), &state, &entries, turn, 0)).await?;
        if let Some(place) = files {
            self.usable(place).map_err(|problem| files_gone().detail(problem.message))?;
        }
        let point = ForkPoint { session: parent.id(), turn, snapshot: files.map(|place| place.snapshot) };
        let mut events = vec![self.fork_created(caller, &state, session, &body, point)?];
        events.extend(conversation);
        events.push(Event::SandboxChanged {
            state: SandboxPhase::Stopped,
            image: state.workspace.image,
            // Without files of its own it is synced as a new session is.
            commit: files.and(state.workspace.base_commit.clone()),
            problem: None,
        });
        if let Some(text) = body.prompt {
            let command = Command::Prompt { text, delivery: Default::default(), attachments: vec![] };
            let asking = Asking { model: self.model_label(&state.choice).await, ..asking_of(caller) };
            events.extend(SessionState::default().decide(&command, &asking, self.new_ids())?);
        }
        Ok(Fork { events, files })
    }

    fn fork_created(
        &self,
        caller: &Person,
        state: &SessionState,
        session: SessionId,
        body: &ForkSession,
        point: ForkPoint,
    ) -> Result<Event> {
        let origin = state.origin.as_ref().ok_or_else(unknown_turn)?;
        let title = match body.title.as_deref().map(str::trim).filter(|title| !title.is_empty()) {
            Some(title) => crate::sessions::title_of(Some(title), None),
            None => fork_title(&state.title),
        };
        Ok(Event::SessionCreated {
            repository: origin.repository,
            repository_name: origin.repository_name.clone(),
            title,
            author: caller.as_author(),
            branch: format!("greenroom/{session}").parse().expect("an id is a valid branch name"),
            base_branch: origin.base_branch.clone(),
            model: state.choice.model.clone(),
            effort: state.choice.effort,
            budget: origin.budget,
            image: state.workspace.image.or(origin.image),
            forked_from: Some(point),
            imported_from: origin.imported_from.clone(),
            parent: None,
            // What was said in private stays so.
            team_access: state.access.team,
        })
    }

    async fn ended_turn(&self, parent: &SessionHandle, asked: Option<TurnId>) -> Result<TurnId> {
        let state = parent.state().await?;
        match asked {
            Some(turn) if state.running.as_ref().is_some_and(|running| running.turn == turn) => {
                Err(Problem::new(ErrorCode::SessionBusy, "This turn still runs.")
                    .hint("Fork from an earlier turn, or wait until this one has ended."))
            }
            Some(turn) => Ok(turn),
            None => state.last_turn.ok_or_else(|| {
                Problem::new(ErrorCode::TurnUnknown, "No turn of this session has ended yet.")
                    .hint("A session can be forked from a turn that has ended.")
            }),
        }
    }

    /// Waits for the snapshot of the last turn, or takes it when nobody did.
    async fn save_unsaved(self: &Arc<Self>, parent: &SessionHandle, turn: TurnId) {
        let wait = async {
            let track = self.snapshots.track(parent.id());
            track.wait_for_endings().await;
            drop(track.turn.lock().await);
            let Ok(state) = parent.state().await else { return };
            let is_current = state.running.is_none() && state.last_turn == Some(turn);
            if !is_current || !self.snapshots.is_changed(parent.id()) {
                return;
            }
            let is_saved = state.workspace.snapshots.last().is_some_and(|kept| kept.turn == Some(turn));
            let sandbox = match self.workspaces.ready_sandbox(parent.id()) {
                Some(sandbox) => Ok(sandbox),
                None if is_saved || state.workspace.base_commit.is_none() => return,
                // The server was killed before it could be taken; the files are there.
                None => self.ensure_sandbox(parent).await,
            };
            let taken = match sandbox {
                Ok(sandbox) => {
                    self.take_snapshot(parent, &sandbox, SnapshotReason::Turn, Some(turn)).await.map(drop)
                }
                Err(problem) => Err(problem),
            };
            if let Err(problem) = taken {
                tracing::warn!(session = %parent.id(), %problem, "no snapshot for a fork");
            }
        };
        // A copy that began meanwhile is in the log when its lock is free; `fork` reads the state after that.
        let wait = async {
            wait.await;
            drop(self.snapshots.track(parent.id()).turn.lock().await);
        };
        // Late is late: the files are then those of the newest snapshot, or it is said that there are none.
        let _ = tokio::time::timeout(SNAPSHOT_DEADLINE, wait).await;
    }

    /// The files as they were when the turn ended. `None`: no turn up to it changed any.
    async fn files_at(
        self: &Arc<Self>,
        session: SessionId,
        state: &SessionState,
        entries: &[Entry],
        turn: TurnId,
        depth: usize,
    ) -> Result<Option<Place>> {
        let base = state.origin.as_ref().and_then(|origin| origin.forked_from.clone());
        let turns = ended_turns(entries);
        let at = turns.iter().position(|(ended, _)| *ended == turn).ok_or_else(unknown_turn)?;
        let inherited = state.origin.as_ref().and_then(Origin::inherited_until);
        let own = inherited.map_or(0, |inherited| {
            turns.iter().position(|(ended, _)| *ended == inherited).map_or(0, |last| last + 1)
        });
        if let Some(refused) = imported_before(state, &turns, at) {
            return refused;
        }
        if at >= own {
            let own_turns = &turns[own..=at];
            return match files_after(own_turns, &state.workspace.snapshots) {
                Files::Snapshot(kept) => Ok(Some(Place { owner: session, snapshot: kept.snapshot })),
                Files::Unchanged => Ok(self.snapshots.shelf.base_of(session)),
                Files::Gone => Err(files_gone()),
            };
        }
        let Some(base) = base else { return Ok(None) };
        if base.turn == turn {
            return Ok(self.snapshots.shelf.base_of(session));
        }
        // The turn was a session's further back: its files are where they were taken.
        let earlier = self.sessions().get(base.session).await.map_err(|_| files_gone())?;
        if depth >= DEPTH_LIMIT {
            return Err(files_gone());
        }
        let (state, entries) = (earlier.state().await?, earlier.conversation().await?);
        Box::pin(self.files_at(base.session, &state, &entries, turn, depth + 1)).await
    }
}

/// What an import brought is as of its last turn; what came before it stayed where it was. `None`: the turn is later, or a
/// parent's.
fn imported_before(
    state: &SessionState,
    turns: &[(TurnId, bool)],
    at: usize,
) -> Option<Result<Option<Place>>> {
    let origin = state.origin.as_ref().filter(|origin| origin.forked_from.is_none())?;
    let last = origin.imported_from.as_ref()?.turn?;
    let last = turns.iter().position(|(ended, _)| *ended == last)?;
    match at.cmp(&last) {
        std::cmp::Ordering::Less => Some(Err(files_gone())),
        std::cmp::Ordering::Equal => Some(Ok(None)),
        std::cmp::Ordering::Greater => None,
    }
}

#[derive(Debug, PartialEq)]
enum Files {
    Snapshot(SnapshotRef),
    /// No turn may have changed any.
    Unchanged,
    /// One did, and what it left is not kept any more.
    Gone,
}

/// Of the snapshots that hold the work of the last of these turns: the one taken when it ended, else the newest.
fn files_after(turns: &[(TurnId, bool)], kept: &[SnapshotRef]) -> Files {
    let is_among =
        |turns: &[(TurnId, bool)], of: Option<TurnId>| turns.iter().any(|(turn, _)| Some(*turn) == of);
    let last = turns.last().map(|(turn, _)| *turn);
    let at_its_end =
        kept.iter().find(|kept| kept.turn == last && last.is_some() && kept.reason == SnapshotReason::Turn);
    let needed_from = turns.iter().rposition(|(_, has_written)| *has_written);
    let enough = &turns[needed_from.unwrap_or(0)..];
    let found = at_its_end.or_else(|| kept.iter().rev().find(|kept| is_among(enough, kept.turn)));
    match (found, needed_from) {
        (Some(found), _) => Files::Snapshot(*found),
        (None, Some(_)) => Files::Gone,
        (None, None) => Files::Unchanged,
    }
}

/// The parent's title with the mark of a fork, within the title's length.
fn fork_title(parent: &str) -> String {
    const MARK: &str = " (fork)";
    let title = parent.strip_suffix(MARK).unwrap_or(parent);
    let room = greenroom_domain::command::TITLE_LIMIT - MARK.chars().count();
    let short: String = title.chars().take(room).collect();
    format!("{}{MARK}", short.trim_end())
}

fn unknown_turn() -> Problem {
    Problem::new(ErrorCode::TurnUnknown, "This session has no such turn that has ended.")
        .hint("`greenroom session snapshots` and the session's log name its turns.")
}

fn files_gone() -> Problem {
    Problem::new(ErrorCode::SnapshotUnknown, "The files as they were at this turn are not kept any more.")
        .hint("Fork from a later turn: `greenroom session snapshots` lists what is kept.")
}

#[cfg(test)]
mod tests;
