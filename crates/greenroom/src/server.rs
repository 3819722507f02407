//! Wiring: one server with everything embedded, from the data directory up to the listener. Read it downwards to see
//! how the parts meet; the rules are in the crates it names.

use crate::data_dir::DataDir;
use crate::scheduled::BackupSchedule;
use greenroom_api::{ApiState, PreviewDomain, RateLimits, Settings as ApiSettings, TrustedProxies};
use greenroom_app::{App, AppConfig, FirstAdmin, PoolLimits, Ports, SandboxPolicies, Trust, WeakApp};
use greenroom_broker::registry;
use greenroom_broker::{Broker, Denial, DenyLog, Outside};
use greenroom_directory::Directory;
use greenroom_domain::money::Budget;
use greenroom_domain::{ErrorCode, Problem, RetentionSettings};
use greenroom_forge::{Forge, LocalForge};
use greenroom_model::Provider;
use greenroom_sandbox::{ReadOnlyBind, SandboxProvider};
use greenroom_sandboxd::{LocalProvider, LocalSettings, Volume, VolumeEnd, VolumeError, VolumeSettings};
use greenroom_session::SystemClock;
use greenroom_tasks::keep;
use greenroom_telemetry::{Telemetry, TraceSettings};
use greenroom_vault::Vault;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What a stop waits for the last users of the data directory's volume.
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);
/// What a stop waits for the collector to take the last traces.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);
/// What a stop takes at most, beside the time that turns are given.
const STOP_DEADLINE: Duration = Duration::from_secs(45);

/// What a server is started with; `serve` reads it from settings, the demo and the benchmarks make it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    /// Where metrics are read without a token.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The collector of traces.
    pub(crate) otlp_endpoint: Option<Url>,
    pub(crate) public_origin: Option<Url>,
    pub(crate) preview_domain: Option<PreviewDomain>,
    pub(crate) budget: Budget,
    pub(crate) max_sandboxes: usize,
    pub(crate) pool: PoolLimits,
    /// Started sandboxes without an image that are kept ready.
    pub(crate) blanks: usize,
    pub(crate) volume: VolumeSettings,
    /// Bytes that one sandbox may write.
    pub(crate) sandbox_disk: u64,
    pub(crate) layers_limit: Option<u64>,
    pub(crate) hibernation: greenroom_session::Hibernation,
    pub(crate) retries: greenroom_app::RetryPolicy,
    pub(crate) snapshots_kept: usize,
    pub(crate) asks: greenroom_app::AskSettings,
    pub(crate) attachments: greenroom_app::AttachmentLimits,
    pub(crate) archive_bytes: u64,
    pub(crate) image_schedule: Option<Duration>,
    pub(crate) image_history: greenroom_app::ImageHistory,
    pub(crate) retention: RetentionSettings,
    pub(crate) spawn: greenroom_domain::SpawnLimits,
    pub(crate) image_registries: Vec<greenroom_image::RegistryHost>,
    /// What a stop gives running turns to finish.
    pub(crate) drain: Duration,
    pub(crate) ready_free_bytes: u64,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) rates: RateLimits,
    pub(crate) backups: Option<BackupSchedule>,
    pub(crate) models: greenroom_app::ModelSettings,
    /// Only the demo and the benchmarks choose one; `serve` uses what an admin configured.
    pub(crate) provider: Option<Arc<dyn Provider>>,
}

impl Options {
    /// On loopback, with the limits that `serve` has by default, and no schedule.
    pub(crate) fn local(data: PathBuf, port: u16, provider: Option<Arc<dyn Provider>>) -> Self {
        Self {
            data,
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            metrics_listen: None,
            otlp_endpoint: None,
            public_origin: None,
            preview_domain: None,
            budget: Budget::default(),
            max_sandboxes: 16,
            pool: PoolLimits::default(),
            blanks: greenroom_sandboxd::DEFAULT_BLANKS,
            volume: VolumeSettings::default(),
            sandbox_disk: greenroom_sandboxd::DEFAULT_DISK,
            layers_limit: None,
            hibernation: greenroom_session::Hibernation::default(),
            retries: greenroom_app::RetryPolicy::default(),
            models: greenroom_app::ModelSettings::default(),
            snapshots_kept: greenroom_app::SNAPSHOTS_KEPT,
            asks: greenroom_app::AskSettings::default(),
            attachments: greenroom_app::AttachmentLimits::default(),
            archive_bytes: greenroom_app::ARCHIVE_BYTES,
            image_schedule: None,
            image_history: greenroom_app::ImageHistory::default(),
            retention: RetentionSettings::default(),
            spawn: greenroom_domain::SpawnLimits::default(),
            image_registries: Vec::new(),
            drain: Duration::ZERO,
            ready_free_bytes: 0,
            trusted_proxies: TrustedProxies::default(),
            rates: RateLimits::NONE,
            backups: None,
            provider,
        }
    }
}

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) app: App,
    /// Scheme, host and port, for example `http://127.0.0.1:7878`.
    pub(crate) origin: String,
    /// Of the first admin; also in `run/local-token` while the server runs.
    pub(crate) local_token: String,
    address: SocketAddr,
    data: DataDir,
    volume: VolumeEnd,
    telemetry: Telemetry,
    drain: Duration,
    stopping: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

pub(crate) async fn start(options: Options) -> Result<Server, Problem> {
    let data = DataDir::open(&options.data)?;
    // The port first: nothing is made or continued when the server cannot answer.
    let listener = listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| cannot_listen(options.listen, &error))?;
    let origin = options
        .public_origin
        .as_ref()
        .map_or_else(|| format!("http://{address}"), |url| url.as_str().trim_end_matches('/').to_owned());
    let for_metrics = match options.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let telemetry = telemetry(options.otlp_endpoint.as_ref())?;
    let (app, volume) = open_app(&data, &options, &origin, telemetry.clone()).await?;
    app.ensure_admin(admin_from_system()).await?;
    let local_token = app.renew_local_token().await?;
    data.write_run_file("local-token", &local_token)?;
    data.write_run_file("address", &format!("http://{address}"))?;
    let awake = app.follow_awake();
    tokio::spawn(keep("giving memory back", move || crate::heap::give_back(awake.clone())));
    let stopping = CancellationToken::new();
    let drain = options.drain;
    let (public_origin, preview_domain) = (options.public_origin, options.preview_domain);
    let settings = ApiSettings { listen: address, public_origin, preview_domain };
    let state = ApiState::new(Arc::new(app.clone()), settings, stopping.clone())
        .measured_by(telemetry.clone())
        .limited_by(options.rates, options.trusted_proxies);
    if let Some(listener) = for_metrics {
        let address = listener.local_addr().map_err(|error| cannot_listen(options.listen, &error))?;
        data.write_run_file("metrics-address", &format!("http://{address}"))?;
        let router = greenroom_api::metrics_router(state.clone());
        tokio::spawn(greenroom_api::serve(listener, router, stopping.clone()));
    }
    let serving =
        tokio::spawn(greenroom_api::serve(listener, greenroom_api::router(state), stopping.clone()));
    if let Some(schedule) = options.backups {
        let (data, stopping) = (data.path().to_owned(), stopping.clone());
        let back_up = move || crate::scheduled::back_up(data.clone(), schedule.clone(), stopping.clone());
        tokio::spawn(keep("making backups", back_up));
    }
    Ok(Server { app, origin, local_token, address, data, volume, telemetry, drain, stopping, serving })
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    InOrder,
    /// Nothing acknowledged is lost; the next start finds what a crash would have left.
    GivenUp,
}

impl Server {
    /// Where it listens, whatever address people use.
    pub(crate) fn listening_on(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes nothing new, lets running turns finish for a while, ends sessions, with all that is synced told to their
    /// viewers, then sandboxes and whatever requests are left. Turns that did not finish go on after the next start. Nothing
    /// of the data directory is in use when this returns: its volume is unmounted, and another server may have it.
    ///
    /// Answers whether it ended in order: it is given up when it takes longer than it ever should.
    #[must_use]
    pub(crate) async fn stop(self) -> Stop {
        let limit = self.drain + STOP_DEADLINE;
        match tokio::time::timeout(limit, self.end()).await {
            Ok(()) => Stop::InOrder,
            Err(_) => Stop::GivenUp,
        }
    }

    async fn end(self) {
        let Self { app, data, volume, telemetry, drain, stopping, serving, .. } = self;
        app.begin_drain();
        let cut_off = app.wait_for_turns(drain).await;
        if cut_off > 0 {
            tracing::info!(turns = cut_off, "turns are cut off and go on after the next start");
        }
        // Sessions end before the listener does: their streams then end by themselves, after the last entry.
        app.shutdown().await;
        stopping.cancel();
        if let Ok(Err(error)) = serving.await {
            tracing::warn!(%error, "the listener ended with an error");
        }
        data.remove_run_file("local-token");
        data.remove_run_file("address");
        data.remove_run_file("metrics-address");
        telemetry.flush(FLUSH_DEADLINE).await;
        drop(app);
        if tokio::time::timeout(UNMOUNT_DEADLINE, volume.wait()).await.is_err() {
            tracing::warn!(
                "something still uses the data directory's volume; it is unmounted when this process ends"
            );
        }
    }
}

fn telemetry(collector: Option<&Url>) -> Result<Telemetry, Problem> {
    let Some(endpoint) = collector else { return Ok(Telemetry::default()) };
    let settings = TraceSettings { endpoint: endpoint.clone(), version: env!("CARGO_PKG_VERSION") };
    Telemetry::exporting(&settings).map_err(|reason| {
        Problem::new(ErrorCode::SettingsInvalid, format!("otlp_endpoint cannot be used: {reason}."))
            .hint("It is the base address of a collector's OTLP receiver for HTTP.")
    })
}

async fn open_app(
    data: &DataDir,
    options: &Options,
    origin: &str,
    telemetry: Telemetry,
) -> Result<(App, VolumeEnd), Problem> {
    let forge: Arc<dyn Forge> = Arc::new(LocalForge::open(data.path())?);
    let policies = SandboxPolicies::default();
    let denials = Arc::new(Denials::default());
    let vault = Arc::new(Vault::open(data.path())?);
    let registry = registry::collect();
    let trust = Trust::open(&vault, data.path(), &registry)?;
    let broker = Broker::new(
        Arc::new(policies.clone()),
        Arc::clone(&forge),
        Arc::clone(&denials) as Arc<dyn DenyLog>,
        Outside::of_host(&registry.certificates.extra, Some(Arc::clone(&trust.authority))),
    );
    let mut tools = greenroom_sandboxd::host_tool_binds();
    tools.binds.push(own_source(data.path()).await?);
    let volume = open_volume(data.path(), &options.volume).await?;
    let volume_end = volume.end();
    let storage = volume.storage().map_err(|error| unusable_storage(&error))?;
    let blanks = options.blanks;
    let disk = options.sandbox_disk;
    let settings = LocalSettings { volume: Some(volume), blanks, disk, ..LocalSettings::default() };
    let disk_per_sandbox = settings.disk_bound();
    let sandboxes =
        LocalProvider::start(settings, Arc::new(broker)).await.map_err(greenroom_app::problem_of_sandbox)?;
    let config = AppConfig {
        data_dir: data.path().to_owned(),
        budget: options.budget,
        max_sandboxes: options.max_sandboxes,
        pool: options.pool,
        blanks,
        disk_per_sandbox,
        layers_limit: options.layers_limit,
        hibernation: options.hibernation,
        retries: options.retries,
        models: options.models.clone(),
        snapshots_kept: options.snapshots_kept,
        asks: options.asks.clone(),
        attachments: options.attachments,
        archive_bytes: options.archive_bytes,
        image_schedule: options.image_schedule,
        image_history: options.image_history,
        retention: options.retention,
        spawn: options.spawn,
        image_registries: options.image_registries.clone(),
        ready_free_bytes: options.ready_free_bytes,
        provider: options.provider.clone(),
        tool_binds: tools.binds,
        tool_env: tools.env,
        registry,
        trust: Some(trust),
        public_url: origin.to_owned(),
        runtime_version: greenroom_image::runtime_version(&sandboxes.capabilities()),
    };
    let ports = Ports {
        directory: open_directory(data.path()).await?,
        vault,
        forge,
        sandboxes,
        storage,
        policies,
        clock: Arc::new(SystemClock),
        telemetry,
    };
    let app = App::start(config, ports).await?;
    denials.app.set(app.downgrade()).expect("set once, here");
    Ok((app, volume_end))
}

async fn open_volume(data: &Path, settings: &VolumeSettings) -> Result<Volume, Problem> {
    let (data, settings) = (data.to_owned(), settings.clone());
    let opened = tokio::task::spawn_blocking(move || Volume::open(&data, &settings));
    let opened = opened.await.map_err(|error| Problem::new(ErrorCode::Internal, format!("{error}.")))?;
    opened.map_err(|error| unusable_storage(&error))
}

fn unusable_storage(error: &VolumeError) -> Problem {
    let code = match error {
        VolumeError::DiskFull { .. } => ErrorCode::DiskFull,
        _ => ErrorCode::SettingsInvalid,
    };
    let problem = Problem::new(code, format!("The data directory cannot be used: {error}."));
    match error.remedy() {
        Some(remedy) => problem.hint(format!("Run as root: {remedy}")),
        None => problem,
    }
}

/// Every sandbox shows it, see `source`.
async fn own_source(data: &Path) -> Result<ReadOnlyBind, Problem> {
    let path = data.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || crate::source::unpack(&path)).await;
    let unpacked = unpacked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    unpacked.map_err(|error| {
        Problem::new(
            ErrorCode::SettingsInvalid,
            format!("The server's own source cannot be unpacked below {}: {error}.", data.display()),
        )
        .hint("Make room on the data directory's disk, or choose another with --data.")
    })
}

async fn open_directory(data: &Path) -> Result<Directory, Problem> {
    Ok(Directory::open(&data.join("greenroom.db")).await?)
}

/// Hands what the broker refused to the session it concerns. The broker exists before the app does, and is the app's.
#[derive(Debug, Default)]
struct Denials {
    app: OnceLock<WeakApp>,
}

impl DenyLog for Denials {
    fn denied(&self, denial: Denial) {
        let Some(app) = self.app.get().and_then(WeakApp::upgrade) else { return };
        tokio::spawn(async move { app.record_denial(denial).await });
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Problem> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Problem::new(ErrorCode::PortInUse, format!("Another program already listens on {address}.")).hint(
                "Stop it, or choose another address with --listen, for example --listen 127.0.0.1:7979.",
            )
        }
        _ => Problem::new(
            ErrorCode::SettingsInvalid,
            format!("The server cannot listen on {address}: {error}."),
        )
        .hint("Choose another address with --listen."),
    }
}

/// The first admin is this machine's user, named as git knows them.
fn admin_from_system() -> FirstAdmin {
    let login =
        std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "admin".to_owned());
    let login = login.to_lowercase();
    let name = git_config("user.name").unwrap_or_else(|| login.clone());
    let email = git_config("user.email").unwrap_or_else(|| format!("{login}@localhost"));
    FirstAdmin { login, name, email }
}

fn git_config(key: &str) -> Option<String> {
    let output =
        std::process::Command::new("git").args(["config", "--global", "--get", key]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
