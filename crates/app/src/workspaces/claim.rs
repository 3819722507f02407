//! From an image to a running sandbox: which image, whose place, a warm one or a new one, its policy.

use super::reader::Reader;
use super::sync::{Landing, SyncTo};
use super::words::{phase, problem_of_sandbox};
use super::{Begun, IMAGE_DEADLINE, Ready, Slot, Stages};
use crate::images::ImageUse;
use crate::restore::Files;
use crate::services::Services;
use crate::{Inner, Result};
use greenroom_domain::access::unknown_session;
use greenroom_domain::event::{ImportedWork, SandboxPhase, SandboxStart};
use greenroom_domain::state::Origin;
use greenroom_domain::{CommitHash, ErrorCode, Event, Problem, SessionState};
use greenroom_image::ImageManifest;
use greenroom_sandbox::{ClaimSpec, Fence, Sandbox, Workspace};
use greenroom_session::SessionHandle;
use std::sync::Arc;
use std::time::Instant;

/// What a session's sandbox is made for.
pub(crate) struct Wanted<'a> {
    pub(crate) handle: &'a SessionHandle,
    /// When the claim began: the session may hibernate and be woken while it is made.
    pub(crate) epoch: u64,
    pub(crate) state: &'a SessionState,
    pub(crate) origin: &'a Origin,
    pub(crate) manifest: Arc<ImageManifest>,
    pub(crate) files: Files,
    pub(crate) begun: &'a Begun,
}

impl Wanted<'_> {
    /// The session's first sandbox: nothing of it is on the disk that counts.
    pub(crate) fn is_first(&self) -> bool {
        self.files == Files::New
    }

    /// The commits that an import brought, for a sandbox that begins from nothing else.
    pub(crate) fn imported(&self) -> Option<&ImportedWork> {
        let point = self.origin.imported_from.as_ref().filter(|_| self.is_first());
        point.and_then(|point| point.work.as_ref())
    }

    /// What the session's change is a change of, when its files begin at this commit.
    fn base_of<'b>(&'b self, begun: &'b CommitHash) -> &'b CommitHash {
        self.imported().and_then(|work| work.base.as_ref()).unwrap_or(begun)
    }

    /// Reads are answered from the image's commit until the sandbox is ready.
    pub(crate) fn reads_come_early(&self, is_it: bool) -> Option<Arc<Reader>> {
        if !is_it {
            return None;
        }
        let reader =
            Arc::new(Reader::new(self.handle.id(), self.begun.generation, Arc::clone(&self.manifest)));
        self.begun.slot.send_replace(Slot::Claimed { reader: Arc::clone(&reader) });
        Some(reader)
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { session: self.handle.id().to_string(), epoch: self.epoch, generation: self.begun.generation }
    }

    /// Of the sandbox.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}-{}", self.handle.id(), self.epoch, self.begun.generation)
    }
}

impl Inner {
    /// Every step has its own deadline: the image, the claim, the sync.
    pub(super) async fn claim_and_sync(
        self: &Arc<Self>,
        handle: &SessionHandle,
        begun: &Begun,
    ) -> Result<Ready> {
        let state = handle.state().await?;
        begun.slot.send_replace(Slot::Making);
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        self.admit_sandbox(origin.author.on_behalf_of, handle.id()).await?;
        // Until the log says which image the session's files stand on.
        let (manifest, _hold) = tokio::select! {
            manifest = self.image_of(handle, &state) => manifest?,
            () = begun.give_up.cancelled() => {
                return Err(Problem::new(ErrorCode::Interrupted, "The sandbox is not needed any more."));
            }
        };
        let files = self.restore_point(handle, &state).await?;
        let wanted = Wanted { handle, epoch: handle.epoch(), state: &state, origin, manifest, files, begun };
        if let Some(ready) = self.take_warm(&wanted).await? {
            return Ok(ready);
        }
        self.make_room(handle.id()).await?;
        let granted = self.grant(&wanted);
        let made = match granted {
            Ok(()) => self.claim_new(&wanted).await,
            Err(problem) => Err(problem),
        };
        if made.is_err() {
            self.policies.revoke(&handle.id().to_string(), begun.generation);
        }
        made
    }

    /// The image the session's files stand on; for its first sandbox the newest good one, waited for if need be.
    async fn image_of(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
    ) -> Result<(Arc<ImageManifest>, Option<ImageUse>)> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        if let Some(image) = state.workspace.image.or(origin.image)
            && let Some(manifest) = self.manifest_if_known(image).await?
        {
            return Ok((manifest, None));
        }
        let repository = origin.repository;
        // Again where a newer one took its place at this very moment.
        while let Some(image) = self.newest_image(repository).await? {
            let hold = self.images.hold(image);
            if hold.is_some() && self.directory.image(image).await?.is_some() {
                return Ok((self.manifest(image).await?, hold));
            }
        }
        let _ = handle.record(vec![phase(SandboxPhase::WaitingForImage, None)]).await;
        let image =
            tokio::time::timeout(IMAGE_DEADLINE, self.first_image(repository)).await.map_err(|_| {
                Problem::new(ErrorCode::Deadline, "The repository's first image was not built in time.")
                    .hint("`greenroom image list` shows what it is doing.")
            })??;
        Ok((self.manifest(image).await?, self.images.hold(image)))
    }

    /// Before the sandbox has the identity that this is granted to.
    pub(crate) fn grant(&self, wanted: &Wanted<'_>) -> Result<()> {
        let allow = crate::policy::allowed(&wanted.manifest.egress_allow, &self.config.registry)?;
        self.policies.grant_session(
            wanted.handle,
            wanted.origin,
            wanted.begun.generation,
            allow,
            &wanted.manifest.secrets,
        );
        Ok(())
    }

    async fn claim_new(self: &Arc<Self>, wanted: &Wanted<'_>) -> Result<Ready> {
        let workspace = self.workspace_for(wanted);
        let spec = self.spec_of(&wanted.manifest, wanted.id(), wanted.fence(), workspace)?;
        let claiming = wanted.handle.record(vec![phase(SandboxPhase::Claiming, Some(wanted.manifest.id))]);
        let (claimed, recorded, head) =
            tokio::join!(self.sandboxes.claim(spec), claiming, self.head_for(wanted));
        let sandbox = claimed.map_err(problem_of_sandbox)?;
        let claimed = Instant::now();
        let services = Services::new(&wanted.manifest, Arc::clone(&sandbox), Some(wanted.handle.clone()));
        let synced = match (recorded, head) {
            (Ok(()), Ok(head)) => self.sync(wanted, &sandbox, &services, head).await,
            (Err(problem), _) | (_, Err(problem)) => Err(problem),
        };
        if let Err(problem) = synced {
            services.stop();
            let _ = sandbox.destroy().await;
            return Err(problem);
        }
        let made_from = if sandbox.was_blank() { SandboxStart::Blank } else { SandboxStart::Cold };
        let restored = (!wanted.is_first()).then_some(claimed);
        let stages = Stages { made_from, claimed, restored, synced: Instant::now() };
        Ok(Ready { sandbox, stages, services, manifest: Arc::clone(&wanted.manifest) })
    }

    /// Files of a first sandbox that never became ready do not count.
    fn workspace_for(&self, wanted: &Wanted<'_>) -> Workspace {
        let directory = self.storage.workspace(&wanted.handle.id().to_string());
        if wanted.is_first() && directory.exists() {
            self.discard_workspace(&directory);
        }
        let begin_from = match &wanted.files {
            Files::Copy(snapshot) => Some(snapshot.clone()),
            Files::New | Files::Kept => None,
        };
        Workspace { directory, begin_from }
    }

    /// What a first sandbox is synced to; `None` for a session that has begun: it keeps its files.
    async fn head_for(&self, wanted: &Wanted<'_>) -> Result<Option<CommitHash>> {
        if !wanted.is_first() {
            return Ok(None);
        }
        if let Some(work) = wanted.imported() {
            return Ok(Some(work.head.clone()));
        }
        let head = self.forge.branch_head(wanted.origin.repository, &wanted.origin.base_branch).await?;
        Ok(Some(head.unwrap_or_else(|| wanted.manifest.commit.clone())))
    }

    /// Brings a first sandbox to the head of its base branch, on the session's own branch.
    async fn sync(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        sandbox: &Arc<dyn Sandbox>,
        services: &Services,
        head: Option<CommitHash>,
    ) -> Result<()> {
        let manifest = &wanted.manifest;
        self.sandbox_begins(wanted.handle, wanted.state, sandbox, &wanted.files).await;
        let Some(head) = head else {
            self.take_own_branch(wanted.state, sandbox).await?;
            return wanted.handle.record(vec![phase(SandboxPhase::Ready, None)]).await;
        };
        if head == manifest.commit {
            super::sync::start_branch(sandbox, &head, &wanted.origin.branch).await?;
            return wanted.handle.record(vec![ready_at(manifest, wanted.base_of(&head), None)]).await;
        }
        let reader = wanted.reads_come_early(true);
        let to = SyncTo {
            from: &manifest.commit,
            head: &head,
            base: &wanted.origin.base_branch,
            branch: Some(&wanted.origin.branch),
            is_of_base: wanted.imported().is_none(),
        };
        let synced = match wanted.handle.record(vec![phase(SandboxPhase::Syncing, None)]).await {
            Ok(()) => super::sync::bring(sandbox, manifest, services, &to).await,
            Err(problem) => Err(problem),
        };
        let told = match synced {
            Ok(landing) => self.landed(wanted, &landing, vec![]).await,
            Err(problem) => Err(problem),
        };
        if let Some(reader) = reader {
            let app = Arc::clone(self);
            tokio::spawn(async move { reader.close(&app).await });
        }
        told
    }

    /// Newer commits are in the session's sandbox: its log, its people and its agent are told. `more` is told with it.
    pub(crate) async fn landed(
        &self,
        wanted: &Wanted<'_>,
        landing: &Landing,
        more: Vec<Event>,
    ) -> Result<()> {
        let problem = landing.problem();
        let mut events = vec![];
        if landing.from != landing.to {
            let remarks: Vec<String> = problem.iter().map(|problem| problem.message.clone()).collect();
            self.memories.files(wanted.handle.id()).synced(&landing.changed, &remarks);
            events.push(landing.event());
        }
        events.push(ready_at(&wanted.manifest, wanted.base_of(&landing.to), problem));
        events.extend(more);
        wanted.handle.record(events).await
    }

    /// Of every process in a sandbox over the image.
    pub(crate) fn env_of(&self, manifest: &ImageManifest) -> Vec<(String, String)> {
        let setup = self.setup_for(manifest.repository, &manifest.secrets);
        greenroom_image::environment::environment(&setup.env, &manifest.env)
    }

    pub(crate) fn spec_of(
        &self,
        manifest: &ImageManifest,
        id: String,
        fence: Fence,
        workspace: Workspace,
    ) -> Result<ClaimSpec> {
        let parts = manifest
            .claim_parts(self.images.layers(), &self.setup_for(manifest.repository, &manifest.secrets))
            .map_err(|error| error.problem())?;
        Ok(ClaimSpec {
            id,
            fence,
            base: parts.base,
            layers: parts.layers,
            workspace,
            binds: parts.binds,
            egress_ports: parts.egress_ports,
            resources: parts.resources,
            hostname: greenroom_image::HOSTNAME.to_owned(),
            env: parts.env,
            is_background: false,
        })
    }
}

pub(crate) fn ready_at(manifest: &ImageManifest, commit: &CommitHash, problem: Option<Problem>) -> Event {
    Event::SandboxChanged {
        state: SandboxPhase::Ready,
        image: Some(manifest.id),
        commit: Some(commit.clone()),
        problem,
    }
}
