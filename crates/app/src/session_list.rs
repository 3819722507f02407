//! The list of sessions as it changes: first all of it, then each session's newest line. What a reader has not taken yet
//! is kept once for all readers and bounded; whoever falls further behind is given the whole list again. Fed by the
//! outbox after the index holds a line, so that no line is newer than what a list shows.

use crate::access::onlooker;
use crate::own::Own;
use crate::{App, Result, require};
use greenroom_directory::{Archived, Onlooker};
use greenroom_domain::{Person, PersonId, RepositoryId, RepositoryName, Role, SessionId, TeamAccess};
use greenroom_wire::{SessionView, SessionsFrame};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Changes that a reader may be behind before it is given the whole list again.
const BEHIND: usize = 256;

#[derive(Clone, Debug)]
pub(crate) enum ListChange {
    Changed { repository: RepositoryId, session: Arc<SessionView>, participants: Arc<[PersonId]> },
    Removed { session: SessionId },
}

impl ListChange {
    fn session(&self) -> SessionId {
        match self {
            Self::Changed { session, .. } => session.id,
            Self::Removed { session } => *session,
        }
    }
}

/// Where changes are told. Without readers that costs nothing.
#[derive(Debug)]
pub(crate) struct ListChanges(broadcast::Sender<ListChange>);

impl Default for ListChanges {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl ListChanges {
    pub(crate) fn tell(&self, change: ListChange) {
        // Nobody may be reading.
        let _ = self.0.send(change);
    }

    fn reader(&self) -> Reader {
        Reader {
            changes: self.0.subscribe(),
            waiting: VecDeque::new(),
            known: HashMap::new(),
            is_behind: true,
        }
    }
}

/// One reader's place among the changes.
#[derive(Debug)]
struct Reader {
    changes: broadcast::Receiver<ListChange>,
    /// Taken from `changes`, the newest of each session.
    waiting: VecDeque<ListChange>,
    /// The lines of the last whole list; an older change of one says nothing.
    known: HashMap<SessionId, u64>,
    is_behind: bool,
}

impl Reader {
    /// The next change; `None` when the whole list has to be read (then `begin`, read, `has`).
    async fn next(&mut self) -> Option<ListChange> {
        loop {
            if self.is_behind {
                return None;
            }
            if let Some(change) = self.waiting.pop_front() {
                return Some(change);
            }
            match self.changes.recv().await {
                Ok(change) => self.keep(change),
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                // Its sender lives as long as the app, which the stream holds.
                Err(RecvError::Closed) => return std::future::pending().await,
            }
            self.take_all();
        }
    }

    fn take_all(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.keep(change),
                Err(TryRecvError::Lagged(_)) => self.is_behind = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn keep(&mut self, change: ListChange) {
        let id = change.session();
        let known = self.known.remove(&id);
        if let (ListChange::Changed { session, .. }, Some(known)) = (&change, known)
            && session.head_seq <= known
        {
            self.known.insert(id, known);
            return;
        }
        self.waiting.retain(|waiting| waiting.session() != id);
        self.waiting.push_back(change);
    }

    /// Before the list is read: what is told from now on follows it.
    fn begin(&mut self) {
        self.changes = self.changes.resubscribe();
        self.waiting.clear();
    }

    fn has(&mut self, sessions: &[SessionView]) {
        self.known = sessions.iter().map(|session| (session.id, session.head_seq)).collect();
        self.is_behind = false;
    }
}

/// A list of sessions and what becomes of it.
#[derive(Debug)]
pub struct SessionsStream {
    app: App,
    caller: Person,
    repository: Option<(RepositoryId, RepositoryName)>,
    reader: Reader,
    /// What the list shows.
    shown: HashSet<SessionId>,
    own: broadcast::Receiver<Own>,
}

impl App {
    /// The newest sessions, of one repository or of all, and every change from then on.
    pub async fn follow_sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
    ) -> Result<SessionsStream> {
        require(caller, Role::Viewer)?;
        let repository = match repository {
            Some(name) => Some((self.inner.repository_row(name).await?.id, name.clone())),
            None => None,
        };
        let reader = self.inner.list_changes.reader();
        let own = self.inner.own.follow(caller.id);
        Ok(SessionsStream {
            app: self.clone(),
            caller: caller.clone(),
            repository,
            reader,
            shown: HashSet::new(),
            own,
        })
    }
}

impl SessionsStream {
    /// The next frame, the first one a `Snapshot`. Fails when the list cannot be read (any more).
    pub async fn next(&mut self) -> Result<SessionsFrame> {
        loop {
            let change = tokio::select! {
                change = self.reader.next() => change,
                own = self.own.recv() => match own {
                    Ok(own) => match frame_of_own(own) {
                        Some(frame) => return Ok(frame),
                        None => continue,
                    },
                    Err(_) => None,
                },
            };
            match change {
                None => return self.snapshot().await,
                Some(ListChange::Removed { session }) => {
                    if self.shown.remove(&session) {
                        return Ok(SessionsFrame::Removed { session });
                    }
                }
                Some(ListChange::Changed { repository, session, participants }) if self.shows(repository) => {
                    if self.sees(&session, &participants) {
                        self.shown.insert(session.id);
                        return Ok(SessionsFrame::Changed { session: Box::new((*session).clone()) });
                    }
                    // It has become private; who never saw it is not told of it.
                    if self.shown.remove(&session.id) {
                        return Ok(SessionsFrame::Removed { session: session.id });
                    }
                }
                Some(ListChange::Changed { .. }) => {}
            }
        }
    }

    fn shows(&self, repository: RepositoryId) -> bool {
        self.repository.as_ref().is_none_or(|(wanted, _)| *wanted == repository)
    }

    fn sees(&self, session: &SessionView, participants: &[PersonId]) -> bool {
        match onlooker(&self.caller) {
            Onlooker::All => true,
            Onlooker::Person(person) => {
                session.team_access != TeamAccess::None || participants.contains(&person)
            }
        }
    }

    async fn snapshot(&mut self) -> Result<SessionsFrame> {
        self.reader.begin();
        self.own = self.own.resubscribe();
        let name = self.repository.as_ref().map(|(_, name)| name);
        let sessions =
            self.app.sessions(&self.caller, name, Archived::Hidden, crate::sessions::LISTED).await?;
        let reads = self.app.read_positions(&self.caller).await?;
        self.reader.has(&sessions);
        self.shown = sessions.iter().map(|session| session.id).collect();
        Ok(SessionsFrame::Snapshot { sessions, reads })
    }
}

/// A list shows how far was read, and is beside the box for a new session.
fn frame_of_own(own: Own) -> Option<SessionsFrame> {
    match own {
        Own::Read(position) => Some(SessionsFrame::Read(position)),
        Own::Draft(draft) if draft.session.is_none() => Some(SessionsFrame::Draft((*draft).clone())),
        Own::Draft(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use greenroom_domain::money::Usage;
    use greenroom_wire::SessionStatus;

    fn view(number: u128, head_seq: u64) -> SessionView {
        let id = SessionId::from_parts(1, number);
        SessionView {
            id,
            repository: "sample".parse().unwrap(),
            title: format!("at {head_seq}"),
            status: SessionStatus::Idle,
            created_by: None,
            created_by_name: String::new(),
            branch: format!("greenroom/{id}").parse().unwrap(),
            model: None,
            effort: None,
            queued_prompts: 0,
            open_asks: 0,
            usage: Usage::default(),
            change: None,
            forked_from: None,
            parent: None,
            imported_from: None,
            head_seq,
            news_seq: head_seq,
            created_at_ms: 0,
            updated_at_ms: 0,
            team_access: TeamAccess::Contribute,
            my_rights: vec![],
            is_archived: false,
        }
    }

    fn changed(number: u128, head_seq: u64) -> ListChange {
        let repository = RepositoryId::from_parts(1, 1);
        let session = Arc::new(view(number, head_seq));
        ListChange::Changed { repository, session, participants: Arc::new([]) }
    }

    /// A reader that has this list.
    fn reading(changes: &ListChanges, list: &[SessionView]) -> Reader {
        let mut reader = changes.reader();
        assert!(reader.next().now_or_never().unwrap().is_none(), "the list comes first");
        reader.begin();
        reader.has(list);
        reader
    }

    /// What is there at once, as session and line; `None` for the whole list.
    fn taken(reader: &mut Reader) -> Vec<Option<(SessionId, u64)>> {
        let mut taken = vec![];
        while let Some(next) = reader.next().now_or_never() {
            let is_list = next.is_none();
            taken.push(next.map(|change| match &change {
                ListChange::Changed { session, .. } => (session.id, session.head_seq),
                ListChange::Removed { session } => (*session, 0),
            }));
            if is_list {
                break;
            }
        }
        taken
    }

    fn id(number: u128) -> SessionId {
        SessionId::from_parts(1, number)
    }

    #[test]
    fn what_waits_is_one_line_of_each_session_the_newest() {
        let changes = ListChanges::default();
        let mut reader = reading(&changes, &[]);
        for head in 1..=50 {
            changes.tell(changed(1, head));
            changes.tell(changed(2, head + 100));
        }
        assert_eq!(taken(&mut reader), [Some((id(1), 50)), Some((id(2), 150))]);
        changes.tell(changed(1, 51));
        changes.tell(ListChange::Removed { session: id(1) });
        assert_eq!(taken(&mut reader), [Some((id(1), 0))], "gone is the last that is said of it");
    }

    #[test]
    fn a_change_that_the_list_held_already_is_not_told_again() {
        let changes = ListChanges::default();
        let mut reader = changes.reader();
        reader.begin();
        // Between the reader's place and its reading of the list.
        changes.tell(changed(1, 5));
        reader.has(&[view(1, 6)]);
        changes.tell(changed(1, 6));
        assert_eq!(taken(&mut reader), []);
        changes.tell(changed(1, 7));
        assert_eq!(taken(&mut reader), [Some((id(1), 7))]);
    }

    #[test]
    fn a_slow_reader_is_given_the_list_again_and_holds_no_more_than_the_bound() {
        let changes = ListChanges::default();
        let (mut slow, mut quick) = (reading(&changes, &[]), reading(&changes, &[]));
        for number in 0..BEHIND as u128 + 1 {
            changes.tell(changed(number, 1));
            assert_eq!(taken(&mut quick), [Some((id(number), 1))]);
        }
        assert_eq!(taken(&mut slow), [None]);
        assert!(slow.waiting.len() <= BEHIND, "{}", slow.waiting.len());
        slow.begin();
        slow.has(&[view(1, 1)]);
        changes.tell(changed(1, 2));
        assert_eq!(taken(&mut slow), [Some((id(1), 2))]);
    }
}
