//! A whole app for its own tests: real directory, forge, vault, logs and storage, and sandboxes of plain memory that can be
//! held up. Images are put there, not built.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use crate::ModelSettings;
use crate::{
    App, AppConfig, AttachmentLimits, FirstAdmin, ImageHistory, Inner, PoolLimits, Ports, RetryPolicy,
    SandboxPolicies,
};
use async_trait::async_trait;
use greenroom_broker::registry::RegistrySettings;
use greenroom_directory::{Directory, ImageRow, ImageState, RepositoryRow};
use greenroom_domain::money::Budget;
use greenroom_domain::{
    CommandId, Entry, ErrorCode, ImageId, Person, RepositoryId, RepositoryName, RetentionSettings, Role,
    SessionId, SpawnLimits,
};
use greenroom_forge::LocalForge;
use greenroom_model::Provider;
use greenroom_sandbox::fake::{FakeProvider, Files};
use greenroom_sandbox::{
    Capabilities, ClaimSpec, ExecSpec, ExitReason, Identity, Result, Sandbox, SandboxProvider, Storage,
};
use greenroom_session::{Clock, FileSessions, SessionDirectory, SystemClock};
use greenroom_vault::Vault;
use greenroom_wire::{AddPerson, CreateSession, Exec, PoolView};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const RUNTIME: &str = "test";
const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What listens in each sandbox: a web server of the recipe, another service of it, and what it does not name.
pub(crate) const SHOWN_PORT: u16 = 3000;
pub(crate) const SPOKEN_PORT: u16 = 6379;
pub(crate) const UNDECLARED_PORT: u16 = 9229;

/// A command at which the provider of sandboxes panics.
pub(crate) const PANICS: &str = "panic-under-this";

/// Sandboxes in memory whose claims can be held up.
#[derive(Debug)]
pub(crate) struct Gated {
    inside: FakeProvider,
    is_open: watch::Sender<bool>,
    claimed: Mutex<Vec<Arc<dyn Sandbox>>>,
    /// So many of the next claims panic.
    pub(crate) panics: AtomicUsize,
}

impl Gated {
    fn new() -> Self {
        Self {
            inside: [SHOWN_PORT, SPOKEN_PORT, UNDECLARED_PORT]
                .into_iter()
                .fold(FakeProvider::scripted(reply), |provider, port| provider.with_port(port, drop)),
            is_open: watch::Sender::new(true),
            claimed: Mutex::default(),
            panics: AtomicUsize::new(0),
        }
    }

    /// Sandboxes that live, those of the pool included.
    pub(crate) async fn count(&self) -> usize {
        self.inside.list().await.unwrap().len()
    }

    /// Claims wait, or go on.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    /// Ends a living sandbox whose id begins so, as the kernel would.
    pub(crate) async fn lose(&self, prefix: &str) {
        let found = self.claimed.lock().unwrap().iter().find(|one| one.id().starts_with(prefix)).cloned();
        found.expect("there is such a sandbox").destroy().await.unwrap();
    }
}

/// The fake has its files in memory; that there are some is seen on the disk.
fn keep(workspace: &Path) {
    std::fs::create_dir_all(workspace.join("upper")).unwrap();
}

/// Git does nothing, and a sync changed one file; the rest is the fake's own.
fn reply(spec: &ExecSpec, _: &mut Files) -> Option<(Vec<u8>, ExitReason)> {
    let done = |output: &[u8]| Some((output.to_vec(), ExitReason::Code { code: 0 }));
    assert!(!spec.argv.iter().any(|argument| argument == PANICS), "as tests do");
    match &spec.argv[2] {
        script if script.contains("git fetch") => done(b"\0changed.txt\0"),
        script if script.contains("git ") => done(b""),
        _ => None,
    }
}

#[async_trait]
impl SandboxProvider for Gated {
    async fn claim(&self, spec: ClaimSpec) -> Result<Arc<dyn Sandbox>> {
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
        let is_due = |left: usize| left.checked_sub(1);
        assert!(
            self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due).is_err(),
            "as tests do"
        );
        let directory = spec.workspace.directory.clone();
        let sandbox = self.inside.claim(spec).await?;
        keep(&directory);
        self.claimed.lock().unwrap().push(Arc::clone(&sandbox));
        Ok(sandbox)
    }

    async fn rebind(&self, sandbox: &str, to: Identity) -> Result<Arc<dyn Sandbox>> {
        let directory = to.workspace.clone();
        let sandbox = self.inside.rebind(sandbox, to).await?;
        keep(&directory);
        self.claimed.lock().unwrap().push(Arc::clone(&sandbox));
        Ok(sandbox)
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.inside.list().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inside.capabilities()
    }

    async fn shutdown(&self) -> Result<()> {
        self.inside.shutdown().await
    }
}

/// What differs between tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) pool: PoolLimits,
    pub(crate) max_sandboxes: usize,
    pub(crate) retention: RetentionSettings,
    pub(crate) spawn: SpawnLimits,
    /// Where the clock stands until it is set on; `None`: it is the machine's.
    pub(crate) began_ms: Option<i64>,
}

impl Bounds {
    pub(crate) fn pool(floor: usize, cap: usize, most: usize) -> Self {
        let retention = RetentionSettings::default();
        let spawn = SpawnLimits::default();
        Self { pool: PoolLimits { floor, cap, most }, max_sandboxes: 16, retention, spawn, began_ms: None }
    }

    pub(crate) fn without_pool() -> Self {
        Self::pool(0, 0, 0)
    }
}

/// The machine's, or one that stands still until it is set on.
#[derive(Debug)]
pub(crate) struct TestClock(Option<AtomicI64>);

impl TestClock {
    pub(crate) fn set(&self, now_ms: i64) {
        self.0.as_ref().unwrap().store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.as_ref().map_or_else(|| SystemClock.now_ms(), |now| now.load(Ordering::Relaxed))
    }

    fn random(&self) -> u128 {
        SystemClock.random()
    }
}

/// Who answers its prompts: nobody, by default.
#[derive(Debug, Default)]
struct Brain {
    models: ModelSettings,
    fixed: Option<Arc<dyn Provider>>,
    asks: crate::AskSettings,
}

pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sandboxes: Arc<Gated>,
    pub(crate) admin: Person,
    pub(crate) data: tempfile::TempDir,
    bounds: Bounds,
}

impl World {
    pub(crate) async fn start(bounds: Bounds) -> Self {
        Self::start_with(bounds, greenroom_telemetry::Telemetry::default()).await
    }

    pub(crate) async fn start_with(bounds: Bounds, telemetry: greenroom_telemetry::Telemetry) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), bounds, telemetry, Brain::default()).await
    }

    pub(crate) async fn start_with_models(models: ModelSettings) -> Self {
        let telemetry = greenroom_telemetry::Telemetry::default();
        let brain = Brain { models, ..Brain::default() };
        Self::start_in(tempfile::tempdir().unwrap(), Bounds::without_pool(), telemetry, brain).await
    }

    pub(crate) async fn start_on(data: tempfile::TempDir, bounds: Bounds) -> Self {
        Self::start_in(data, bounds, greenroom_telemetry::Telemetry::default(), Brain::default()).await
    }

    pub(crate) async fn start_with_model(bounds: Bounds, model: Arc<dyn Provider>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let brain = Brain { fixed: Some(model), ..Brain::default() };
        Self::start_in(data, bounds, greenroom_telemetry::Telemetry::default(), brain).await
    }

    pub(crate) async fn start_asking(
        bounds: Bounds,
        model: Arc<dyn Provider>,
        asks: crate::AskSettings,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let brain = Brain { fixed: Some(model), asks, ..Brain::default() };
        Self::start_in(data, bounds, greenroom_telemetry::Telemetry::default(), brain).await
    }

    /// The next process over the same data, after this one has stopped in order.
    pub(crate) async fn restart(self) -> Self {
        self.app.shutdown().await;
        self.crash().await
    }

    /// The next process over the same data; this one ends where it is.
    pub(crate) async fn crash(self) -> Self {
        self.crash_into(Brain::default()).await
    }

    /// The next process, in which this model answers, after this one has stopped in order.
    pub(crate) async fn restart_asking(self, model: Arc<dyn Provider>) -> Self {
        self.app.shutdown().await;
        let asks = self.inner().config.asks.clone();
        self.crash_into(Brain { fixed: Some(model), asks, ..Brain::default() }).await
    }

    async fn crash_into(self, brain: Brain) -> Self {
        let Self { app, data, mut bounds, clock, .. } = self;
        bounds.began_ms = bounds.began_ms.map(|_| clock.now_ms());
        let ended = app.downgrade();
        drop(app);
        until("what was running has ended", async || ended.upgrade().is_none()).await;
        // A process that ends makes no more spare files; a thread of this one does until it has them all.
        until("the files are nobody's", async || {
            let Ok(files) = FileSessions::open(data.path().join("sessions")) else { return false };
            files.close().await;
            true
        })
        .await;
        Self::start_in(data, bounds, greenroom_telemetry::Telemetry::default(), brain).await
    }

    async fn start_in(
        data: tempfile::TempDir,
        bounds: Bounds,
        telemetry: greenroom_telemetry::Telemetry,
        brain: Brain,
    ) -> Self {
        let sandboxes = Arc::new(Gated::new());
        let clock = Arc::new(TestClock(bounds.began_ms.map(AtomicI64::new)));
        let config = AppConfig {
            data_dir: data.path().to_owned(),
            budget: Budget::default(),
            provider: brain.fixed,
            models: brain.models,
            tool_binds: vec![],
            tool_env: vec![],
            registry: RegistrySettings::default(),
            trust: None,
            max_sandboxes: bounds.max_sandboxes,
            pool: bounds.pool,
            blanks: 0,
            disk_per_sandbox: None,
            layers_limit: None,
            hibernation: greenroom_session::Hibernation::default(),
            retries: RetryPolicy {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(20),
                deadline: Duration::from_millis(100),
            },
            snapshots_kept: 4,
            asks: brain.asks,
            attachments: AttachmentLimits { file: 1000, session: 3000 },
            archive_bytes: 1 << 20,
            image_schedule: None,
            ready_free_bytes: 0,
            image_history: ImageHistory::default(),
            retention: bounds.retention,
            spawn: bounds.spawn,
            image_registries: Vec::new(),
            public_url: "http://127.0.0.1".into(),
            runtime_version: RUNTIME.into(),
        };
        let ports = Ports {
            directory: Directory::open(&data.path().join("greenroom.db")).await.unwrap(),
            vault: Arc::new(Vault::open(data.path()).unwrap()),
            forge: Arc::new(LocalForge::open(data.path()).unwrap()),
            sandboxes: Arc::clone(&sandboxes) as Arc<dyn SandboxProvider>,
            storage: Storage::plain(data.path()).unwrap(),
            policies: SandboxPolicies::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            telemetry,
        };
        let app = App::start(config, ports).await.unwrap();
        let admin =
            FirstAdmin { login: "admin".into(), name: "Admin".into(), email: "a@test.invalid".into() };
        app.ensure_admin(admin).await.unwrap();
        let mut people = app.inner.directory.people().await.unwrap();
        people.retain(|person| person.login.as_str() == "admin");
        let admin = people.remove(0);
        Self { app, clock, sandboxes, admin, data, bounds }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.app.inner
    }

    pub(crate) async fn member(&self, login: &str) -> Person {
        let body = AddPerson {
            login: login.parse().unwrap(),
            name: login.to_owned(),
            email: format!("{login}@test.invalid"),
            role: Role::Member,
        };
        self.app.add_person(&self.admin, body).await.unwrap().person
    }

    /// Registered, in use, and with an image at its head.
    pub(crate) async fn add_repository(&self, name: &str) -> RepositoryRow {
        let source = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| git(source.path(), arguments);
        git(&["init", "-q", "-b", "main"]);
        git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        let inner = self.inner();
        let (at, random) = inner.id_parts();
        let id = RepositoryId::from_parts(at, random);
        let source = source.path().display().to_string();
        let default_branch = inner.forge.create_repository(id, Some(&source)).await.unwrap();
        let row = RepositoryRow {
            id,
            name: name.parse().unwrap(),
            source,
            default_branch,
            required_approvals: 1,
            added_at_ms: inner.now_ms(),
        };
        inner.directory.add_repository(row.clone()).await.unwrap();
        self.publish_image(&row).await;
        inner.pool_used(id, inner.now_ms());
        inner.pool.wake();
        row
    }

    /// A good image of the branch's head, as a build leaves it.
    pub(crate) async fn publish_image(&self, row: &RepositoryRow) -> ImageId {
        let inner = self.inner();
        let (at, random) = inner.id_parts();
        let id = ImageId::from_parts(at, random);
        let commit = inner.forge.branch_head(row.id, &row.default_branch).await.unwrap().unwrap();
        let manifest: greenroom_image::ImageManifest = serde_json::from_value(serde_json::json!({
            "version": 2, "id": id, "repository": row.id, "commit": commit, "branch": row.default_branch,
            "runtime_version": RUNTIME, "base_fingerprint": "", "base": {"kind": "host"}, "layers": [], "env": {},
            "egress_allow": [], "egress_ports": [], "secrets": [], "resources": {}, "steps": [], "services": [],
            "instructions": {"agents_md": null, "skills": []}, "ports": [{"port": SHOWN_PORT, "name": "web", "is_http": true}, {"port": SPOKEN_PORT, "name": "cache", "is_http": false}], "parts": [], "checks": [],
            "reuse": {"environment": KEY, "clone": [], "checks": null, "caches": []}, 
            "created_at_ms": 1,
        }))
        .unwrap();
        let directory = inner.images.layers().image_directory(id);
        std::fs::create_dir_all(&directory).unwrap();
        manifest.write(&directory).unwrap();
        let now_ms = inner.now_ms();
        let image = ImageRow {
            id,
            repository: row.id,
            state: ImageState::Ready,
            commit: Some(commit),
            steps: serde_json::json!([]),
            problem: None,
            started_at_ms: now_ms,
            finished_at_ms: Some(now_ms),
        };
        inner.directory.put_image(image).await.unwrap();
        inner.pool.wake();
        id
    }

    /// One more commit on the default branch, as a merge makes it.
    pub(crate) fn advance(&self, row: &RepositoryRow) {
        let bare = self.data.path().join("repositories").join(format!("{}.git", row.id));
        let tree = git(&bare, &["rev-parse", "main^{tree}"]);
        let commit = git(&bare, &["commit-tree", tree.trim(), "-p", "main", "-m", "later"]);
        git(&bare, &["update-ref", "refs/heads/main", commit.trim()]);
        self.inner().pool.wake();
    }

    pub(crate) async fn pool(&self, name: &RepositoryName) -> PoolView {
        let pools = self.app.machine_resources(&self.admin).await.unwrap().pools;
        pools.into_iter().find(|pool| pool.repository == *name).unwrap()
    }

    /// Ready ones of these repositories, in their order, with nothing on its way.
    pub(crate) async fn settled(&self, rows: &[&RepositoryRow]) -> Vec<u64> {
        let mut ready = vec![];
        for row in rows {
            let pool = self.pool(&row.name).await;
            if pool.preparing > 0 {
                return vec![];
            }
            ready.push(pool.ready);
        }
        ready
    }

    pub(crate) async fn wait_for_ready(&self, rows: &[&RepositoryRow], wanted: &[u64]) {
        until("the pool has what it should", async || self.settled(rows).await == wanted).await;
    }

    pub(crate) async fn session(&self, by: &Person, row: &RepositoryRow) -> SessionId {
        let body = new_session(row);
        let key: CommandId = format!("key-{:032x}", self.inner().id_parts().1).parse().unwrap();
        self.app.create_session(by, &key, body).await.unwrap().id
    }

    /// Starts the session's sandbox.
    pub(crate) async fn use_sandbox(&self, by: &Person, session: SessionId) {
        let body = Exec { command: "true".into(), timeout_ms: None };
        self.app.exec(by, session, body).await.unwrap();
    }

    /// Also after the app has stopped: from the file, as the next process would.
    pub(crate) async fn log(&self, session: SessionId) -> Vec<Entry> {
        match self.inner().sessions().get(session).await {
            Ok(handle) => handle.entries(0, 1000).await.unwrap(),
            Err(problem) => {
                assert_eq!(problem.code, ErrorCode::ShuttingDown, "{problem}");
                let files = FileSessions::open(self.data.path().join("sessions")).unwrap();
                files.acquire(session).await.unwrap().log.read(0, 1000).await.unwrap()
            }
        }
    }
}

/// Without a prompt.
pub(crate) fn new_session(row: &RepositoryRow) -> CreateSession {
    CreateSession {
        repository: row.name.clone(),
        prompt: None,
        attachments: vec![],
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    }
}

/// Waits for a condition that nothing tells of.
pub(crate) async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "{what}: not within {PATIENCE:?}");
}

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@test.invalid"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
