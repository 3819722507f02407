//! The forge's word on a session's change, brought into its log. What is owed to a session is written down before the
//! forge is asked to do something, so that a crash between the two loses nothing; then the log is compared with the
//! forge, which can be done any number of times.

use super::lane::Letter;
use crate::{Inner, Result};
use greenroom_domain::{Consumer, Entry, ErrorCode, Event, SessionId};
use greenroom_forge::{Change, ChangeState};
use greenroom_session::SessionHandle;

/// Where a session's change is looked for that its log does not know.
const NEWEST: u32 = 200;

impl Inner {
    /// Before the forge does something that the session is to know of.
    pub(crate) async fn forge_owes(&self, session: Option<SessionId>) -> Result<()> {
        let Some(session) = session else { return Ok(()) };
        let mark = (self.clock.random() >> 65) as i64;
        Ok(self.directory.owe(session, Consumer::Forge, mark).await?)
    }

    /// Afterwards, whether the forge did it or not. The review is done even where its session cannot be told now: that
    /// is tried again.
    pub(crate) async fn tell_of_forge(&self, session: Option<SessionId>) {
        let Some(session) = session else { return };
        match self.hear_forge(session).await {
            Ok(()) => {}
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {}
            Err(problem) => {
                tracing::warn!(%session, %problem, "the session could not be told of its change yet");
                self.ask_forge(session);
            }
        }
    }

    pub(crate) fn ask_forge(&self, session: SessionId) {
        let letter = Letter { upto: 0, row: None, inherited: None, was_dead: false };
        self.outbox.put(Consumer::Forge, session, letter);
    }

    /// Held while the forge changes something and the log is told.
    pub(crate) async fn forge_turn(&self, session: SessionId) -> tokio::sync::MutexGuard<'_, ()> {
        self.outbox.forge_lock(session).lock().await
    }

    /// What is owed to the session now; `forge_paid` pays that.
    pub(crate) async fn forge_debt(&self, session: SessionId) -> Result<Option<i64>> {
        Ok(self.directory.mark_of_debt(session, Consumer::Forge).await?)
    }

    /// Whatever came to be owed after `debt` was asked for stays so.
    pub(crate) async fn forge_paid(&self, session: SessionId, debt: Option<i64>) -> Result<()> {
        match debt {
            Some(mark) => Ok(self.directory.owe_no_more(session, Consumer::Forge, mark).await?),
            None => Ok(()),
        }
    }

    pub(super) async fn hear_forge(&self, session: SessionId) -> Result<()> {
        let _turn = self.forge_turn(session).await;
        let debt = self.forge_debt(session).await?;
        let handle = match self.sessions().get(session).await {
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {
                return self.forge_paid(session, debt).await;
            }
            handle => handle?,
        };
        if let Some(change) = self.change_of(&handle).await? {
            let missing = self.missing(&handle, &change).await?;
            if !missing.is_empty() {
                handle.record(missing).await?;
            }
        }
        self.forge_paid(session, debt).await?;
        if handle.state().await?.dead_letters.iter().any(|letter| letter.consumer == Consumer::Forge) {
            handle.record(vec![Event::DeadLetterSettled { consumer: Consumer::Forge }]).await?;
        }
        Ok(())
    }

    /// The newest of the session's at the forge.
    async fn change_of(&self, handle: &SessionHandle) -> Result<Option<Change>> {
        let state = handle.state().await?;
        let Some(origin) = &state.origin else { return Ok(None) };
        let newest = self.forge.changes(Some(origin.repository), NEWEST).await?;
        match newest.into_iter().find(|change| change.session == Some(handle.id())) {
            Some(found) => Ok(self.forge.change(found.id).await?),
            None => match &state.change {
                Some(known) => Ok(self.forge.change(known.change).await?),
                None => Ok(None),
            },
        }
    }

    /// What the forge knows of the change and the log does not.
    async fn missing(&self, handle: &SessionHandle, change: &Change) -> Result<Vec<Event>> {
        let entries = handle.conversation().await?;
        let (id, number) = (change.id, change.number);
        let mut missing = vec![];
        if !is_told(&entries, |event| matches!(event, Event::ChangeOpened { change, .. } if *change == id)) {
            missing.push(Event::ChangeOpened {
                change: id,
                number,
                title: change.title.clone(),
                branch: change.branch.clone(),
                commit: change.head.clone(),
                author: change.author.clone(),
            });
        }
        for approval in &change.approvals {
            let same =
                |by| change.approvals.iter().filter(move |one| one.by == by && one.at_ms <= approval.at_ms);
            let told = entries.iter().filter(|entry| {
                matches!(&entry.event, Event::ChangeApproved { change, by, .. } if *change == id && *by == approval.by)
            });
            if told.count() < same(approval.by).count() {
                let (by, name) = (approval.by, approval.name.clone());
                missing.push(Event::ChangeApproved { change: id, number, by, name });
            }
        }
        let is_merge = |event: &Event| matches!(event, Event::ChangeMerged { change, .. } if *change == id);
        if let (ChangeState::Merged, Some(commit), Some(by)) =
            (change.state, &change.merge_commit, change.merged_by)
            && !is_told(&entries, is_merge)
        {
            let person = self.directory.person(by).await?;
            let name = person.map_or_else(|| "Somebody who is gone".to_owned(), |person| person.name);
            missing.push(Event::ChangeMerged { change: id, number, commit: commit.clone(), by, name });
        }
        Ok(missing)
    }
}

fn is_told(entries: &[Entry], is_it: impl Fn(&Event) -> bool) -> bool {
    entries.iter().any(|entry| is_it(&entry.event))
}
