//! The one place that is told when somebody's rights changed, so that streams which are open ask again at once whether
//! their caller may still see what they show. Whoever changes a role, a membership or a credential tells it here, after
//! the change is stored.

use greenroom_domain::{PersonId, SessionId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Changes that a stream may be behind; one that is further behind asks again in any case.
const BEHIND: usize = 256;

/// Whose rights changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsOf {
    /// Their role, or what they signed in with.
    Person(PersonId),
    /// Who may see or use it.
    Session(SessionId),
}

impl RightsOf {
    fn concerns(self, person: Option<PersonId>, session: Option<SessionId>) -> bool {
        match self {
            Self::Person(changed) => Some(changed) == person,
            Self::Session(changed) => Some(changed) == session,
        }
    }
}

#[derive(Debug)]
pub struct Rights(broadcast::Sender<RightsOf>);

impl Default for Rights {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Rights {
    pub fn changed(&self, of: RightsOf) {
        // Nobody may have a stream open.
        let _ = self.0.send(of);
    }

    /// Changes from now on.
    pub fn changes(&self) -> RightsChanges {
        RightsChanges(self.0.subscribe())
    }
}

#[derive(Debug)]
pub struct RightsChanges(broadcast::Receiver<RightsOf>);

impl RightsChanges {
    /// Waits for the next change that may concern this person or this session. Cancel safe.
    pub async fn concerning(&mut self, person: Option<PersonId>, session: Option<SessionId>) {
        loop {
            match self.0.recv().await {
                Ok(of) if of.concerns(person, session) => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Whether one has been told by now that may concern them.
    pub(crate) fn has_concerned(&mut self, person: Option<PersonId>, session: Option<SessionId>) -> bool {
        loop {
            match self.0.try_recv() {
                Ok(of) if of.concerns(person, session) => return true,
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => return true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_without_waiting_and_only_by_whom_it_may_concern() {
        let (rights, person, session) =
            (Rights::default(), PersonId::from_parts(1, 1), SessionId::from_parts(1, 1));
        let has_concerned = |changes: &mut RightsChanges| changes.has_concerned(Some(person), Some(session));
        for of in [RightsOf::Person(person), RightsOf::Session(session)] {
            let mut changes = rights.changes();
            rights.changed(RightsOf::Person(PersonId::from_parts(1, 2)));
            rights.changed(RightsOf::Session(SessionId::from_parts(1, 2)));
            assert!(!has_concerned(&mut changes));
            rights.changed(of);
            assert!(has_concerned(&mut changes));
        }
        let mut behind = rights.changes();
        (0..=BEHIND).for_each(|_| rights.changed(RightsOf::Person(PersonId::from_parts(1, 2))));
        assert!(has_concerned(&mut behind), "what it missed may have concerned them");
    }
}
