//! Builds on this machine: the real runtime, broker and forge, and the package registries of the world.

// Lint settings know tests by their attribute, which helpers do not have.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod distribution;
pub mod registry;
pub mod root;
pub mod tree;

use async_trait::async_trait;
use greenroom_broker::registry::RegistrySettings;
use greenroom_broker::{
    AllowRule, Authority, Broker, Denial, DenyLog, FORGE_HOST, Outside, PolicySource, RepositoryGrant,
    SandboxPolicy, default_allow, trust,
};
use greenroom_domain::{ImageId, RepositoryId};
use greenroom_forge::{Forge, LocalForge};
use greenroom_image::{
    BuildFailure, BuildRequest, Builder, ImageManifest, LayerStore, Registries, SandboxSetup, WORKSPACE,
    base_fingerprint,
};
use greenroom_sandbox::{ClaimSpec, ExecEvent, ExecSpec, ExitReason, Fence, Origin, ReadOnlyBind, Workspace};
use greenroom_sandboxd::{LocalProvider, LocalSettings, host_tool_binds};
use registry::Registry;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Everything that sandboxes of this test may do.
#[derive(Debug)]
struct Everyone {
    policy: SandboxPolicy,
}

#[async_trait]
impl PolicySource for Everyone {
    async fn policy(&self, _origin: &Origin) -> Option<SandboxPolicy> {
        Some(self.policy.clone())
    }
}

/// What was refused, for a test's own words.
#[derive(Debug, Default)]
pub struct Denied(pub Mutex<Vec<String>>);

impl DenyLog for Denied {
    fn denied(&self, denial: Denial) {
        self.0.lock().unwrap().push(format!("{denial:?}"));
    }
}

pub struct Machine {
    pub directory: TempDir,
    pub builder: Builder,
    pub repository: RepositoryId,
    pub denied: Arc<Denied>,
    setup: SandboxSetup,
    next_image: AtomicU64,
}

impl Machine {
    /// With one repository that holds these files.
    pub async fn new(files: &[(String, Vec<u8>)]) -> Self {
        Self::beside(None, &[], files).await
    }

    /// The same, with a registry whose name leads to this process, and what the server's own environment says of it.
    pub async fn beside(own: Option<&Registry>, env: &[(&str, &str)], files: &[(String, Vec<u8>)]) -> Self {
        let directory = tempfile::Builder::new().prefix("greenroom-image-").tempdir().unwrap();
        let (source, data) = (directory.path().join("source"), directory.path().join("data"));
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q", "-b", "main"]);
        commit(&source, files);
        let forge: Arc<dyn Forge> = Arc::new(LocalForge::open(&data).unwrap());
        let repository = RepositoryId::from_parts(1, 1);
        forge.create_repository(repository, Some(source.to_str().unwrap())).await.unwrap();
        let mut registry = greenroom_broker::registry::collect();
        registry.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut outside = Outside::of_host(&registry.certificates.extra, None);
        if let Some(own) = own {
            registry.hosts.push(Registry::rule());
            outside.resolver = own.resolver();
        }
        let denied = Arc::new(Denied::default());
        let broker = Broker::new(
            Arc::new(Everyone { policy: policy(repository, &registry) }),
            Arc::clone(&forge),
            Arc::clone(&denied) as Arc<dyn DenyLog>,
            outside,
        );
        let sandboxes = LocalProvider::start(LocalSettings::default(), Arc::new(broker)).await.unwrap();
        let tools = host_tool_binds();
        let mut env = tools.env;
        env.extend(registry.env);
        let trust = directory.path().join("trust");
        let authority = Authority::generate(std::time::SystemTime::now()).unwrap();
        let authority = Authority::open(&authority).unwrap();
        env.extend(trust::write(&trust, &registry.certificates, authority.certificate_pem()).unwrap());
        // Node brings roots of its own and reads only what it is given beside; the machine's may be among the system's.
        env.retain(|(name, _)| name != "NODE_EXTRA_CA_CERTS");
        env.push(("NODE_EXTRA_CA_CERTS".to_owned(), format!("{}/ca-certificates.crt", trust::TRUST)));
        let toolchains: Vec<_> = tools.binds.iter().map(|bind| bind.source.clone()).collect();
        let builder = Builder {
            forge,
            sandboxes,
            layers: LayerStore::open(&data).unwrap(),
            clock: Arc::new(now_ms),
            registries: Registries::default(),
            base_fingerprint: base_fingerprint(Path::new("/"), &toolchains).unwrap(),
        };
        let mut binds = tools.binds;
        binds.push(ReadOnlyBind { source: trust, target: trust::TRUST.into() });
        let setup = SandboxSetup { binds, env, files: registry.files, ..SandboxSetup::default() };
        Self { directory, builder, repository, denied, setup, next_image: AtomicU64::new(1) }
    }

    pub async fn build(&self, previous: Option<&ImageManifest>) -> Result<ImageManifest, BuildFailure> {
        self.builder.build(self.request(previous), mpsc::channel(256).0).await
    }

    /// For a new image each time.
    pub fn request(&self, previous: Option<&ImageManifest>) -> BuildRequest {
        let number = self.next_image.fetch_add(1, Ordering::Relaxed);
        BuildRequest {
            image: ImageId::from_parts(number, 0),
            repository: self.repository,
            name: "sample".parse().unwrap(),
            branch: "main".parse().unwrap(),
            setup: self.setup.clone(),
            clone_url: format!("http://{FORGE_HOST}/sample.git"),
            previous: previous.cloned().map(Arc::new),
            cancel: CancellationToken::new(),
        }
    }

    /// The same, which must succeed; otherwise everything that can be told is.
    pub async fn built(&self, previous: Option<&ImageManifest>) -> ImageManifest {
        match self.build(previous).await {
            Ok(manifest) => manifest,
            Err(failure) => panic!(
                "{:?}: {}\n{}\n{:?}",
                failure.step,
                failure.problem,
                failure.problem.detail.as_deref().unwrap_or_default(),
                self.denied.0.lock().unwrap()
            ),
        }
    }

    pub fn log(&self, image: &ImageManifest) -> String {
        let path = self.builder.layers.image_directory(image.id).join("build.log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
    }

    pub fn push(&self, files: &[(&str, &str)]) {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        self.push_files(&files);
    }

    pub fn push_files(&self, files: &[(String, Vec<u8>)]) {
        let source = self.directory.path().join("source");
        commit(&source, files);
        let bare = self.directory.path().join(format!("data/repositories/{}.git", self.repository));
        git(&source, &["push", "-q", bare.to_str().unwrap(), "main"]);
    }

    /// Runs shell text in a fresh sandbox of the image, as a session would.
    pub async fn run(&self, image: &ImageManifest, script: &str) -> (ExitReason, String) {
        let parts = image.claim_parts(&self.builder.layers, &self.setup).unwrap();
        let number = self.next_image.fetch_add(1, Ordering::Relaxed);
        let spec = ClaimSpec {
            id: format!("session-{number}"),
            fence: Fence { session: format!("session-{number}"), epoch: 1, generation: 1 },
            base: parts.base,
            layers: parts.layers,
            workspace: Workspace {
                directory: self.directory.path().join(format!("data/session-{number}")),
                begin_from: None,
            },
            binds: parts.binds,
            egress_ports: parts.egress_ports,
            resources: parts.resources,
            hostname: "session".into(),
            env: parts.env,
            is_background: false,
        };
        let sandbox = self.builder.sandboxes.claim(spec).await.unwrap();
        let exec = ExecSpec {
            call: "run".into(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            cwd: WORKSPACE.into(),
            env: vec![],
            stdin: vec![],
            timeout_ms: 300_000,
            output_limit_bytes: 1024 * 1024,
            is_read_only: false,
        };
        let mut events = sandbox.exec(exec).await.unwrap();
        let (mut output, mut exit) = (vec![], None);
        while let Some(event) = events.recv().await {
            match event {
                ExecEvent::Output { bytes, .. } => output.extend(bytes),
                ExecEvent::Exit(done) => exit = Some(done.reason),
            }
        }
        sandbox.destroy().await.unwrap();
        (exit.expect("the sandbox lived"), String::from_utf8_lossy(&output).into_owned())
    }
}

fn policy(repository: RepositoryId, registry: &RegistrySettings) -> SandboxPolicy {
    let mut allow: Vec<AllowRule> = default_allow();
    allow.extend(registry.hosts.iter().cloned());
    SandboxPolicy {
        session: None,
        repositories: vec![RepositoryGrant { id: repository, name: "sample".parse().unwrap() }],
        push: None,
        allow,
        injections: registry.credentials.clone(),
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn commit(source: &Path, files: &[(String, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    git(source, &["add", "-A"]);
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "files"];
    git(source, &identity);
}

fn git(directory: &Path, args: &[&str]) {
    let status = Command::new("git").arg("-C").arg(directory).args(args).status().unwrap();
    assert!(status.success(), "git {args:?}");
}

/// The files of a project beside these tests. A lockfile is as its own program wrote it.
pub fn project(name: &str) -> Vec<(String, Vec<u8>)> {
    files("projects", name)
}

/// What of a project is another once a dependency has another version.
pub fn relocked(name: &str) -> Vec<(String, Vec<u8>)> {
    files("relocked", name)
}

/// The recipe of a registry: where it is built, `/opt/registry` of a layer holds its files.
pub fn registry_of(name: &str) -> Vec<(String, Vec<u8>)> {
    files("registries", name)
}

fn files(kind: &str, name: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind).join(name);
    let (mut files, mut pending) = (vec![], vec![root.clone()]);
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "{name} has no files");
    files
}
