//! What is asked again of a stream's caller while it is open: it outlives the moment at which they were checked. At once
//! when the app tells that rights changed, and now and then in any case, since a credential also ends by its age.

use super::{Credential, person_of};
use crate::ApiState;
use crate::extract::Caller;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_app::RightsChanges;
use greenroom_domain::{ErrorCode, Person, Problem, SessionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

const CHECK_AGAIN: Duration = Duration::from_secs(20);

/// Who somebody is, or why they are not let in any more.
type Checked = Result<Person, Problem>;

/// Credentials with open streams. Each is looked at by one task, however many streams it has.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<HashMap<Credential, watch::Sender<Checked>>>>);

impl Watched {
    /// Changes when there was reason to look, or the person is another than before; an error is the last.
    fn receiver(&self, state: ApiState, caller: &Caller) -> watch::Receiver<Checked> {
        let mut watched = self.lock();
        if let Some(sender) = watched.get(&caller.credential) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Ok(caller.person.clone()));
        watched.insert(caller.credential.clone(), sender);
        let changes = state.app.rights_changes();
        tokio::spawn(self.clone().look_after(state, caller.clone(), changes));
        receiver
    }

    async fn look_after(self, state: ApiState, caller: Caller, mut changes: RightsChanges) {
        let Caller { person, credential } = caller;
        let shutdown = state.shutdown.clone();
        let watching = async {
            // What changed between the check before this and `changes` was not told.
            let mut is_told = false;
            loop {
                match person_of(&state, &credential).await {
                    Ok(found) => self.found(&credential, found, is_told),
                    Err(problem) if problem.code == ErrorCode::NotSignedIn => {
                        if let Some(sender) = self.lock().remove(&credential) {
                            // What it was before is not asked for.
                            let _ = sender.send_replace(Err(problem));
                        }
                        return;
                    }
                    // It could not be found out: that takes nothing from anybody.
                    Err(problem) => tracing::warn!(%problem, "a stream's caller could not be checked again"),
                }
                let changed = changes.concerning(Some(person.id), None);
                is_told = tokio::time::timeout(CHECK_AGAIN, changed).await.is_ok();
                if self.is_unused(&credential) {
                    return;
                }
            }
        };
        // Streams end by themselves when the server stops; nothing of the app is held on to.
        let _ = shutdown.run_until_cancelled(watching).await;
    }

    fn found(&self, credential: &Credential, person: Person, is_told: bool) {
        if let Some(sender) = self.lock().get(credential) {
            sender.send_if_modified(|known| {
                let is_another = known.as_ref() != Ok(&person);
                *known = Ok(person);
                is_told || is_another
            });
        }
    }

    /// Then nobody can begin to use it before it is removed.
    fn is_unused(&self, credential: &Credential) -> bool {
        let mut watched = self.lock();
        let is_unused = watched.get(credential).is_none_or(|sender| sender.receiver_count() == 0);
        if is_unused {
            watched.remove(credential);
        }
        is_unused
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Credential, watch::Sender<Checked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each time there was reason to ask: the caller as they are now, or why they may not go on, which is the last.
pub(crate) type Standing = BoxStream<'static, Checked>;

struct Checks {
    state: ApiState,
    person: Person,
    checked: watch::Receiver<Checked>,
    session: Option<SessionId>,
    changes: RightsChanges,
}

/// Made before the stream itself is asked for: what changes after that is told. `session`: what the caller looks at,
/// where it is one session.
pub(crate) fn standing(state: ApiState, caller: &Caller, session: Option<SessionId>) -> Standing {
    let changes = state.app.rights_changes();
    let checked = state.watched.clone().receiver(state.clone(), caller);
    let checks = Checks { state, person: caller.person.clone(), checked, session, changes };
    let standing = stream::unfold(Some(checks), async |checks| {
        let mut checks = checks?;
        let checked = checks.next().await;
        let is_over = checked.is_err();
        Some((checked, (!is_over).then_some(checks)))
    });
    standing.boxed()
}

/// Ends when the caller may not look at the session any more.
pub(crate) async fn revoked(state: ApiState, caller: Caller, session: SessionId) {
    let standing = standing(state, &caller, Some(session));
    let mut over = std::pin::pin!(standing.filter_map(async |checked| checked.err()));
    over.next().await;
}

impl Checks {
    async fn next(&mut self) -> Checked {
        loop {
            self.wait().await;
            self.person = self.checked.borrow_and_update().clone()?;
            let Some(session) = self.session else { return Ok(self.person.clone()) };
            match self.state.app.session(&self.person, session).await {
                Ok(_) => return Ok(self.person.clone()),
                // To the caller it was there a moment ago: what they are told says both that can be.
                Err(problem) if problem.code == ErrorCode::SessionUnknown => return Err(out()),
                Err(problem) if ends(problem.code) => return Err(problem),
                Err(problem) => tracing::warn!(%problem, "a stream's session could not be checked again"),
            }
        }
    }

    /// Until there is reason to ask.
    async fn wait(&mut self) {
        // Looked after already when this stream began, and found to be another since its caller was checked.
        if self.checked.borrow().as_ref() != Ok(&self.person) {
            return;
        }
        tokio::select! {
            changed = self.checked.changed() => if changed.is_err() {
                // The server stops, which ends streams by itself.
                std::future::pending::<()>().await;
            },
            () = self.changes.concerning(None, self.session) => {}
        }
    }
}

fn out() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "The session was deleted, or you take no part in it any more.")
        .hint("Ask whoever let you in.")
}

fn ends(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotSignedIn | ErrorCode::NotAllowed | ErrorCode::SessionUnknown)
}
