//! What a person's own clients tell each other: drafts and how far was read. Nobody else is told.

use crate::{App, Inner, Result, require};
use greenroom_directory::{DraftPlace, DraftRow};
use greenroom_domain::{ErrorCode, Person, PersonId, Problem, RepositoryName, Right, Role, SessionId};
use greenroom_wire::{ClientKind, Draft, DraftAnswer, Presence, ReadPosition, WriteDraft};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;

pub(crate) const DRAFT_LIMIT: usize = 256 * 1024;
/// What one of a person's connections may be behind before it reads all again.
const BEHIND: usize = 64;
/// Writes of one person's drafts at once, and the time after which there may be one more.
const WRITES: u32 = 30;
const ONE_MORE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(crate) enum Own {
    Draft(Arc<Draft>),
    Read(ReadPosition),
}

/// Each person's own broadcast, while they have anything open.
#[derive(Debug, Default)]
pub(crate) struct OwnNews {
    told: Mutex<HashMap<PersonId, broadcast::Sender<Own>>>,
    paces: Mutex<HashMap<PersonId, Pace>>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// As if each write had taken `ONE_MORE`: this is when all of them are done.
    done_at: Instant,
}

impl OwnNews {
    pub(crate) fn follow(&self, person: PersonId) -> broadcast::Receiver<Own> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.entry(person).or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe()
    }

    fn tell(&self, person: PersonId, news: Own) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let has_listeners = told.get(&person).map(|sender| sender.send(news).is_ok());
        if has_listeners == Some(false) {
            told.remove(&person);
        }
    }

    fn pace(&self, person: PersonId, now: Instant) -> Result<()> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.retain(|_, pace| pace.done_at > now);
        let pace = paces.entry(person).or_insert(Pace { done_at: now });
        if pace.done_at + ONE_MORE > now + ONE_MORE * WRITES {
            return Err(Problem::new(ErrorCode::TooManyRequests, "Drafts are written too quickly.")
                .hint("Keep one at most every half second; nothing of what was kept is lost."));
        }
        pace.done_at += ONE_MORE;
        Ok(())
    }
}

impl App {
    /// What the caller typed and did not send: in a session, or for a new one.
    pub async fn draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
    ) -> Result<Draft> {
        let place = self.draft_place(caller, session, repository.as_ref()).await?;
        let row = self.inner.directory.draft(caller.id, place).await?;
        Ok(draft_of(session, repository, row))
    }

    /// Keeps what the caller typed, unless another of their clients has written since.
    pub async fn write_draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
        body: WriteDraft,
    ) -> Result<DraftAnswer> {
        if body.text.len() > DRAFT_LIMIT {
            return Err(Problem::new(ErrorCode::TooLarge, "A draft has at most 256 KiB.")
                .hint("Put long material into a file of the repository and name it in the prompt."));
        }
        self.inner.own.pace(caller.id, Instant::now())?;
        let place = self.draft_place(caller, session, repository.as_ref()).await?;
        let (directory, now_ms) = (&self.inner.directory, self.inner.now_ms());
        let written = directory.write_draft(caller.id, place, body.text, body.revision, now_ms).await?;
        let draft = draft_of(session, repository, written.now);
        if written.is_changed {
            self.inner.own.tell(caller.id, Own::Draft(Arc::new(draft.clone())));
        }
        Ok(DraftAnswer { draft, is_refused: written.is_refused })
    }

    /// The caller has seen the session's entries up to this one.
    pub async fn mark_read(&self, caller: &Person, session: SessionId, seq: u64) -> Result<ReadPosition> {
        self.look_up(caller, Right::View, session).await?;
        let seq = self.inner.note_read(session, caller, seq).await?;
        let position = ReadPosition { session, seq };
        self.inner.own.tell(caller.id, Own::Read(position));
        Ok(position)
    }

    /// Of the sessions that a list shows.
    pub async fn read_positions(&self, caller: &Person) -> Result<Vec<ReadPosition>> {
        require(caller, Role::Viewer)?;
        let rows = self.inner.directory.read_positions(caller.id, crate::sessions::LISTED).await?;
        Ok(rows.into_iter().map(|(session, seq)| ReadPosition { session, seq }).collect())
    }

    pub async fn say_typing(
        &self,
        caller: &Person,
        session: SessionId,
        client: ClientKind,
        is_typing: bool,
    ) -> Result<()> {
        self.look_up(caller, Right::Prompt, session).await?;
        self.inner.note_typing(session, caller, client, is_typing);
        Ok(())
    }

    async fn draft_place(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<&RepositoryName>,
    ) -> Result<DraftPlace> {
        match session {
            Some(session) => self.look_up(caller, Right::Prompt, session).await?,
            None => require(caller, Role::Member)?,
        }
        self.inner.draft_place(session, repository).await
    }

    /// Who has the session open now.
    pub async fn presence(&self, caller: &Person, session: SessionId) -> Result<Presence> {
        self.look_up(caller, Right::View, session).await?;
        Ok(self.inner.rooms.room(session).map(|room| room.presence()).unwrap_or_default())
    }
}

impl Inner {
    async fn draft_place(
        &self,
        session: Option<SessionId>,
        repository: Option<&RepositoryName>,
    ) -> Result<DraftPlace> {
        match (session, repository) {
            (Some(session), _) => Ok(DraftPlace::Session(session)),
            (None, Some(name)) => Ok(DraftPlace::Repository(self.repository_row(name).await?.id)),
            (None, None) => Ok(DraftPlace::New),
        }
    }

    /// A prompt was taken: if it is what the person's draft says, the draft is over, on all of their clients.
    pub(crate) async fn forget_sent_draft(
        &self,
        person: PersonId,
        session: Option<SessionId>,
        repository: Option<&RepositoryName>,
        sent: &str,
    ) {
        let forget = async {
            let place = self.draft_place(session, repository).await?;
            let taken = self.directory.take_draft(person, place, sent.to_owned(), self.now_ms()).await?;
            if let Some(row) = taken {
                let draft = draft_of(session, repository.cloned(), row);
                self.own.tell(person, Own::Draft(Arc::new(draft)));
            }
            Result::<()>::Ok(())
        };
        if let Err(problem) = forget.await {
            tracing::warn!(%problem, "a draft that was sent is still there");
        }
    }
}

pub(crate) fn draft_of(
    session: Option<SessionId>,
    repository: Option<RepositoryName>,
    row: DraftRow,
) -> Draft {
    let DraftRow { text, revision, updated_at_ms } = row;
    Draft {
        session,
        repository: if session.is_some() { None } else { repository },
        text,
        revision,
        updated_at_ms,
    }
}
