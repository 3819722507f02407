//! Environment images: one build at a time for each repository, its log followed live, the newest good one used. `build`
//! runs one, `schedule` decides when, `retention` what is kept, `quota` how much of the disk they take; `contents` says what
//! an image holds, and `exchange` moves one between machines.

mod build;
mod contents;
mod exchange;
mod log;
mod quota;
mod retention;
mod schedule;
mod uses;

pub use log::BuildLogStream;
pub use retention::ImageHistory;
pub(crate) use uses::ImageUse;

use crate::{App, AppConfig, Inner, Ports, Result, require};
use greenroom_directory::{ImageRow, ImageState};
use greenroom_domain::{ErrorCode, ImageId, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_image::{Builder, ImageManifest, LayerStore, SandboxSetup};
use greenroom_wire::ImageView;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PROGRESS_EVENTS: usize = 256;
/// Builds that may run at once.
const BUILDS: usize = 2;

/// A build on its way. `written` changes when the log grew; it closes when the build is over.
#[derive(Clone, Debug)]
struct Running {
    image: ImageId,
    cancel: CancellationToken,
    written: watch::Receiver<u64>,
    /// Somebody asked meanwhile: the branch is looked at again when it is over. Any number of requests is one more build
    /// at most, of what is newest then.
    wanted_again: Option<Look>,
}

/// Where a build finds what is newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Here: whoever asks has looked at the source, or something moved on this server.
    Here,
    /// At the place that the repository was mirrored from, first.
    AtSource,
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
    uses: uses::ImageUses,
    /// Held while images are removed.
    removal: tokio::sync::Mutex<()>,
    /// Held while an image is exported: it takes a processor and the disk.
    export: Arc<tokio::sync::Mutex<()>>,
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
        // What shows below /run belongs to Greenroom, and no image depends on it.
        let tools = config.tool_binds.iter().filter(|bind| !bind.target.starts_with("/run/"));
        let toolchains: Vec<_> = tools.map(|bind| bind.source.clone()).collect();
        let builder = Builder {
            forge: Arc::clone(&ports.forge),
            sandboxes: Arc::clone(&ports.sandboxes),
            layers: layers.clone(),
            clock: Arc::new(move || clock.now_ms()),
            registries: greenroom_image::Registries::with(config.image_registries.clone()),
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
            uses: uses::ImageUses::default(),
            removal: tokio::sync::Mutex::default(),
            export: Arc::default(),
        })
    }

    pub(crate) fn layers(&self) -> &LayerStore {
        &self.layers
    }

    /// Keeps an image from being removed; `None`: it is being removed.
    /// Builds that run or wait for a place.
    pub(crate) fn running_count(&self) -> usize {
        self.with_running(|running| running.len())
    }

    pub(crate) fn hold(&self, image: ImageId) -> Option<ImageUse> {
        self.uses.hold(image)
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

    fn forget(&self, image: ImageId) {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).remove(&image);
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
        self.inner.start_build(&row, Look::AtSource).await
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

    /// `None`: nobody knows the image any more, as after a restore from a backup, which holds none.
    pub(crate) async fn manifest_if_known(&self, id: ImageId) -> Result<Option<Arc<ImageManifest>>> {
        match self.manifest(id).await {
            Err(problem) if problem.code == ErrorCode::ImageMissing => {
                match self.directory.image(id).await? {
                    Some(_) => Err(problem),
                    None => Ok(None),
                }
            }
            read => read.map(Some),
        }
    }

    /// The repository's first good image: waits for the running build, or starts one.
    pub(crate) async fn first_image(self: &Arc<Self>, repository: RepositoryId) -> Result<ImageId> {
        let row = self.directory.repository(repository).await?.ok_or_else(|| {
            Problem::new(ErrorCode::RepositoryUnknown, "The session's repository was removed.")
        })?;
        let build = self.start_build(&row, Look::Here).await?;
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
