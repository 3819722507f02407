//! A scratch forge, an HTTP server in front of it, and the ordinary git program as its client.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use bytes::Bytes;
use futures::TryStreamExt;
use greenroom_domain::{Author, ChangeId, Person, PersonId, RepositoryId, Role, SessionId, Via};
use greenroom_forge::{
    Forge, LocalForge, OpenChange, PushPolicy,
    smart_http::{Request, Step, decoded},
};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Response, StatusCode, body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio_util::io::{ReaderStream, StreamReader};

pub fn repository_id(number: u128) -> RepositoryId {
    RepositoryId::from_parts(1, number)
}

pub fn change_id(number: u128) -> ChangeId {
    ChangeId::from_parts(1, number)
}

pub fn session_id() -> SessionId {
    SessionId::from_parts(1, 1)
}

pub fn person(number: u128, login: &str) -> Person {
    Person {
        id: PersonId::from_parts(1, number),
        login: login.parse().unwrap(),
        name: login.to_uppercase(),
        email: format!("{login}@example.com"),
        role: Role::Member,
    }
}

pub fn author(person: &Person) -> Author {
    Author {
        on_behalf_of: person.id,
        via: Via::Person,
        name: person.name.clone(),
        email: person.email.clone(),
    }
}

pub fn proposal(number: u128, branch: &str, by: &Person) -> OpenChange {
    OpenChange {
        id: change_id(number),
        repository: repository_id(1),
        session: Some(session_id()),
        title: "Repair the sum".into(),
        body: "It added one too many.".into(),
        branch: branch.parse().unwrap(),
        base: "main".parse().unwrap(),
        author: author(by),
        prompters: vec![by.id],
        at_ms: 1_700_000_000_000,
    }
}

pub fn session_policy(branch: &str, emails: &[&str]) -> PushPolicy {
    PushPolicy::Session {
        session: session_id(),
        branch: branch.parse().unwrap(),
        emails: emails.iter().map(|email| (*email).to_owned()).collect(),
        people: vec![],
        size_limit_bytes: 200_000_000,
    }
}

#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

/// git as a person runs it: with an empty home and the given identity.
pub async fn git_as(email: &str, directory: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    let mut command = tokio::process::Command::new("git");
    command
        .args(["-c", "init.defaultBranch=main", "-c", "safe.directory=*"])
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Somebody")
        .env("GIT_AUTHOR_EMAIL", email)
        .env("GIT_COMMITTER_NAME", "Somebody")
        .env("GIT_COMMITTER_EMAIL", email)
        .kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.output())
        .await
        .expect("git ends in time")
        .expect("git starts");
    Ran {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub async fn git(directory: &Path, args: &[&str]) -> Ran {
    git_as("ann@example.com", directory, args).await
}

/// git that has to succeed; its output without the last newline.
pub async fn git_ok(directory: &Path, args: &[&str]) -> String {
    let ran = git(directory, args).await;
    assert!(ran.ok, "git {args:?}: {}", ran.stderr);
    ran.stdout.trim_end().to_owned()
}

pub async fn commit_file(tree: &Path, name: &str, text: &str) -> String {
    commit_file_as("ann@example.com", tree, name, text).await
}

pub async fn commit_file_as(email: &str, tree: &Path, name: &str, text: &str) -> String {
    let path = tree.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    git_ok(tree, &["add", "--all"]).await;
    let ran = git_as(email, tree, ["commit", "-q", "-m", &format!("Write {name}")]).await;
    assert!(ran.ok, "{}", ran.stderr);
    git_ok(tree, &["rev-parse", "HEAD"]).await
}

/// A forge with one repository made from a source of one commit on `main`, served over HTTP.
#[derive(Debug)]
pub struct World {
    pub scratch: tempfile::TempDir,
    pub forge: LocalForge,
    pub server: Server,
}

impl World {
    pub async fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let source = scratch.path().join("source");
        std::fs::create_dir(&source).unwrap();
        git_ok(&source, &["init", "-q"]).await;
        commit_file(&source, "sum.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n").await;
        let forge = LocalForge::open(&scratch.path().join("data")).unwrap();
        let branch = forge.create_repository(repository_id(1), source.to_str()).await.unwrap();
        assert_eq!(branch.as_str(), "main");
        let server = Server::start(forge.clone()).await;
        server.allow(Some(PushPolicy::Person(PersonId::from_parts(1, 9))));
        Self { scratch, forge, server }
    }

    /// Approves what the change is now.
    pub async fn approve(
        &self,
        id: ChangeId,
        by: &Person,
        at_ms: i64,
    ) -> greenroom_forge::Result<greenroom_forge::Change> {
        let head = self.forge.change(id).await?.unwrap().head;
        self.forge.approve(id, &head, by, at_ms).await
    }

    pub fn bare(&self) -> PathBuf {
        self.scratch.path().join(format!("data/repositories/{}.git", repository_id(1)))
    }

    pub async fn clone_to(&self, name: &str) -> PathBuf {
        git_ok(self.scratch.path(), &["clone", "-q", &self.server.url(), name]).await;
        self.scratch.path().join(name)
    }

    /// A clone whose branch has one new commit that is pushed.
    pub async fn pushed_branch(&self, name: &str, file: &str, text: &str) -> PathBuf {
        let tree = self.clone_to(&name.replace('/', "-")).await;
        git_ok(&tree, &["checkout", "-q", "-b", name]).await;
        commit_file(&tree, file, text).await;
        git_ok(&tree, &["push", "-q", "origin", name]).await;
        tree
    }
}

#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    policy: Arc<Mutex<Option<PushPolicy>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Server {
    pub async fn start(forge: LocalForge) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let policy = Arc::new(Mutex::new(None));
        let shared = policy.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (forge, policy) = (forge.clone(), shared.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (forge, policy) = (forge.clone(), policy.lock().unwrap().clone());
                        async move { Ok::<_, std::convert::Infallible>(answer(forge, policy, request).await) }
                    });
                    let io = TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        Self { address, policy, task }
    }

    pub fn allow(&self, policy: Option<PushPolicy>) {
        *self.policy.lock().unwrap() = policy;
    }

    pub fn url(&self) -> String {
        format!("http://{}/{}.git", self.address, repository_id(1))
    }
}

async fn answer(
    forge: LocalForge,
    policy: Option<PushPolicy>,
    request: hyper::Request<hyper::body::Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Some(git) = Request::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
    let protocol = header("git-protocol");
    let id: RepositoryId = git.repository.parse().unwrap();
    let response = Response::builder().header("content-type", git.content_type());
    if git.step == Step::Advertise {
        let bytes = forge.advertise(id, git.service, protocol.as_deref()).await.unwrap();
        return response
            .body(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
            .unwrap();
    }
    let frames = TryStreamExt::map_err(BodyStream::new(body), std::io::Error::other);
    let chunks = frames.try_filter_map(|frame| async move { Ok(frame.into_data().ok()) });
    let input = decoded(header("content-encoding").as_deref(), StreamReader::new(Box::pin(chunks))).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        forge.serve(id, git.service, protocol.as_deref(), policy, input, Box::new(near)).await
    });
    let stream = ReaderStream::new(far).map_ok(Frame::data);
    response.body(StreamBody::new(stream).boxed_unsync()).unwrap()
}

fn plain(status: StatusCode) -> Response<Body> {
    let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}
