//! One build from its request to its record.

use super::{Look, PROGRESS_EVENTS, Running, fingerprint, internal, view_of};
use crate::{Inner, Result};
use greenroom_broker::FORGE_HOST;
use greenroom_directory::{ImageRow, ImageState, RepositoryRow};
use greenroom_domain::{ErrorCode, ImageId};
use greenroom_image::{BuildEvent, BuildRequest, Builder, ImageManifest};
use greenroom_wire::{ImageView, StepView};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What a build waits for the repository's source.
const SOURCE_PATIENCE: Duration = Duration::from_secs(30);

impl Inner {
    /// Answers the running build where there is one, which then is followed by another if the branch moved meanwhile.
    pub(crate) async fn start_build(
        self: &Arc<Self>,
        repository: &RepositoryRow,
        look: Look,
    ) -> Result<ImageView> {
        let (at, random) = self.id_parts();
        let image = ImageId::from_parts(at, random);
        let (written_to, written) = watch::channel(0);
        let cancel = CancellationToken::new();
        let running = Running { image, cancel: cancel.clone(), written, wanted_again: None };
        let known = self.images.with_running(|builds| match builds.get_mut(&repository.id) {
            Some(known) => {
                known.wanted_again = known.wanted_again.max(Some(look));
                Some(known.image)
            }
            None => {
                builds.insert(repository.id, running);
                None
            }
        });
        if let Some(known) = known {
            return Ok(view_of(self.image_row(known).await?));
        }
        let row = ImageRow {
            id: image,
            repository: repository.id,
            state: ImageState::Building,
            commit: None,
            steps: serde_json::json!([]),
            problem: None,
            started_at_ms: self.now_ms(),
            finished_at_ms: None,
        };
        if let Err(error) = self.directory.put_image(row.clone()).await {
            self.images.with_running(|builds| builds.remove(&repository.id));
            return Err(error.into());
        }
        let view = view_of(row.clone());
        tokio::spawn(Arc::clone(self).build(repository.clone(), row, look, cancel, written_to));
        Ok(view)
    }

    /// Runs one build to its end and records what became of it.
    async fn build(
        self: Arc<Self>,
        repository: RepositoryRow,
        mut row: ImageRow,
        look: Look,
        cancel: CancellationToken,
        written: watch::Sender<u64>,
    ) {
        if look == Look::AtSource {
            self.look_at_source(&repository, &cancel).await;
        }
        let policy = BuildPolicy { app: Arc::clone(&self), image: row.id };
        let built = self.plan_and_run(&repository, &mut row, cancel, &written).await;
        drop(policy);
        row.finished_at_ms = Some(self.now_ms());
        match built {
            Ok(manifest) => {
                row.state = ImageState::Ready;
                row.steps = steps_json(&manifest);
            }
            Err(problem) => {
                tracing::warn!(image = %row.id, repository = %repository.name, %problem, "the image was not built");
                row.state = ImageState::Failed;
                row.problem = Some(problem);
            }
        }
        if let Err(error) = self.directory.put_image(row).await {
            tracing::error!(%error, "the end of a build could not be recorded");
        }
        let over = self.images.with_running(|builds| builds.remove(&repository.id));
        self.pool.wake();
        drop(written);
        if let Err(problem) = self.prune_images(&repository).await {
            tracing::warn!(repository = %repository.name, %problem, "old images could not be removed");
        }
        if let Err(problem) = self.keep_layers_within_limit().await {
            tracing::warn!(repository = %repository.name, %problem, "image layers take too much of the disk");
        }
        let again = over.filter(|over| !over.cancel.is_cancelled()).and_then(|over| over.wanted_again);
        if let Some(look) = again {
            self.build_in_background(repository, look);
        }
    }

    /// Not for long: a build of what is here is better than none, and the look goes on.
    async fn look_at_source(self: &Arc<Self>, repository: &RepositoryRow, cancel: &CancellationToken) {
        let (inner, repository) = (Arc::clone(self), repository.clone());
        let look = tokio::spawn(async move { inner.refresh_source(&repository, || ()).await });
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = tokio::time::timeout(SOURCE_PATIENCE, look) => {}
        }
    }

    async fn plan_and_run(
        &self,
        repository: &RepositoryRow,
        row: &mut ImageRow,
        cancel: CancellationToken,
        written: &watch::Sender<u64>,
    ) -> Result<ImageManifest> {
        let image = row.id;
        let _place = self.images.places.acquire().await.map_err(|error| internal(&error))?;
        match self.keep_layers_within_limit().await {
            Err(problem) if problem.code == ErrorCode::DiskFull => return Err(problem),
            Err(problem) => tracing::warn!(%problem, "the room for layers could not be looked after"),
            Ok(()) => {}
        }
        // One that this version cannot read is not built upon.
        let previous = match self.directory.newest_ready_image(repository.id).await? {
            Some(previous) => self.manifest(previous.id).await.ok(),
            None => None,
        };
        let request = BuildRequest {
            image,
            repository: repository.id,
            name: repository.name.clone(),
            branch: repository.default_branch.clone(),
            setup: self.setup_for(repository.id, &[]),
            clone_url: format!("http://{FORGE_HOST}/{}.git", repository.name),
            previous,
            cancel,
        };
        let builder = Builder {
            base_fingerprint: fingerprint(&self.images.toolchains).await?,
            ..self.images.builder.clone()
        };
        let plan = builder.plan(request).await.map_err(|failure| failure.problem)?;
        // Now, so that nobody asks for the same commit again.
        row.commit = Some(plan.commit.clone());
        self.directory.put_image(row.clone()).await?;
        let allow = crate::policy::allowed(&plan.recipe.egress_allow, &self.config.registry)?;
        self.policies.grant_build(image, repository, allow);
        let (progress, events) = mpsc::channel(PROGRESS_EVENTS);
        let (built, ()) = tokio::join!(builder.run(plan, progress), follow(events, written));
        built.map_err(|failure| failure.problem)
    }
}

/// Takes the build's network access away with the build.
struct BuildPolicy {
    app: Arc<Inner>,
    image: ImageId,
}

impl Drop for BuildPolicy {
    fn drop(&mut self) {
        let fence = greenroom_image::build_fence(self.image);
        self.app.policies.revoke(&fence.session, fence.generation);
    }
}

async fn follow(mut events: mpsc::Receiver<BuildEvent>, written: &watch::Sender<u64>) {
    while events.recv().await.is_some() {
        written.send_modify(|count| *count += 1);
    }
}

fn steps_json(manifest: &ImageManifest) -> serde_json::Value {
    let steps = manifest.parts.iter().map(|step| StepView {
        name: step.name.clone(),
        is_reused: step.is_reused,
        duration_ms: step.duration_ms,
    });
    serde_json::to_value(steps.collect::<Vec<_>>()).unwrap_or_default()
}
