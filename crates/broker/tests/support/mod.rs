//! A broker over a scratch forge, with people, rules and names of the test's choosing.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod tls;

use async_trait::async_trait;
use greenroom_broker::{
    AllowRule, Authority, Broker, Denial, DenyLog, Injection, Outside, PolicySource, PushGrant,
    RepositoryGrant, Resolver, SandboxPolicy, UpstreamProxy,
};
use greenroom_domain::{RepositoryId, SessionId};
use greenroom_forge::{Forge, LocalForge};
use greenroom_sandbox::{EgressHandler, Origin};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
};

pub const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Policies(pub Mutex<Option<SandboxPolicy>>);

#[async_trait]
impl PolicySource for Policies {
    async fn policy(&self, origin: &Origin) -> Option<SandboxPolicy> {
        self.0.lock().unwrap().clone().filter(|_| origin.generation == 1)
    }
}

#[derive(Debug, Default)]
pub struct Log(pub Mutex<Vec<Denial>>);

impl DenyLog for Log {
    fn denied(&self, denial: Denial) {
        self.0.lock().unwrap().push(denial);
    }
}

#[derive(Debug, Default)]
pub struct Names(pub Mutex<HashMap<String, Vec<IpAddr>>>);

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }
}

pub fn repository_id(number: u128) -> RepositoryId {
    RepositoryId::from_parts(1, number)
}

pub fn session_id() -> SessionId {
    SessionId::from_parts(1, 1)
}

#[derive(Debug)]
pub struct World {
    pub scratch: tempfile::TempDir,
    pub forge: Arc<LocalForge>,
    pub policies: Arc<Policies>,
    pub log: Arc<Log>,
    pub names: Arc<Names>,
    pub broker: Broker,
    pub authority: Arc<Authority>,
}

impl World {
    pub fn new() -> Self {
        Self::with_proxy(UpstreamProxy::default())
    }

    pub fn with_proxy(proxy: UpstreamProxy) -> Self {
        Self::with(proxy, vec![])
    }

    /// `roots`: whose certificates are trusted towards the outside.
    pub fn with(proxy: UpstreamProxy, roots: Vec<rustls::pki_types::CertificateDer<'static>>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let forge = Arc::new(LocalForge::open(&scratch.path().join("data")).unwrap());
        let (policies, log, names) =
            (Arc::<Policies>::default(), Arc::<Log>::default(), Arc::<Names>::default());
        let pem = Authority::generate(std::time::SystemTime::now()).unwrap();
        let authority = Arc::new(Authority::open(&pem).unwrap());
        let outside = Outside {
            resolver: names.clone(),
            proxy,
            tls: greenroom_broker::client(roots),
            authority: Some(authority.clone()),
        };
        let broker = Broker::new(policies.clone(), forge.clone(), log.clone(), outside);
        let world = Self { scratch, forge, policies, log, names, broker, authority };
        world.allow(&[]);
        world
    }

    pub fn allow(&self, rules: &[AllowRule]) {
        let name = "demo".parse().unwrap();
        *self.policies.0.lock().unwrap() = Some(SandboxPolicy {
            session: Some(session_id()),
            repositories: vec![RepositoryGrant { id: repository_id(1), name }],
            push: Some(PushGrant {
                session: session_id(),
                repository: repository_id(1),
                branch: "greenroom/one".parse().unwrap(),
                emails: vec!["ann@example.com".into()],
                people: vec![],
                size_limit_bytes: 50_000_000,
            }),
            allow: rules.to_vec(),
            injections: vec![],
        });
    }

    /// The secrets whose hosts are given what they hold.
    pub fn inject(&self, injections: Vec<Injection>) {
        let injections = injections.into_iter().map(Arc::new).collect();
        self.policies.0.lock().unwrap().as_mut().unwrap().injections = injections;
    }

    pub fn name(&self, name: &str, address: &str) {
        self.names.0.lock().unwrap().insert(name.into(), vec![address.parse().unwrap()]);
    }

    pub fn origin(&self, port: u16) -> Origin {
        Origin {
            sandbox: "sandbox".into(),
            session: session_id().to_string(),
            generation: 1,
            destination: SocketAddr::new("198.18.0.7".parse().unwrap(), port),
        }
    }

    /// A connection as a sandbox makes it to `port`.
    pub fn connect(&self, port: u16) -> DuplexStream {
        self.connect_from(self.origin(port))
    }

    pub fn connect_from(&self, origin: Origin) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.connection(origin, Box::new(far)).await });
        near
    }

    /// Sends and reads until the other side closes.
    pub async fn exchange(&self, port: u16, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(port);
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }

    pub async fn ask(&self, port: u16, text: &str) -> String {
        String::from_utf8_lossy(&self.exchange(port, text.as_bytes()).await).into_owned()
    }

    pub fn denials(&self) -> Vec<(String, u16, greenroom_broker::DenyReason)> {
        let log = self.log.0.lock().unwrap();
        log.iter().map(|denial| (denial.host.clone(), denial.port, denial.reason)).collect()
    }

    /// The repository `demo` with one commit on main.
    pub async fn with_repository(self) -> Self {
        let source = self.scratch.path().join("source");
        std::fs::create_dir(&source).unwrap();
        for args in [&["init", "-q", "-b", "main"][..], &["commit", "-q", "--allow-empty", "-m", "first"]] {
            assert!(git(&source, args).await.0, "{args:?}");
        }
        self.forge.create_repository(repository_id(1), source.to_str()).await.unwrap();
        self
    }

    /// A loopback listener whose connections arrive at the broker as from a sandbox to `port`.
    pub async fn listen(&self, port: u16) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (broker, origin) = (self.broker.clone(), self.origin(port));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (broker, origin) = (broker.clone(), origin.clone());
                tokio::spawn(async move { broker.connection(origin, Box::new(stream)).await });
            }
        });
        address
    }
}

pub async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("ends in time").unwrap();
    bytes
}

/// A loopback server that reads once, keeps what it read, answers and closes.
pub async fn server(answer: &'static [u8]) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            kept.lock().unwrap().extend_from_slice(&buffer[..read]);
            let _ = stream.write_all(answer).await;
        }
    });
    (port, seen)
}

pub async fn git(directory: &Path, args: &[&str]) -> (bool, String) {
    git_as("ann@example.com", directory, args).await
}

pub async fn git_as(email: &str, directory: &Path, args: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_COMMITTER_NAME", "A")])
        .envs([("GIT_AUTHOR_EMAIL", email), ("GIT_COMMITTER_EMAIL", email)])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await.expect("git ends in time").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub fn tree(world: &World, name: &str) -> PathBuf {
    world.scratch.path().join(name)
}
