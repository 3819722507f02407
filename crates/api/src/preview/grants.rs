//! Who may look at which preview: tickets that are used once within half a minute, and what a preview's cookie stands
//! for. Both are kept in memory only, bounded; after a restart a preview is opened from its session again.

use super::Address;
use crate::extract::Caller;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const TICKET_AGE: Duration = Duration::from_secs(30);
pub(super) const GRANT_AGE: Duration = Duration::from_secs(12 * 60 * 60);
const TICKETS: usize = 1024;
const GRANTS: usize = 8192;

/// A person may look at one port of one session, as long as what they signed in with holds.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) caller: Caller,
    pub(crate) address: Address,
    /// The product's origin that they came from: it alone may frame the preview.
    pub(crate) page: String,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    tickets: Shelf,
    grants: Shelf,
}

/// By secret; the oldest goes when it is full.
#[derive(Default)]
struct Shelf(HashMap<String, (Grant, Instant)>);

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} kept", self.0.len())
    }
}

impl Shelf {
    fn put(&mut self, secret: String, grant: Grant, age: Duration, most: usize) {
        let now = Instant::now();
        if self.0.len() >= most {
            self.0.retain(|_, (_, until)| *until > now);
        }
        if self.0.len() >= most {
            let oldest = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(secret, _)| secret.clone());
            oldest.and_then(|secret| self.0.remove(&secret));
        }
        self.0.insert(secret, (grant, now + age));
    }
}

impl Grants {
    /// A ticket for the preview's own origin.
    pub(crate) fn issue(&self, grant: Grant) -> Result<String, getrandom::Error> {
        let ticket = secret()?;
        self.kept(|kept| kept.tickets.put(ticket.clone(), grant, TICKET_AGE, TICKETS));
        Ok(ticket)
    }

    /// What the cookie will hold, and for how many seconds. A ticket is gone after its first use, also at a wrong place.
    pub(super) fn redeem(&self, ticket: &str, at: Address) -> Option<(String, u64)> {
        let (grant, until) = self.kept(|kept| kept.tickets.0.remove(ticket))?;
        if until <= Instant::now() || grant.address != at {
            return None;
        }
        let secret = secret().ok()?;
        self.kept(|kept| kept.grants.put(secret.clone(), grant, GRANT_AGE, GRANTS));
        Some((secret, GRANT_AGE.as_secs()))
    }

    /// With the moment at which it ends.
    pub(super) fn find(&self, secret: &str, at: Address) -> Option<(Grant, Instant)> {
        let (grant, until) = self.kept(|kept| kept.grants.0.get(secret).cloned())?;
        (until > Instant::now() && grant.address == at).then_some((grant, until))
    }

    fn kept<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Credential;
    use greenroom_domain::{Person, PersonId, Role, SessionId};

    const HERE: u16 = 3000;

    fn at(port: u16) -> Address {
        Address { session: SessionId::from_parts(1, 1), port }
    }

    fn grant() -> Grant {
        let person = Arc::new(Person {
            id: PersonId::from_parts(1, 1),
            login: "ada".parse().unwrap(),
            name: "Ada".into(),
            email: "ada@example.com".into(),
            role: Role::Viewer,
        });
        let caller = Caller { person, credential: Credential::Cookie("secret".into()) };
        Grant { caller, address: at(HERE), page: "http://localhost".into() }
    }

    #[test]
    fn a_ticket_is_used_once_and_only_where_it_was_issued_for() {
        let grants = Grants::default();
        let ticket = grants.issue(grant()).unwrap();
        assert!(grants.redeem(&ticket, at(HERE + 1)).is_none());
        assert!(grants.redeem(&ticket, at(HERE)).is_none(), "burnt at the wrong place");
        let ticket = grants.issue(grant()).unwrap();
        let (secret, _) = grants.redeem(&ticket, at(HERE)).unwrap();
        assert!(grants.redeem(&ticket, at(HERE)).is_none());
        assert!(grants.find(&secret, at(HERE)).is_some() && grants.find(&secret, at(HERE + 1)).is_none());
        assert!(grants.find(&ticket, at(HERE)).is_none(), "a ticket is no cookie");
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_and_cookies_grow_old() {
        let grants = Grants::default();
        let late = grants.issue(grant()).unwrap();
        tokio::time::advance(TICKET_AGE).await;
        assert!(grants.redeem(&late, at(HERE)).is_none());
        let ticket = grants.issue(grant()).unwrap();
        let (secret, _) = grants.redeem(&ticket, at(HERE)).unwrap();
        tokio::time::advance(GRANT_AGE).await;
        assert!(grants.find(&secret, at(HERE)).is_none());
    }

    #[test]
    fn the_number_of_tickets_is_bounded() {
        let grants = Grants::default();
        let first = grants.issue(grant()).unwrap();
        for _ in 0..TICKETS {
            grants.issue(grant()).unwrap();
        }
        assert_eq!(grants.kept(|kept| kept.tickets.0.len()), TICKETS);
        assert!(grants.redeem(&first, at(HERE)).is_none());
    }
}
