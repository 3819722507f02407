//! Environment images: one build at a time for each repository, its log followed live, the newest good one used.

use crate::{App, AppConfig, Inner, Ports, Result, require};
use greenroom_broker::FORGE_HOST;
use greenroom_directory::{ImageRow, ImageState, RepositoryRow};
use greenroom_domain::{ErrorCode, ImageId, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_image::{BuildEvent, BuildRequest, Builder, ImageManifest, LayerStore, SandboxSetup};
use greenroom_wire::{BuildFrame, ImageView, StepView};
use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const LISTED: u32 = 50;
const PROGRESS_EVENTS: usize = 256;
const LOG_CHUNK: u64 = 64 * 1024;
/// Builds that may run at once.
const BUILDS: usize = 2;

/// A build on its way. `written` changes when the log grew; it closes when the build is over.
#[derive(Clone, Debug)]
struct Running {
    image: ImageId,
    cancel: CancellationToken,
    written: watch::Receiver<u64>,
}

#[derive(Debug)]
pub(crate) struct Images {
    layers: LayerStore,
    setup: SandboxSetup,
    builder: Builder,
    toolchains: Vec<PathBuf>,
    runtime_version: String,
    places: Arc<tokio::sync::Semaphore>,
    running: Mutex<HashMap<RepositoryId, Running>>,
    manifests: Mutex<HashMap<ImageId, Arc<ImageManifest>>>,
}

impl Images {
    pub(crate) async fn open(config: &AppConfig, ports: &Ports) -> Result<Self> {
        let data = config.data_dir.clone();
        let storage = ports.storage.clone();
        let layers = tokio::task::spawn_blocking(move || LayerStore::open_on(&data, storage))
            .await
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))?;
        let clock = Arc::clone(&ports.clock);
        let toolchains: Vec<_> = config.tool_binds.iter().map(|bind| bind.source.clone()).collect();
        let builder = Builder {
            forge: Arc::clone(&ports.forge),
            sandboxes: Arc::clone(&ports.sandboxes),
            layers: layers.clone(),
            clock: Arc::new(move || clock.now_ms()),
            base_fingerprint: fingerprint(&toolchains).await?,
        };
        Ok(Self {
            layers,
            setup: setup_of(config),
            builder,
            toolchains,
            runtime_version: config.runtime_version.clone(),
            places: Arc::new(tokio::sync::Semaphore::new(BUILDS)),
            running: Mutex::default(),
            manifests: Mutex::default(),
        })
    }

    pub(crate) fn layers(&self) -> &LayerStore {
        &self.layers
    }

    pub(crate) fn log_path(&self, image: ImageId) -> PathBuf {
        self.layers.image_directory(image).join("build.log")
    }

    pub(crate) fn log_path(&self, image: ImageId) -> PathBuf {
        self.layers.image_directory(image).join("build.log")
    }

    fn with_running<T>(&self, work: impl FnOnce(&mut HashMap<RepositoryId, Running>) -> T) -> T {
        work(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn running_build(&self, repository: RepositoryId) -> Option<Running> {
        self.with_running(|running| running.get(&repository).cloned())
    }

    /// Cancels a repository's build and waits until nothing of it is left.
    pub(crate) async fn cancel_build_of(&self, repository: RepositoryId) {
        if let Some(build) = self.running_build(repository) {
            build.cancel.cancel();
            wait_for_end(build.written).await;
        }
    }

    pub(crate) async fn cancel_builds(&self) {
        let repositories: Vec<_> = self.with_running(|running| running.keys().copied().collect());
        for repository in repositories {
            self.cancel_build_of(repository).await;
        }
    }
}

async fn fingerprint(toolchains: &[PathBuf]) -> Result<String> {
    let toolchains = toolchains.to_vec();
    let taken =
        tokio::task::spawn_blocking(move || greenroom_image::base_fingerprint(Path::new("/"), &toolchains));
    taken.await.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
}

fn setup_of(config: &AppConfig) -> SandboxSetup {
    let mut env = config.tool_env.clone();
    env.extend(config.registry.env.clone());
    let mut binds = config.tool_binds.clone();
    if let Some(trust) = &config.trust {
        env.extend(trust.env.clone());
        binds.push(trust.bind.clone());
    }
    SandboxSetup { binds, env, files: config.registry.files.clone(), egress_ports: vec![] }
}

async fn wait_for_end(mut written: watch::Receiver<u64>) {
    while written.changed().await.is_ok() {}
}

impl App {
    /// Starts a build of the default branch's head; answers the running one when there is one.
    pub async fn build_image(&self, caller: &Person, name: &RepositoryName) -> Result<ImageView> {
        require(caller, Role::Member)?;
        let row = self.inner.repository_row(name).await?;
        self.start_build(&row).await
    }

    pub async fn images(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<ImageView>> {
        require(caller, Role::Viewer)?;
        let row = self.inner.repository_row(name).await?;
        Ok(self.inner.directory.images(row.id, LISTED).await?.into_iter().map(view_of).collect())
    }

    pub async fn image(&self, caller: &Person, id: ImageId) -> Result<ImageView> {
        require(caller, Role::Viewer)?;
        Ok(view_of(self.inner.image_row(id).await?))
    }

    /// The build's log from its beginning, followed until the build is over.
    pub async fn image_log(&self, caller: &Person, id: ImageId) -> Result<BuildLogStream> {
        require(caller, Role::Viewer)?;
        let row = self.inner.image_row(id).await?;
        let running = self.inner.images.running_build(row.repository).filter(|build| build.image == id);
        Ok(BuildLogStream {
            app: self.clone(),
            image: id,
            path: self.inner.images.log_path(id),
            offset: 0,
            written: running.map(|build| build.written),
            partial: vec![],
            is_over: false,
        })
    }

    pub(crate) async fn start_build(&self, repository: &RepositoryRow) -> Result<ImageView> {
        self.inner.start_build(repository).await
    }

    /// Builds that a crash cut off are failed, and said to be.
    pub(crate) async fn fail_unfinished_images(&self) -> Result<()> {
        let problem =
            Problem::new(ErrorCode::Interrupted, "The server stopped while this image was being built.")
                .hint("Build it again with `greenroom image build NAME`.");
        self.inner.directory.fail_unfinished_images(problem, self.inner.now_ms()).await?;
        Ok(())
    }
}

impl Inner {
    async fn image_row(&self, id: ImageId) -> Result<ImageRow> {
        let found = self.directory.image(id).await?;
        found.ok_or_else(|| {
            Problem::new(ErrorCode::NotFound, "There is no such image.")
                .hint("List them with `greenroom image list NAME`.")
        })
    }

    /// What the installation and the repository's admins add to a sandbox that may use these secrets (empty: all).
    pub(crate) fn setup_for(&self, repository: RepositoryId, secrets: &[String]) -> SandboxSetup {
        let mut setup = self.images.setup.clone();
        let declared = self.policies.for_claim(repository, secrets, &self.config.registry.hosts);
        setup.env.extend(declared.env);
        setup.egress_ports = declared.ports;
        setup
    }

    /// What new sessions of the repository start from.
    pub(crate) async fn newest_image(&self, repository: RepositoryId) -> Result<Option<ImageId>> {
        Ok(self.directory.newest_ready_image(repository).await?.map(|image| image.id))
    }

    /// The manifest of a good image, read once.
    pub(crate) async fn manifest(&self, id: ImageId) -> Result<Arc<ImageManifest>> {
        let known = self.images.manifests.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(manifest) = known {
            return Ok(manifest);
        }
        let directory = self.images.layers.image_directory(id);
        let version = self.images.runtime_version.clone();
        let read = tokio::task::spawn_blocking(move || ImageManifest::read(&directory, id, &version));
        let manifest = read.await.map_err(|error| internal(&error))?.map_err(|error| error.problem())?;
        let manifest = Arc::new(manifest);
        self.images
            .manifests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&manifest));
        Ok(manifest)
    }

    /// The repository's first good image: waits for the running build, or starts one.
    pub(crate) async fn first_image(self: &Arc<Self>, repository: RepositoryId) -> Result<ImageId> {
        let row = self.directory.repository(repository).await?.ok_or_else(|| {
            Problem::new(ErrorCode::RepositoryUnknown, "The session's repository was removed.")
        })?;
        let build = self.start_build(&row).await?;
        if let Some(running) = self.images.running_build(repository) {
            wait_for_end(running.written).await;
        }
        match self.directory.newest_ready_image(repository).await? {
            Some(image) => Ok(image.id),
            None => {
                let failed = self.image_row(build.id).await?;
                Err(failed.problem.unwrap_or_else(|| {
                    Problem::new(ErrorCode::ImageMissing, "The repository has no image.")
                        .hint("Build one with `greenroom image build NAME`.")
                }))
            }
        }
    }

    /// Builds a new image of each repository whose default branch moved, until the app is gone. Repositories take
    /// turns over the interval, so that their builds do not begin together.
    pub(crate) async fn build_on_schedule(inner: Weak<Self>, every: Duration) {
        loop {
            let Some(app) = inner.upgrade() else { return };
            let repositories = app.directory.repositories().await.unwrap_or_default();
            drop(app);
            let pause = every / u32::try_from(repositories.len().max(1)).unwrap_or(u32::MAX);
            if repositories.is_empty() {
                tokio::time::sleep(pause).await;
            }
            for repository in repositories {
                tokio::time::sleep(pause).await;
                let Some(app) = inner.upgrade() else { return };
                if let Err(problem) = app.build_if_behind(&repository).await {
                    tracing::warn!(repository = %repository.name, %problem, "a scheduled build could not start");
                }
            }
        }
    }

    async fn build_if_behind(self: &Arc<Self>, repository: &RepositoryRow) -> Result<()> {
        let head = self.forge.branch_head(repository.id, &repository.default_branch).await?;
        let newest = self.directory.images(repository.id, 1).await?.pop();
        let has_tried = newest.is_some_and(|image| image.commit == head && image.state != ImageState::Failed);
        if head.is_some() && !has_tried {
            self.start_build(repository).await?;
        }
        Ok(())
    }

    pub(crate) async fn start_build(self: &Arc<Self>, repository: &RepositoryRow) -> Result<ImageView> {
        let (at, random) = self.id_parts();
        let image = ImageId::from_parts(at, random);
        let (written_to, written) = watch::channel(0);
        let cancel = CancellationToken::new();
        let running = Running { image, cancel: cancel.clone(), written };
        let known = self.images.with_running(|builds| match builds.get(&repository.id) {
            Some(known) => Some(known.image),
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
        tokio::spawn(Arc::clone(self).build(repository.clone(), row, cancel, written_to));
        Ok(view)
    }

    /// Runs one build to its end and records what became of it.
    async fn build(
        self: Arc<Self>,
        repository: RepositoryRow,
        mut row: ImageRow,
        cancel: CancellationToken,
        written: watch::Sender<u64>,
    ) {
        let policy = BuildPolicy { app: Arc::clone(&self), image: row.id };
        let built = self.plan_and_run(&repository, row.id, cancel, &written).await;
        drop(policy);
        row.finished_at_ms = Some(self.now_ms());
        match built {
            Ok(manifest) => {
                row.state = ImageState::Ready;
                row.commit = Some(manifest.commit.clone());
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
        self.images.with_running(|builds| builds.remove(&repository.id));
        self.pool.wake();
        drop(written);
    }

    async fn plan_and_run(
        &self,
        repository: &RepositoryRow,
        image: ImageId,
        cancel: CancellationToken,
        written: &watch::Sender<u64>,
    ) -> Result<ImageManifest> {
        let _place = self.images.places.acquire().await.map_err(|error| internal(&error))?;
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

/// A build's log as it grows.
#[derive(Debug)]
pub struct BuildLogStream {
    app: App,
    image: ImageId,
    path: PathBuf,
    offset: u64,
    /// `None` once the build is over.
    written: Option<watch::Receiver<u64>>,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
    is_over: bool,
}

impl BuildLogStream {
    /// The next frame; `None` after `Finished`.
    pub async fn next(&mut self) -> Option<BuildFrame> {
        while !self.is_over {
            if let Some(text) = self.read().await {
                return Some(BuildFrame::Output { text });
            }
            match &mut self.written {
                Some(written) => {
                    if written.changed().await.is_err() {
                        self.written = None;
                    }
                }
                None => self.is_over = true,
            }
            if self.is_over {
                let row = self.app.inner.image_row(self.image).await.ok()?;
                return Some(BuildFrame::Finished { image: view_of(row) });
            }
        }
        None
    }

    async fn read(&mut self) -> Option<String> {
        let mut file = tokio::fs::File::open(&self.path).await.ok()?;
        file.seek(SeekFrom::Start(self.offset)).await.ok()?;
        let mut bytes = std::mem::take(&mut self.partial);
        let read = file.take(LOG_CHUNK).read_to_end(&mut bytes).await.ok()?;
        self.offset += read as u64;
        if read == 0 {
            return None;
        }
        let text = crate::text::take_complete(&mut bytes);
        self.partial = bytes;
        Some(text)
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

pub(crate) fn view_of(row: ImageRow) -> ImageView {
    ImageView {
        id: row.id,
        repository: row.repository,
        state: match row.state {
            ImageState::Building => greenroom_wire::ImageState::Building,
            ImageState::Ready => greenroom_wire::ImageState::Ready,
            ImageState::Failed => greenroom_wire::ImageState::Failed,
        },
        commit: row.commit,
        steps: serde_json::from_value(row.steps).unwrap_or_default(),
        problem: row.problem,
        started_at_ms: row.started_at_ms,
        finished_at_ms: row.finished_at_ms,
    }
}

fn internal(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::Internal, format!("Images cannot be used: {error}."))
}
