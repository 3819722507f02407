//! `LocalProvider`: places sandboxes on this machine. What it knows of the living is in `registry`, what is kept ready for
//! them in `stock`, how one is claimed in `claim`.

use crate::capabilities;
use crate::cgroup::Layout;
use crate::claim;
use crate::handle::Handle;
use crate::registry::Registry;
use crate::spare::Spares;
use crate::stock::Stock;
use crate::volume::Volume;
use crate::workspace;
use crate::zygote::Zygote;
use async_trait::async_trait;
use greenroom_sandbox::{
    Capabilities, ClaimSpec, EgressHandler, Error, Fence, Identity, Result, Sandbox, SandboxProvider,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often runs are looked for whose answer is long overdue.
const EXPIRY: Duration = Duration::from_secs(10);
/// Blanks that are kept ready unless settings say otherwise.
pub const DEFAULT_BLANKS: usize = 8;

/// With which rights sandboxes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As root where this process is root.
    #[default]
    Auto,
    Root,
    /// As an ordinary user would, even when root: for tests of the gaps.
    User,
}

impl Mode {
    pub(crate) fn is_user(self) -> bool {
        match self {
            Self::Auto => !rustix::process::geteuid().is_root(),
            Self::Root => false,
            Self::User => true,
        }
    }
}

#[derive(Clone, Debug)]
pub struct LocalSettings {
    pub mode: Mode,
    /// What workspaces lie on; kept mounted, and said in the capabilities.
    pub volume: Option<Volume>,
    /// Blanks kept ready, at most 64.
    pub blanks: usize,
    /// Bytes that a sandbox may write where its claim says nothing and the volume can bound it.
    pub disk: u64,
}

impl LocalSettings {
    /// What a sandbox may write; `None`: nothing bounds it on this volume.
    pub fn disk_bound(&self) -> Option<u64> {
        self.volume.as_ref().filter(|volume| volume.capability().is_available).map(|_| self.disk)
    }
}

impl Default for LocalSettings {
    fn default() -> Self {
        Self { mode: Mode::default(), volume: None, blanks: DEFAULT_BLANKS, disk: workspace::DEFAULT_DISK }
    }
}

/// Sandboxes of this machine. They end when the last handle of the provider goes, or with this process, however it ends.
#[derive(Debug)]
pub struct LocalProvider {
    shared: Arc<Shared>,
    capabilities: Capabilities,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) is_user_mode: bool,
    pub(crate) disk: u64,
    /// Parts of the host's root that have overlays of their own.
    pub(crate) volumes: Vec<String>,
    pub(crate) egress: Arc<dyn EgressHandler>,
    pub(crate) stock: Arc<Stock>,
    pub(crate) registry: Registry,
    /// Unmounted when the last sandbox is gone.
    _volume: Option<Volume>,
}

impl Shared {
    /// Refuses whoever is older than the newest owner known.
    pub(crate) fn check_fence(&self, fence: &Fence) -> Result<()> {
        self.registry.check_fence(fence)
    }

    pub(crate) fn forget(&self, id: &str) {
        self.registry.forget(id);
    }
}

impl LocalProvider {
    /// Prepares this machine: ends what a crashed server left, starts the zygote and the first blanks.
    /// `Error::Unsupported` with the reason and the remedy where the kernel refuses.
    pub async fn start(settings: LocalSettings, egress: Arc<dyn EgressHandler>) -> Result<Arc<Self>> {
        let is_user_mode = settings.mode.is_user();
        let cgroups = if is_user_mode {
            Layout::none("an ordinary user owns no control group")
        } else {
            Layout::detect()
        };
        cgroups.sweep().await;
        let zygote = Zygote::start(is_user_mode).await?;
        let capabilities =
            capabilities::describe(is_user_mode, &cgroups, &zygote.gaps, settings.volume.as_ref());
        let volumes = zygote.volumes.clone();
        let storage = settings.volume.as_ref().map(Volume::root);
        let spares =
            storage.map(|root| Spares::open(root, &volumes, is_user_mode, settings.disk)).transpose()?;
        let stock = Stock::open(is_user_mode, cgroups, zygote, spares, settings.blanks).await?;
        let shared = Arc::new(Shared {
            is_user_mode,
            disk: settings.disk,
            volumes,
            egress,
            stock,
            registry: Registry::default(),
            _volume: settings.volume,
        });
        let of = Arc::downgrade(&shared);
        tokio::spawn(greenroom_tasks::keep("forgetting what runs said", move || expire(of.clone())));
        Ok(Arc::new(Self { shared, capabilities }))
    }

    /// Whether a data directory can hold workspaces and layers; the error says what to do.
    pub fn check_data_directory(directory: &Path) -> Result<()> {
        workspace::refuse_overlay(directory)
    }

    /// The process that all sandboxes are made by and end with; tests kill it.
    pub async fn zygote_pid(&self) -> Option<u32> {
        self.shared.stock.zygote_pid().await
    }
}

async fn expire(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(EXPIRY).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        for sandbox in shared.registry.alive() {
            sandbox.room().stage.expire(now);
        }
    }
}

impl Drop for LocalProvider {
    fn drop(&mut self) {
        // Outside a shutdown nobody waits for them; their sockets close with the handles.
        for sandbox in self.shared.registry.close() {
            sandbox.kill("the provider was dropped");
        }
        // Their groups go with them.
        drop(self.shared.stock.end());
    }
}

#[async_trait]
impl SandboxProvider for LocalProvider {
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>> {
        claim::validate(&spec)?;
        let shared = self.shared.clone();
        // A task of its own: a caller that gives up must not leave half a sandbox.
        let claim = tokio::spawn(async move { claim::claim(&shared, spec).await });
        let sandbox =
            claim.await.map_err(|error| Error::Ended { reason: format!("the claim failed: {error}") })??;
        Ok(Arc::new(Handle(sandbox)))
    }

    async fn rebind(&self, sandbox: &str, to: Identity) -> Result<Arc<dyn Sandbox>> {
        claim::validate_identity(&to)?;
        let (shared, sandbox) = (self.shared.clone(), sandbox.to_owned());
        let rebind = tokio::spawn(async move { crate::rebind::rebind(&shared, &sandbox, to).await });
        let sandbox = rebind
            .await
            .map_err(|error| Error::Ended { reason: format!("the new owner failed: {error}") })??;
        Ok(Arc::new(Handle(sandbox)))
    }

    async fn set_blanks(&self, count: usize) -> Result<()> {
        self.shared.stock.set_blanks(count).await
    }

    fn ready_blanks(&self) -> usize {
        self.shared.stock.ready_blanks()
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.shared.registry.alive().iter().map(|sandbox| sandbox.name().to_owned()).collect())
    }

    async fn check(&self) -> Result<()> {
        let shared = self.shared.clone();
        // A task of its own: an exchange with the zygote must not be cut in half.
        let check = tokio::spawn(async move { shared.stock.check().await });
        check.await.map_err(|error| Error::Ended { reason: format!("the check failed: {error}") })?
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn shutdown(&self) -> Result<()> {
        let sandboxes = self.shared.registry.close();
        for sandbox in &sandboxes {
            sandbox.kill("the provider shuts down");
        }
        for sandbox in &sandboxes {
            sandbox.wait_for_end().await?;
        }
        self.shared.stock.close().await;
        Ok(())
    }
}
