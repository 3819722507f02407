//! One warm sandbox: made, synced to the head of its branch, its services up; synced again when the branch moves; ended.

use super::{Entry, Reservation, Stage, Warm};
use crate::services::Services;
use crate::workspaces::problem_of_sandbox;
use crate::workspaces::sync::{Landing, SyncTo, bring, furnish};
use crate::{Inner, Result};
use greenroom_directory::RepositoryRow;
use greenroom_domain::{BranchName, ErrorCode, Problem};
use greenroom_image::ImageManifest;
use greenroom_sandbox::{Fence, Workspace};
use greenroom_tasks::caught;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Commits that arrive while it is synced are followed this often; then it is given up.
const ROUNDS: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What an entry is made for.
pub(super) struct Making {
    pub(super) repository: RepositoryRow,
    pub(super) branch: BranchName,
    pub(super) manifest: Arc<ImageManifest>,
    pub(super) reserved: Option<Reservation>,
}

impl Inner {
    /// Puts an entry into the pool and begins to make it.
    pub(super) fn begin_entry(self: &Arc<Self>, making: Making) -> watch::Receiver<Stage> {
        let (stage, receiver) = watch::channel(Stage::Preparing);
        let number = self.pool.with(|state| {
            state.next += 1;
            let entry = Entry {
                repository: making.repository.id,
                branch: making.branch.clone(),
                image: making.manifest.id,
                made_at: Instant::now(),
                stage: stage.clone(),
                reserved: making.reserved,
            };
            state.entries.insert(state.next, entry);
            state.next
        });
        tokio::spawn(Arc::clone(self).make_entry(number, making, stage));
        receiver
    }

    async fn make_entry(self: Arc<Self>, number: u64, making: Making, stage: watch::Sender<Stage>) {
        let repository = making.repository.id;
        let (_, random) = self.id_parts();
        let name = format!("pool-{random:032x}");
        let fence = Fence { session: name, epoch: 1, generation: self.workspaces.next_generation() };
        let hold = self.images.hold(making.manifest.id);
        let made = match &hold {
            Some(_) => {
                let made = caught("making a warm sandbox", Box::pin(self.make_warm(&making, &fence))).await;
                made.unwrap_or_else(|panicked| Err(crate::broken(&panicked)))
            }
            None => Err(Problem::new(ErrorCode::ImageMissing, "The image is being removed.")),
        };
        match made {
            Ok(warm) => {
                self.pool.with(|state| state.failed.remove(&repository));
                let ended = Arc::clone(&warm.sandbox);
                // Whoever took the entry out of the pool meanwhile waits for this.
                stage.send_replace(Stage::Ready(warm));
                self.pool.wake();
                ended.ended().await;
                drop(hold);
                // One that was given away ended as the session's.
                self.pool.with(|state| state.entries.remove(&number));
            }
            Err(problem) => {
                if self.pool.is_on() {
                    let repository = &making.repository.name;
                    tracing::warn!(%repository, %problem, "no warm sandbox could be made");
                }
                self.policies.revoke(&fence.session, fence.generation);
                self.discard_workspace(&self.storage.workspace(&fence.session));
                stage.send_replace(Stage::Gone);
                self.pool.with(|state| {
                    state.entries.remove(&number);
                    let times = state.failed.get(&repository).map_or(1, |(_, times)| times + 1);
                    let pause = FIRST_PAUSE.saturating_mul(1 << times.min(8)).min(LONGEST_PAUSE);
                    state.failed.insert(repository, (Instant::now() + pause, times));
                });
            }
        }
        self.pool.wake();
    }

    async fn make_warm(&self, making: &Making, fence: &Fence) -> Result<Warm> {
        let manifest = &making.manifest;
        let allow = crate::policy::allowed(&manifest.egress_allow, &self.config.registry)?;
        self.policies.grant_scratch(fence, &making.repository, allow, &manifest.secrets, None);
        let workspace = Workspace { directory: self.storage.workspace(&fence.session), begin_from: None };
        let spec = self.spec_of(manifest, fence.session.clone(), fence.clone(), workspace)?;
        let sandbox = self.sandboxes.claim(spec).await.map_err(problem_of_sandbox)?;
        let services = Services::new(manifest, Arc::clone(&sandbox), None);
        let landing = Landing::none(manifest.commit.clone());
        let warm = Warm { sandbox, fence: fence.clone(), manifest: Arc::clone(manifest), landing, services };
        let preparing = Box::pin(async {
            if let Err(problem) = furnish(&warm.sandbox).await {
                // Only its session's first milliseconds depend on it.
                tracing::debug!(%problem, "a warm sandbox is not furnished");
            }
            let warm = self.follow_branch(&warm, making.repository.id, &making.branch).await?;
            warm.services.start_all();
            warm.services.all_settled().await;
            // Services take their time: the branch may have moved on.
            self.follow_branch(&warm, making.repository.id, &making.branch).await
        });
        let prepared = caught("preparing a warm sandbox", preparing).await;
        let prepared = prepared.unwrap_or_else(|panicked| Err(crate::broken(&panicked)));
        if prepared.is_err() {
            warm.services.stop();
            let _ = warm.sandbox.destroy().await;
        }
        prepared
    }

    /// Until it stands at the head of the branch.
    async fn follow_branch(
        &self,
        warm: &Warm,
        repository: greenroom_domain::RepositoryId,
        branch: &BranchName,
    ) -> Result<Warm> {
        let mut warm = warm.clone();
        for _ in 0..ROUNDS {
            let head = self.forge.branch_head(repository, branch).await?.ok_or_else(|| {
                Problem::new(ErrorCode::InvalidRequest, format!("The repository has no branch {branch}."))
            })?;
            if head == *warm.commit() {
                return Ok(warm);
            }
            let to =
                SyncTo { from: warm.commit(), head: &head, base: branch, branch: None, is_of_base: true };
            let landed = bring(&warm.sandbox, &warm.manifest, &warm.services, &to).await?;
            warm.landing = warm.landing.then(landed);
        }
        Err(Problem::new(
            ErrorCode::SandboxFailed,
            format!("The branch {branch} moves faster than it is followed."),
        ))
    }

    /// Syncs an entry whose branch moved; it is not offered meanwhile.
    pub(super) fn follow_again(self: &Arc<Self>, number: u64) {
        let found = self.pool.with(|state| {
            let entry = state.entries.get(&number)?;
            let warm = entry.warm()?;
            entry.stage.send_replace(Stage::Preparing);
            Some((warm, entry.repository, entry.branch.clone(), entry.stage.clone()))
        });
        let Some((warm, repository, branch, stage)) = found else { return };
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let following = Box::pin(app.follow_branch(&warm, repository, &branch));
            let followed = caught("syncing a warm sandbox", following).await;
            match followed.unwrap_or_else(|panicked| Err(crate::broken(&panicked))) {
                Ok(warm) => drop(stage.send_replace(Stage::Ready(warm))),
                Err(problem) => {
                    tracing::warn!(%problem, "a warm sandbox could not follow its branch");
                    stage.send_replace(Stage::Gone);
                    app.pool.with(|state| state.entries.remove(&number));
                    app.end_warm(warm).await;
                }
            }
            app.pool.wake();
        });
    }

    /// Ends a sandbox that is in no pool any more.
    pub(super) async fn end_warm(&self, warm: Warm) {
        warm.services.stop();
        if let Err(error) = warm.sandbox.destroy().await {
            tracing::warn!(%error, "a warm sandbox did not end in order");
        }
        self.policies.revoke(&warm.fence.session, warm.fence.generation);
        self.discard_workspace(&self.storage.workspace(&warm.fence.session));
    }

    /// Takes an entry out of the pool and ends it, whatever it is at.
    pub(super) fn end_entry(self: &Arc<Self>, number: u64) {
        let Some(entry) = self.pool.with(|state| state.entries.remove(&number)) else { return };
        let app = Arc::clone(self);
        let mut stage = entry.stage.subscribe();
        tokio::spawn(async move {
            let settled = stage.wait_for(|stage| !matches!(stage, Stage::Preparing)).await;
            let settled = settled.map(|stage| stage.clone());
            if let Ok(Stage::Ready(warm)) = settled {
                app.end_warm(warm).await;
            }
            app.pool.wake();
        });
    }
}
