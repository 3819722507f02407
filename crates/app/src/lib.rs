//! Use cases and authorization: the only way from an interface to sessions, repositories, images and changes. Checks
//! who may do what, and joins the parts below. Answers with the contract's views; knows no HTTP.

mod access;
mod archive;
mod asks;
mod attachments;
mod blame;
mod changes;
mod children;
mod config;
mod context;
mod disk;
mod drain;
mod exec;
mod fork;
mod frames;
mod hook;
mod images;
mod journal;
mod metrics;
mod mirror;
mod models;
mod moments;
mod outbox;
mod own;
#[cfg(test)]
mod panics_tests;
mod people;
mod policy;
mod pool;
mod queue;
mod quotas;
mod readiness;
mod repositories;
mod restore;
mod retention;
mod rights;
mod rooms;
mod search;
mod secrets;
mod services;
mod session_list;
mod session_stream;
mod sessions;
mod snapshots;
mod statistics;
#[cfg(test)]
mod testing;
mod text;
mod timeline;
mod titles;
mod traces;
mod trees;
mod turns;
mod warm;
mod workspaces;

pub use archive::{ARCHIVE_BYTES, ExportedSession};
pub use asks::AskSettings;
pub use attachments::{AttachmentLimits, BlobFile, Upload};
pub use config::{AppConfig, Ports};
pub use frames::{FrameKind, SharedFrame, written_text};
pub use greenroom_agent::Unattended;
pub use greenroom_directory::Archived;
pub use greenroom_forge::GitService;
pub use greenroom_session::{TextOf, Written, brings};
pub use hook::HookCall;
pub use images::{BuildLogStream, ImageHistory};
pub use outbox::RetryPolicy;
pub use people::{FirstAdmin, WebSession};
pub use policy::{SandboxPolicies, Trust};
pub use pool::PoolLimits;
pub use rights::{Rights, RightsChanges, RightsOf};
pub use services::PreviewUse;
pub use session_list::SessionsStream;
pub use session_stream::FrameStream;
pub use snapshots::SNAPSHOTS_KEPT;
pub use statistics::StatisticsRange;
pub use workspaces::problem_of_sandbox;

use greenroom_directory::Directory;
use greenroom_domain::{ErrorCode, Person, Problem, Role};
use greenroom_forge::Forge;
use greenroom_session::{Blobs, Clock, FileSessions, Registry};
use greenroom_tasks::{Panicked, keep};
use greenroom_telemetry::Telemetry;
use greenroom_vault::Vault;
use images::Images;
pub use models::ModelSettings;
use models::Models;
use restore::Boot;
use snapshots::Snapshots;
use std::sync::{Arc, OnceLock, Weak};
use workspaces::Workspaces;

pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// The installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    inner: Arc<Inner>,
}

/// For what lives below the app and tells it something: the app owns it, so it must not own the app.
#[derive(Clone, Debug)]
pub struct WeakApp {
    inner: Weak<Inner>,
}

impl WeakApp {
    /// `None`: the app is gone.
    pub fn upgrade(&self) -> Option<App> {
        self.inner.upgrade().map(|inner| App { inner })
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: AppConfig,
    pub(crate) directory: Directory,
    pub(crate) vault: Arc<Vault>,
    pub(crate) forge: Arc<dyn Forge>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) telemetry: Telemetry,
    pub(crate) images: Images,
    pub(crate) models: Models,
    pub(crate) mirrors: mirror::Mirrors,
    pub(crate) expected: hook::Expected,
    pub(crate) workspaces: Workspaces,
    pub(crate) pool: Arc<pool::Pool>,
    pub(crate) warm_ups: warm::WarmUps,
    pub(crate) sandboxes: Arc<dyn greenroom_sandbox::SandboxProvider>,
    pub(crate) storage: greenroom_sandbox::Storage,
    pub(crate) policies: SandboxPolicies,
    pub(crate) snapshots: snapshots::Snapshots,
    pub(crate) boot: restore::Boot,
    /// When the prompts that are being committed arrived, for the start timeline.
    pub(crate) arrivals: timeline::Arrivals,
    pub(crate) outbox: Arc<outbox::Outbox>,
    pub(crate) memories: turns::Memories,
    pub(crate) unerased: sessions::Unerased,
    pub(crate) list_changes: session_list::ListChanges,
    pub(crate) rooms: rooms::Rooms,
    pub(crate) own: own::OwnNews,
    pub(crate) rights: Rights,
    pub(crate) families: children::Families,
    pub(crate) drain: drain::Drain,
    findings: readiness::Findings,
    pub(crate) quotas: quotas::QuotaBook,
    pub(crate) retention: retention::Passes,
    pub(crate) blobs: Blobs,
    pub(crate) archives: archive::Archives,
    sessions: OnceLock<Registry>,
}

impl App {
    /// Starts the use cases and continues every session whose turn was cut off.
    pub async fn start(config: AppConfig, ports: Ports) -> Result<Self> {
        let images = Images::open(&config, &ports).await?;
        let blobs = Blobs::open(&config.data_dir).map_err(|error| unusable(&error))?;
        let files = FileSessions::open(config.data_dir.join("sessions")).map_err(|error| unusable(&error))?;
        let models = Models::new(config.provider.clone());
        let snapshots = Snapshots::open(ports.storage.clone()).map_err(|error| unusable(&error))?;
        let boot = Boot::of_now(&config.data_dir, ports.clock.now_ms()).map_err(|error| unusable(&error))?;
        let quotas = quotas::QuotaBook::load(&ports.directory).await?;
        let inner = Arc::new(Inner {
            workspaces: Workspaces::new(),
            pool: Arc::new(pool::Pool::new(config.pool)),
            warm_ups: warm::WarmUps::default(),
            images,
            models,
            mirrors: mirror::Mirrors::new(),
            expected: hook::Expected::default(),
            directory: ports.directory,
            vault: ports.vault,
            forge: ports.forge,
            clock: Arc::clone(&ports.clock),
            telemetry: ports.telemetry,
            sandboxes: ports.sandboxes,
            storage: ports.storage,
            policies: ports.policies,
            snapshots,
            boot,
            arrivals: timeline::Arrivals::default(),
            outbox: Arc::new(outbox::Outbox::new(config.retries)),
            memories: turns::Memories::default(),
            unerased: sessions::Unerased::default(),
            rights: Rights::default(),
            families: children::Families::default(),
            list_changes: session_list::ListChanges::default(),
            rooms: rooms::Rooms::default(),
            own: own::OwnNews::default(),
            drain: drain::Drain::default(),
            findings: readiness::Findings::default(),
            quotas,
            retention: retention::Passes::default(),
            blobs,
            archives: archive::Archives::default(),
            sessions: OnceLock::new(),
            config,
        });
        let hibernation = inner.config.hibernation;
        let effects = Arc::new(turns::TurnEffects::new(&inner));
        let registry = Registry::new(Arc::new(files), effects, ports.clock, hibernation);
        inner.sessions.set(registry).expect("set once, here");
        let app = Self { inner };
        app.inner.sweep_files().map_err(|error| unusable(&error))?;
        app.inner.load_policies().await?;
        app.fail_unfinished_images().await?;
        app.inner.undo_unfinished_imports().await?;
        app.continue_sessions().await?;
        app.inner.settle_snapshots().await;
        app.keeps("making room on the disk", Inner::keep_room);
        app.keeps("expiring uploads", Inner::expire_uploads);
        app.keeps("forgetting usage", Inner::forget_usage);
        app.keeps("retention", Inner::keep_retention);
        app.warm_models().await;
        app.keeps("keeping the pool", Inner::keep_pool);
        if let Some(every) = app.inner.config.image_schedule {
            app.keeps("building on schedule", move |inner| Inner::build_on_schedule(inner, every));
        }
        Ok(app)
    }

    /// A loop for as long as the app is there.
    fn keeps<F>(&self, what: &'static str, run: impl Fn(Weak<Inner>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(keep(what, move || run(Weak::clone(&inner))));
    }

    /// Closes sessions (their turns go on after the next start), then ends every sandbox.
    pub async fn shutdown(&self) {
        self.begin_drain();
        self.inner.drain.wait_for_endings().await;
        self.inner.write_reads().await;
        self.inner.before_shutdown().await;
        self.inner.drain_outbox().await;
        self.inner.sessions().close().await;
        self.inner.settle_outbox().await;
        self.inner.images.cancel_builds().await;
        self.inner.workspaces.forget_all();
        if let Err(error) = self.inner.sandboxes.shutdown().await {
            tracing::warn!(%error, "sandboxes did not end in order");
        }
    }

    /// How many sessions are in memory; ends with the app.
    pub fn follow_awake(&self) -> tokio::sync::watch::Receiver<usize> {
        self.inner.sessions().follow_awake()
    }

    pub fn downgrade(&self) -> WeakApp {
        WeakApp { inner: Arc::downgrade(&self.inner) }
    }

    /// What this machine can enforce.
    pub fn machine(&self, caller: &Person) -> Result<greenroom_wire::Machine> {
        require(caller, Role::Viewer)?;
        Ok(self.capabilities())
    }

    pub fn capabilities(&self) -> greenroom_wire::Machine {
        let found = self.inner.sandboxes.capabilities();
        let view = |entry: greenroom_sandbox::Capability| greenroom_wire::CapabilityView {
            name: entry.name,
            is_available: entry.is_available,
            detail: entry.detail,
            remedy: entry.remedy,
        };
        greenroom_wire::Machine {
            mode: found.mode,
            capabilities: found.entries.into_iter().map(view).collect(),
        }
    }
}

impl Inner {
    pub(crate) fn sessions(&self) -> &Registry {
        self.sessions.get().expect("set before the app is handed out")
    }

    /// Puts what a deleted session's sandboxes wrote out of sight; freed in the background.
    pub(crate) fn discard_files(&self, session: greenroom_domain::SessionId) {
        let workspace = self.storage.discard(&self.storage.workspace(&session.to_string()));
        let snapshots = self.snapshots.shelf.discard_session(session, |other| self.has_log(other));
        for discarded in [workspace, snapshots] {
            if let Err(error) = discarded {
                tracing::warn!(%session, %error, "files of a deleted session are left over");
            }
        }
        self.snapshots.forget(session);
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The two parts of a new id: the time, and randomness.
    pub(crate) fn id_parts(&self) -> (u64, u128) {
        (u64::try_from(self.now_ms()).unwrap_or(0), self.clock.random())
    }
}

/// What people are told of work that panicked.
fn broken(panicked: &Panicked) -> Problem {
    Problem::new(ErrorCode::Internal, format!("A fault in the server: {panicked}."))
        .hint("The server's log says what went wrong.")
}

fn unusable(error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::SettingsInvalid, format!("The data directory cannot be used: {error}."))
}

/// Refuses anyone below `role`.
pub(crate) fn require(caller: &Person, role: Role) -> Result<()> {
    if caller.role >= role {
        return Ok(());
    }
    let needed = match role {
        Role::Viewer => "a viewer",
        Role::Member => "a member",
        Role::Admin => "an admin",
    };
    Err(Problem::new(ErrorCode::NotAllowed, format!("Only {needed} may do this."))
        .hint("Ask an admin of this installation for the role."))
}
