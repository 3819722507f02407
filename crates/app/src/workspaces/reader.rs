//! What can be read while newer commits are on their way into a session's sandbox: a scratch sandbox over the image's
//! layers, at the image's commit. Started by the first read that comes before the sync, shared by all of them, ended after
//! the last one. What is written in it goes with it.

use crate::Inner;
use greenroom_agent::Reading;
use greenroom_domain::SessionId;
use greenroom_image::ImageManifest;
use greenroom_sandbox::{Fence, Sandbox, Workspace};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

/// Reads that are going on end within this time, or with the reader.
const LAST_READS: std::time::Duration = std::time::Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Reader {
    session: SessionId,
    generation: u64,
    manifest: Arc<ImageManifest>,
    scratch: Mutex<Scratch>,
    /// One token for each read that is going on.
    reads: TaskTracker,
}

#[derive(Debug)]
enum Scratch {
    NotNeededYet,
    Running(Arc<dyn Sandbox>),
    /// It could not be made, or the sync is complete.
    Closed,
}

impl Reader {
    pub(super) fn new(session: SessionId, generation: u64, manifest: Arc<ImageManifest>) -> Self {
        Self {
            session,
            generation,
            manifest,
            scratch: Mutex::new(Scratch::NotNeededYet),
            reads: TaskTracker::new(),
        }
    }

    /// `None`: wait for the sync instead.
    pub(super) async fn reading(&self, app: &Arc<Inner>) -> Option<Reading> {
        let mut scratch = self.scratch.lock().await;
        if matches!(*scratch, Scratch::NotNeededYet) {
            *scratch = match app.claim_reader(self).await {
                Ok(sandbox) => Scratch::Running(sandbox),
                Err(problem) => {
                    tracing::warn!(session = %self.session, %problem, "reads wait for the sync");
                    Scratch::Closed
                }
            };
        }
        match &*scratch {
            Scratch::Running(sandbox) => Some(Reading {
                sandbox: Arc::clone(sandbox),
                is_before_sync: true,
                hold: Some(Box::new(self.reads.token())),
            }),
            _ => None,
        }
    }

    /// No further read begins here; the sandbox ends with the last one that is going on.
    pub(crate) async fn close(&self, app: &Arc<Inner>) {
        let before = std::mem::replace(&mut *self.scratch.lock().await, Scratch::Closed);
        let Scratch::Running(sandbox) = before else { return };
        self.reads.close();
        let _ = tokio::time::timeout(LAST_READS, self.reads.wait()).await;
        if let Err(error) = sandbox.destroy().await {
            tracing::warn!(session = %self.session, %error, "a reader did not end in order");
        }
        app.policies.revoke(&self.name(), self.generation);
        app.discard_workspace(&self.directory(app));
    }

    /// Of its fence and its workspace; never a session's.
    fn name(&self) -> String {
        format!("reader-{}-{}", self.session, self.generation)
    }

    fn directory(&self, app: &Inner) -> PathBuf {
        app.storage.workspace(&self.name())
    }
}

impl Inner {
    async fn claim_reader(&self, reader: &Reader) -> crate::Result<Arc<dyn Sandbox>> {
        let name = reader.name();
        let allow = crate::policy::allowed(&reader.manifest.egress_allow, &self.config.registry)?;
        let fence = Fence { session: name.clone(), epoch: 1, generation: reader.generation };
        let workspace = Workspace { directory: reader.directory(self), begin_from: None };
        let spec = self.spec_of(&reader.manifest, name, fence.clone(), workspace)?;
        if let Some(repository) = self.directory.repository(reader.manifest.repository).await? {
            let (secrets, session) = (&reader.manifest.secrets, Some(reader.session));
            self.policies.grant_scratch(&fence, &repository, allow, secrets, session);
        }
        self.sandboxes.claim(spec).await.map_err(super::problem_of_sandbox)
    }

    /// Out of sight at once, freed in the background; a leftover is swept at the next start.
    pub(crate) fn discard_workspace(&self, directory: &Path) {
        if let Err(error) = self.storage.discard(directory) {
            tracing::warn!(directory = %directory.display(), %error, "a workspace is left over");
        }
    }
}
