//! The one place that is told when somebody's rights changed, so that streams which are open ask again at once whether
//! their caller may still see what they show. Whoever changes a role, a membership or a credential tells it here, after
//! the change is stored.

use greenroom_domain::{PersonId, SessionId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

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
                Ok(RightsOf::Person(changed)) if Some(changed) == person => return,
                Ok(RightsOf::Session(changed)) if Some(changed) == session => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
