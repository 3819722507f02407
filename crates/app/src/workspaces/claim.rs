//! From an image to a running sandbox: which image, whose place, the claim and its policy.

use super::words::{phase, problem_of_sandbox, unknown_session};
use super::{Begun, IMAGE_DEADLINE, Stages};
use crate::{Inner, Result};
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{ErrorCode, Problem, SessionId, SessionState};
use greenroom_image::ImageManifest;
use greenroom_sandbox::{ClaimSpec, Fence, Sandbox, Workspace};
use greenroom_session::SessionHandle;
use std::sync::Arc;
use std::time::Instant;

impl Inner {
    /// Every step has its own deadline: the image, the claim, the sync.
    pub(super) async fn claim_and_sync(
        self: &Arc<Self>,
        handle: &SessionHandle,
        begun: &Begun,
    ) -> Result<(Arc<dyn Sandbox>, Stages)> {
        let state = handle.state().await?;
        let manifest = tokio::select! {
            manifest = self.image_of(handle, &state) => manifest?,
            () = begun.give_up.cancelled() => {
                return Err(Problem::new(ErrorCode::Interrupted, "The sandbox is not needed any more."));
            }
        };
        self.make_room(handle.id()).await?;
        self.claim_from(handle, &state, &manifest, begun.generation).await
    }

    /// The image the session's files stand on; for its first sandbox the newest good one, waited for if need be.
    async fn image_of(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
    ) -> Result<Arc<ImageManifest>> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        if let Some(image) = state.workspace.image.or(origin.image) {
            return self.manifest(image).await;
        }
        let repository = origin.repository;
        if let Some(image) = self.directory.newest_ready_image(repository).await? {
            return self.manifest(image.id).await;
        }
        let _ = handle.record(vec![phase(SandboxPhase::WaitingForImage, None)]).await;
        let image =
            tokio::time::timeout(IMAGE_DEADLINE, self.first_image(repository)).await.map_err(|_| {
                Problem::new(ErrorCode::Deadline, "The repository's first image was not built in time.")
                    .hint("`greenroom image list` shows what it is doing.")
            })??;
        self.manifest(image).await
    }

    /// Where the most sandboxes are alive already, ends the one that was used longest ago and has no running turn.
    async fn make_room(self: &Arc<Self>, session: SessionId) -> Result<()> {
        let most = self.config.max_sandboxes;
        for candidate in self.workspaces.oldest_beyond(most, session) {
            let Ok(handle) = self.sessions().get(candidate).await else { continue };
            if handle.state().await.is_ok_and(|state| state.running.is_none()) {
                self.end_sandbox(&handle, "another session needed its place").await;
                return Ok(());
            }
        }
        if self.workspaces.count() <= most {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::SessionBusy, format!("All {most} sandboxes of this server are at work."))
            .hint(
                "Send the prompt again when another turn has ended, or raise max_sandboxes in the settings.",
            ))
    }

    async fn claim_from(
        self: &Arc<Self>,
        handle: &SessionHandle,
        state: &SessionState,
        manifest: &ImageManifest,
        generation: u64,
    ) -> Result<(Arc<dyn Sandbox>, Stages)> {
        let spec = self.claim_spec(handle, manifest, generation).await?;
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let allow = crate::policy::allowed(&manifest.egress_allow, &self.config.registry)?;
        self.policies.grant_session(handle, origin, generation, allow, &manifest.secrets);
        let claiming = handle.record(vec![phase(SandboxPhase::Claiming, Some(manifest.id))]);
        let (claimed, recorded) = tokio::join!(self.sandboxes.claim(spec), claiming);
        let started = match (claimed, recorded) {
            (Ok(sandbox), recorded) => {
                let claimed = Instant::now();
                let synced = match recorded {
                    Ok(()) => self.sync(handle, state, manifest, &sandbox).await,
                    Err(problem) => Err(problem),
                };
                match synced {
                    Ok(()) => Ok((sandbox, claimed)),
                    Err(problem) => {
                        let _ = sandbox.destroy().await;
                        Err(problem)
                    }
                }
            }
            (Err(error), _) => Err(problem_of_sandbox(error)),
        };
        match started {
            Ok((sandbox, claimed)) => Ok((sandbox, Stages { claimed, synced: Instant::now() })),
            Err(problem) => {
                self.policies.revoke(&handle.id().to_string(), generation);
                Err(problem)
            }
        }
    }

    async fn claim_spec(
        &self,
        handle: &SessionHandle,
        manifest: &ImageManifest,
        generation: u64,
    ) -> Result<ClaimSpec> {
        let parts = manifest
            .claim_parts(self.images.layers(), &self.setup_for(manifest.repository, &manifest.secrets))
            .map_err(|error| error.problem())?;
        let session = handle.id();
        Ok(ClaimSpec {
            id: format!("{session}-{}-{generation}", handle.epoch()),
            fence: Fence { session: session.to_string(), epoch: handle.epoch(), generation },
            base: parts.base,
            layers: parts.layers,
            workspace: Workspace {
                directory: self.storage.workspace(&session.to_string()),
                begin_from: None,
            },
            binds: parts.binds,
            egress_ports: parts.egress_ports,
            resources: parts.resources,
            hostname: "greenroom".to_owned(),
            env: parts.env,
            is_background: false,
        })
    }

}
