//! The real binary for end-to-end tests: a server in a data directory of its own, the client verbs against it, and a
//! model server that speaks the true wire protocol.
#![allow(dead_code, reason = "each test program uses its own part")]

use greenroom_model::testing::{Recorded, Turn, WireServer, WireServerOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_greenroom");
/// Longer than anything here takes on a slow machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running `greenroom serve`; ended and cleaned up when dropped.
pub struct Server {
    child: Child,
    data: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let mut server = Self::start_in(&data);
        server._directory = Some(directory);
        server
    }

    pub fn start_in(data: &Path) -> Self {
        let mut server = Self { child: spawn(data), data: data.to_owned(), _directory: None };
        server.address();
        server
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Waits until the server answers, and gives its address.
    pub fn address(&mut self) -> String {
        let file = self.data.join("run/address");
        let data = self.data.clone();
        until("the server is up", || {
            if let Some(status) = self.child.try_wait().expect("waiting works") {
                panic!("the server ended: {status}");
            }
            let address = std::fs::read_to_string(&file).ok()?;
            let (_, answered) = run_cli(&data, &["--json", "person", "list"]);
            answered.then_some(address)
        })
    }

    /// As a crash ends it: no handler runs.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("and reaped");
        // What a killed server leaves is not that of the next one.
        let _ = std::fs::remove_file(self.data.join("run/address"));
    }

    pub fn restart(&mut self) -> String {
        self.child = spawn(&self.data);
        self.address()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client verb on this server's machine; panics with its output when it fails.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let (text, succeeded) = run_cli(&self.data, arguments);
        assert!(succeeded, "greenroom {arguments:?} failed:\n{text}");
        text
    }

    /// The verb's output as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.cli(&[&["--json"], arguments].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}):\n{text}"))
    }

    /// The error of a verb that must fail.
    pub fn problem(&self, arguments: &[&str]) -> Value {
        let output =
            command(&self.data).args(["--json"]).args(arguments).output().expect("the binary starts");
        assert!(!output.status.success(), "greenroom {arguments:?} succeeded:\n{}", both(&output));
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{arguments:?}: no JSON error ({error}):\n{text}"))
    }

    /// A client verb in somebody else's name.
    pub fn cli_as(&self, token: &str, arguments: &[&str]) -> Output {
        command(&self.data).env("GREENROOM_TOKEN", token).args(arguments).output().expect("the binary starts")
    }

    /// Adds a member and answers a token of theirs.
    pub fn member(&self, login: &str) -> String {
        let email = format!("{login}@test.invalid");
        let name = format!("Member {login}");
        self.cli(&["person", "add", login, "--name", &name, "--email", &email, "--role", "member"]);
        let token = self.json(&["token", "create", "test", "--login", login]);
        token["secret"].as_str().expect("a token has a secret").to_owned()
    }

    /// Makes `model` the default model.
    pub fn use_model(&self, model: &WireServer) {
        let url = model.url();
        self.cli(&[
            "model",
            "add",
            "test",
            "--provider",
            "anthropic",
            "--model",
            "test",
            "--base-url",
            &url,
            "--no-key",
            "--default",
        ]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first, so that sandboxes end and their files can be removed.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(data: &Path) -> Child {
    command(data)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary starts")
}

/// The binary, with an environment that holds no setting of whoever runs the test.
pub fn command(data: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.env("GREENROOM_DATA", data).stdin(Stdio::null());
    for name in
        ["GREENROOM_TOKEN", "GREENROOM_SERVER", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GREENROOM_MODEL_URL"]
    {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", data.join("no-config"));
    command
}

fn run_cli(data: &Path, arguments: &[&str]) -> (String, bool) {
    let output = command(data).args(arguments).output().expect("the binary starts");
    if output.status.success() {
        return (String::from_utf8_lossy(&output.stdout).into_owned(), true);
    }
    (both(&output), false)
}

pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A model server with a responder.
pub async fn model(respond: impl Fn(&Recorded) -> Turn + Send + Sync + 'static) -> WireServer {
    let options = WireServerOptions { tls: false, http2: false, round_trip: Duration::ZERO };
    let server = WireServer::start(options).await.expect("a port is free");
    server.respond_with(respond);
    server
}

/// Waits for a condition, with a deadline.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@test.invalid", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git starts");
    assert!(output.status.success(), "git {arguments:?}:\n{}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A repository with these files in one commit.
pub fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    git(directory.path(), &["init", "-q"]);
    git(directory.path(), &["add", "-A"]);
    git(directory.path(), &["commit", "-q", "-m", "first"]);
    directory
}
