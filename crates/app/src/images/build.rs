//! One build from its request to its record.

use super::{Look, PROGRESS_EVENTS, Running, fingerprint, internal, view_of};
use crate::{Inner, Result};
use greenroom_broker::FORGE_HOST;
use greenroom_directory::{ImageRow, ImageState, RepositoryRow};
use greenroom_domain::{ErrorCode, ImageId, Problem};
use greenroom_image::{BuildEvent, BuildRequest, Builder, Exchanged, ImageManifest};
use greenroom_tasks::caught;
use greenroom_wire::{ImageView, StepView};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What a build waits for the repository's source.
const SOURCE_PATIENCE: Duration = Duration::from_secs(30);

/// Where an image comes from.
enum Work {
    Make(Look),
    Import(Box<Exchanged>),
}

impl Work {
    fn looks_at_source(&self) -> bool {
        matches!(self, Self::Make(Look::AtSource))
    }
}

/// A place in `Images::running`.
struct Begun {
    image: ImageId,
    cancel: CancellationToken,
    written: watch::Sender<u64>,
}

impl Inner {
    /// Answers the running build where there is one, which then is followed by another if the branch moved meanwhile.
    pub(crate) async fn start_build(
        self: &Arc<Self>,
        repository: &RepositoryRow,
        look: Look,
    ) -> Result<ImageView> {
        match self.reserve_build(repository, Some(look)) {
            Ok(begun) => self.begin_build(repository, begun, Work::Make(look)).await,
            Err(known) => Ok(view_of(self.image_row(known).await?)),
        }
    }

    /// In place of the build that is running, which is cancelled.
    pub(super) async fn start_import(
        self: &Arc<Self>,
        repository: &RepositoryRow,
        exchanged: Exchanged,
    ) -> Result<ImageView> {
        self.images.cancel_build_of(repository.id).await;
        let begun = self.reserve_build(repository, None).map_err(|_| {
            let message = format!("Another image of {} is being made.", repository.name);
            Problem::new(ErrorCode::TooManyRequests, message).hint("Import again in a moment.")
        })?;
        self.begin_build(repository, begun, Work::Import(Box::new(exchanged))).await
    }

    /// The one place of a repository; taken, it answers by whom.
    fn reserve_build(&self, repository: &RepositoryRow, look: Option<Look>) -> Result<Begun, ImageId> {
        let (at, random) = self.id_parts();
        let image = ImageId::from_parts(at, random);
        let (written, watched) = watch::channel(0);
        let cancel = CancellationToken::new();
        let running = Running { image, cancel: cancel.clone(), written: watched, wanted_again: None };
        self.images.with_running(|builds| match builds.get_mut(&repository.id) {
            Some(known) => {
                known.wanted_again = known.wanted_again.max(look);
                Err(known.image)
            }
            None => {
                builds.insert(repository.id, running);
                Ok(Begun { image, cancel, written })
            }
        })
    }

    async fn begin_build(
        self: &Arc<Self>,
        repository: &RepositoryRow,
        begun: Begun,
        work: Work,
    ) -> Result<ImageView> {
        let row = ImageRow {
            id: begun.image,
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
        tokio::spawn(Arc::clone(self).build(repository.clone(), row, work, begun.cancel, begun.written));
        Ok(view)
    }

    /// Runs one build to its end and records what became of it.
    async fn build(
        self: Arc<Self>,
        repository: RepositoryRow,
        mut row: ImageRow,
        work: Work,
        cancel: CancellationToken,
        written: watch::Sender<u64>,
    ) {
        if work.looks_at_source() {
            self.look_at_source(&repository, &cancel).await;
        }
        let begun = Instant::now();
        let policy = BuildPolicy { app: Arc::clone(&self), image: row.id };
        let running = Box::pin(self.plan_and_run(&repository, &mut row, work, cancel, &written));
        let built = caught("the build of an image", running).await;
        let built = built.unwrap_or_else(|panicked| Err(crate::broken(&panicked)));
        drop(policy);
        self.telemetry.image_built(built.is_ok(), begun.elapsed());
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
        work: Work,
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
        let plan = match work {
            Work::Make(_) => builder.plan(request).await,
            Work::Import(exchanged) => builder.plan_import(request, *exchanged).await,
        };
        let plan = plan.map_err(|failure| failure.problem)?;
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
