//! What is asked again of a stream's caller while it is open: it outlives the moment at which they were checked. At once
//! when the app tells that rights changed, and now and then in any case: a credential also ends by its age, and what
//! could not be found out at once is asked again soon.

use super::{Credential, person_of};
use crate::ApiState;
use crate::extract::Caller;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_app::RightsChanges;
use greenroom_domain::{ErrorCode, Person, Problem, Right, SessionId};
use greenroom_tasks::keep;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A credential, for all of its streams.
const CHECK_AGAIN: Duration = Duration::from_secs(20);
/// A session, for each stream of it.
const CHECK_SESSION_AGAIN: Duration = Duration::from_secs(60);
/// After it could not be found out; then twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Who somebody is, or why they are not let in any more.
type Checked = Result<Arc<Person>, Problem>;

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
        let (sender, receiver) = watch::channel(Ok(Arc::clone(&caller.person)));
        watched.insert(caller.credential.clone(), sender);
        let (this, caller) = (self.clone(), caller.clone());
        // Told from now on of what changes, by whichever loop is the first to look.
        let mut changes = Some(state.app.rights_changes());
        tokio::spawn(keep("looking after a stream's caller", move || {
            let changes = changes.take().unwrap_or_else(|| state.app.rights_changes());
            this.clone().look_after(state.clone(), caller.clone(), changes)
        }));
        receiver
    }

    async fn look_after(self, state: ApiState, caller: Caller, mut changes: RightsChanges) {
        let Caller { person, credential } = caller;
        let shutdown = state.shutdown.clone();
        let watching = async {
            // What changed between the check before this and `changes` was not told.
            let mut is_told = false;
            let mut pause = CHECK_AGAIN;
            loop {
                match person_of(&state, &credential).await {
                    Ok(found) => {
                        self.found(&credential, found, is_told);
                        (is_told, pause) = (false, CHECK_AGAIN);
                    }
                    Err(problem) if problem.code == ErrorCode::NotSignedIn => {
                        if let Some(sender) = self.lock().remove(&credential) {
                            // What it was before is not asked for.
                            let _ = sender.send_replace(Err(problem));
                        }
                        return;
                    }
                    // It could not be found out: that takes nothing from anybody, and is asked again soon.
                    Err(problem) => {
                        tracing::warn!(%problem, "a stream's caller could not be checked again");
                        pause = after(pause, CHECK_AGAIN);
                    }
                }
                let changed = changes.concerning(Some(person.id), None);
                is_told |= tokio::time::timeout(pause, changed).await.is_ok();
                if self.is_unused(&credential) {
                    return;
                }
            }
        };
        // Streams end by themselves when the server stops; nothing of the app is held on to.
        let _ = shutdown.run_until_cancelled(watching).await;
    }

    fn found(&self, credential: &Credential, person: Arc<Person>, is_told: bool) {
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

/// Of one stream.
pub(crate) struct Checks {
    state: ApiState,
    person: Arc<Person>,
    checked: watch::Receiver<Checked>,
    /// What the caller looks at, and what they need for it.
    session: Option<(SessionId, Right)>,
    changes: RightsChanges,
    /// Whoever reads has not been told yet of what there was reason to ask for.
    is_owed: bool,
    pause: Duration,
}

/// Made before the stream itself is asked for: what changes after that is told. `session`: what the caller looks at,
/// where it is one session.
pub(crate) fn standing(state: ApiState, caller: &Caller, session: Option<SessionId>) -> Standing {
    Checks::begin(state, caller, session.map(|session| (session, Right::View))).standing()
}

impl Checks {
    /// From now on nothing that changes is missed.
    pub(crate) fn begin(state: ApiState, caller: &Caller, session: Option<(SessionId, Right)>) -> Self {
        let changes = state.app.rights_changes();
        let checked = state.watched.clone().receiver(state.clone(), caller);
        // The same for all streams of a credential, where it says the same.
        let person = match &*checked.borrow() {
            Ok(known) if *known == caller.person => Arc::clone(known),
            _ => Arc::clone(&caller.person),
        };
        Self { state, person, checked, session, changes, is_owed: false, pause: CHECK_SESSION_AGAIN }
    }

    /// The caller, as all streams of their credential share them.
    pub(crate) fn person(&self) -> Arc<Person> {
        Arc::clone(&self.person)
    }

    /// The same, where something else is needed in the session.
    pub(crate) fn needing(self, right: Right) -> Self {
        Self { session: self.session.map(|(session, _)| (session, right)), ..self }
    }

    pub(crate) fn standing(self) -> Standing {
        // Boxed: what is moved into a future and out of it is there twice.
        let standing = stream::unfold(Some(Box::new(self)), async |checks| {
            let mut checks = checks?;
            let checked = checks.next().await;
            let is_over = checked.is_err();
            Some((checked, (!is_over).then_some(checks)))
        });
        standing.boxed()
    }

    async fn next(&mut self) -> Checked {
        loop {
            self.is_owed |= self.wait().await;
            self.person = self.checked.borrow_and_update().clone()?;
            let Some((session, right)) = self.session else { break };
            // Seldom, and large: no part of every stream's own size.
            match Box::pin(self.may(session, right)).await {
                Ok(()) => self.pause = CHECK_SESSION_AGAIN,
                // To the caller it was there a moment ago: what they are told says both that can be.
                Err(problem) if problem.code == ErrorCode::SessionUnknown => return Err(out()),
                Err(problem) if ends(problem.code) => return Err(problem),
                Err(problem) => {
                    tracing::warn!(%problem, "a stream's session could not be checked again");
                    self.pause = after(self.pause, CHECK_SESSION_AGAIN);
                    continue;
                }
            }
            if self.is_owed {
                break;
            }
        }
        self.is_owed = false;
        Ok(Arc::clone(&self.person))
    }

    async fn may(&self, session: SessionId, right: Right) -> Result<(), Problem> {
        let asked = self.state.app.require_right(&self.person, session, right);
        tokio::time::timeout(ANSWER_TIME, asked).await.unwrap_or_else(|_| {
            Err(Problem::new(ErrorCode::Deadline, "The session did not say in time who may look at it."))
        })
    }

    /// Until there is reason to ask, which it answers, or it is time to ask in any case.
    async fn wait(&mut self) -> bool {
        // Looked after already when this stream began, and found to be another since its caller was checked.
        if self.checked.borrow().as_ref() != Ok(&self.person) {
            return true;
        }
        tokio::select! {
            changed = self.checked.changed() => if changed.is_err() {
                // The server stops, which ends streams by itself.
                std::future::pending::<()>().await;
            },
            () = self.changes.concerning(None, self.session.map(|(session, _)| session)) => {}
            () = tokio::time::sleep(self.pause), if self.session.is_some() => return false,
        }
        true
    }
}

/// The pause after one that ended without an answer.
fn after(pause: Duration, usual: Duration) -> Duration {
    if pause == usual { RETRY } else { (pause * 2).min(usual / 2) }
}

fn out() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "The session was deleted, or you take no part in it any more.")
        .hint("Ask whoever let you in.")
}

fn ends(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotSignedIn | ErrorCode::NotAllowed | ErrorCode::SessionUnknown)
}
