//! A session takes a warm sandbox: its own reservation first. Whatever stands in the way, the session starts without.

use super::{Stage, Warm};
use crate::workspaces::claim::Wanted;
use crate::workspaces::{Ready, Stages, sync};
use crate::{Inner, Result};
use greenroom_domain::event::SandboxStart;
use greenroom_domain::{CommitHash, Event, PersonId};
use greenroom_sandbox::{Error, Identity, Sandbox};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a session waits for its own reservation, whose work it would otherwise begin anew.
const RESERVATION_PATIENCE: Duration = Duration::from_secs(60);

/// What the pool has for a session. It is out of the pool already.
enum Found {
    Ready(Warm),
    /// Reserved for the session's person, and not ready yet.
    Preparing(watch::Receiver<Stage>),
}

impl Inner {
    /// The session's sandbox from the pool; `None`: there is none for it.
    pub(crate) async fn take_warm(self: &Arc<Self>, wanted: &Wanted<'_>) -> Result<Option<Ready>> {
        // The pool's are at the base branch's head.
        if !wanted.is_first() || wanted.imported().is_some() || !self.pool.is_on() {
            return Ok(None);
        }
        let taken = self.find_warm(wanted).await;
        let given = match taken {
            Some(warm) => self.give(wanted, warm).await?,
            None => None,
        };
        let (repository, now_ms) = (wanted.origin.repository, self.now_ms());
        self.pool.with(|state| state.demand.entry(repository).or_default().started(now_ms, given.is_some()));
        self.pool.wake();
        Ok(given)
    }

    async fn find_warm(self: &Arc<Self>, wanted: &Wanted<'_>) -> Option<Warm> {
        if !self.pool.has_any(wanted) {
            return None;
        }
        // Where the branch is now, not where it was when the entry was synced.
        let head =
            self.forge.branch_head(wanted.origin.repository, &wanted.origin.base_branch).await.ok()??;
        match self.pool.take(wanted, &head)? {
            Found::Ready(warm) => Some(warm),
            Found::Preparing(stage) => self.wait_for_reserved(wanted, stage, &head).await,
        }
    }

    /// Reads need not wait for what the reservation waits for.
    async fn wait_for_reserved(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        mut stage: watch::Receiver<Stage>,
        head: &CommitHash,
    ) -> Option<Warm> {
        let reader = wanted.reads_come_early(*head != wanted.manifest.commit);
        let mut late = stage.clone();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Preparing));
        let settled = match tokio::time::timeout(RESERVATION_PATIENCE, settled).await {
            Ok(Ok(stage)) => stage.clone(),
            _ => {
                // Too late for this session, and out of the pool: it ends when it is there.
                let app = Arc::clone(self);
                tokio::spawn(async move {
                    let settled = late.wait_for(|stage| !matches!(stage, Stage::Preparing)).await;
                    let settled = settled.map(|stage| stage.clone());
                    if let Ok(Stage::Ready(warm)) = settled {
                        app.end_warm(warm).await;
                    }
                });
                Stage::Gone
            }
        };
        if let Some(reader) = reader {
            let app = Arc::clone(self);
            tokio::spawn(async move { reader.close(&app).await });
        }
        match settled {
            Stage::Ready(warm) if warm.commit() == head => Some(warm),
            Stage::Ready(warm) => {
                self.end_warm(warm).await;
                None
            }
            Stage::Preparing | Stage::Gone => None,
        }
    }

    /// From here on the sandbox is the session's. What may reach the network as the session is granted before the sandbox
    /// carries its name, and what the pool's name was granted ends after.
    async fn give(self: &Arc<Self>, wanted: &Wanted<'_>, warm: Warm) -> Result<Option<Ready>> {
        self.grant(wanted)?;
        let identity = Identity {
            id: wanted.id(),
            fence: wanted.fence(),
            workspace: self.storage.workspace(&wanted.handle.id().to_string()),
            hostname: greenroom_image::HOSTNAME.to_owned(),
            env: self.env_of(&warm.manifest),
        };
        let rebound = self.sandboxes.rebind(warm.sandbox.id(), identity).await;
        let denials = self.policies.take_denials(&warm.fence.session);
        self.policies.revoke(&warm.fence.session, warm.fence.generation);
        let sandbox = match rebound {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::warn!(session = %wanted.handle.id(), %error, "a warm sandbox could not be given away");
                if matches!(error, Error::Unavailable { .. }) {
                    self.pool.turn_off();
                }
                self.policies.revoke(&wanted.handle.id().to_string(), wanted.begun.generation);
                self.end_warm(warm).await;
                return Ok(None);
            }
        };
        let claimed = Instant::now();
        match self.move_in(wanted, &warm, &sandbox, denials).await {
            Ok(()) => {}
            Err(problem) => {
                warm.services.stop();
                let _ = sandbox.destroy().await;
                return Err(problem);
            }
        }
        let stages =
            Stages { made_from: SandboxStart::Warm, claimed, restored: None, synced: Instant::now() };
        Ok(Some(Ready { sandbox, stages, services: warm.services, manifest: warm.manifest }))
    }

    /// The session's own branch, and what its log has to say: side by side, both before anyone uses the sandbox.
    async fn move_in(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        warm: &Warm,
        sandbox: &Arc<dyn Sandbox>,
        denials: Vec<Event>,
    ) -> Result<()> {
        let services = warm.services.hand_over(Arc::clone(sandbox), wanted.handle);
        let more = [services, denials].concat();
        let (branch, told) = tokio::join!(
            sync::start_branch(sandbox, warm.commit(), &wanted.origin.branch),
            self.landed(wanted, &warm.landing, more)
        );
        branch.and(told)
    }
}

impl super::Pool {
    fn has_any(&self, wanted: &Wanted<'_>) -> bool {
        self.with(|state| state.entries.values().any(|entry| entry.fits(wanted)))
    }

    /// Takes the best entry out of the pool. Ones that stand elsewhere than `head` are left to the keeper.
    fn take(&self, wanted: &Wanted<'_>, head: &CommitHash) -> Option<Found> {
        let person = wanted.origin.author.on_behalf_of;
        self.with(|state| {
            let mut found: Option<(bool, bool, u64)> = None;
            for (number, entry) in &state.entries {
                let is_own = entry.is_reserved_for(person);
                let is_ready = entry.warm().is_some_and(|warm| warm.commit() == head);
                let is_offered = entry.fits(wanted) && (is_ready || (is_own && entry.is_preparing()));
                // Own ones first, ready ones before those on their way, the oldest before younger ones.
                if is_offered && found.is_none_or(|(own, ready, _)| (is_own, is_ready) > (own, ready)) {
                    found = Some((is_own, is_ready, *number));
                }
            }
            let entry = state.entries.remove(&found?.2)?;
            Some(match entry.warm() {
                Some(warm) => Found::Ready(warm),
                None => Found::Preparing(entry.stage.subscribe()),
            })
        })
    }
}

impl super::Entry {
    fn fits(&self, wanted: &Wanted<'_>) -> bool {
        let person = wanted.origin.author.on_behalf_of;
        self.repository == wanted.origin.repository
            && self.branch == wanted.origin.base_branch
            && self.image == wanted.manifest.id
            && self.reserved.is_none_or(|reserved| reserved.person == person || reserved.is_over())
    }

    pub(super) fn is_reserved_for(&self, person: PersonId) -> bool {
        self.reserved.is_some_and(|reserved| reserved.person == person && !reserved.is_over())
    }
}

impl super::Reservation {
    pub(super) fn is_over(&self) -> bool {
        self.expires <= Instant::now()
    }
}
