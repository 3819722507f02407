//! The real binary for end-to-end tests: a server in a data directory of its own, the client verbs against it, and a
//! model server that speaks the true wire protocol.

use greenroom_client::{Address, Client, Credential, Error};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Entry, Event, SessionId};
use greenroom_model::testing::{Recorded, Turn, WireServer, WireServerOptions};
use greenroom_wire::{CreateSession, ExecResult, SessionStatus, SessionView};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_greenroom");
/// Longer than anything here takes on a slow machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// A recipe that builds at once, for tests that are not about images.
pub(crate) const NO_STEPS: (&str, &str) =
    (".greenroom/environment.toml", "# Nothing but what the machine has.\n");

/// A running `greenroom serve`; ended and cleaned up when dropped.
pub(crate) struct Server {
    child: Child,
    /// As the client verbs reach it; not where the server has it when that lives in a mount namespace of its own.
    data: PathBuf,
    runtime: Runtime,
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let mut server = Self::start_in(&data);
        server._directory = Some(directory);
        server
    }

    pub(crate) fn start_in(data: &Path) -> Self {
        let child = serve(command(data));
        Self::of_child(child, data.to_owned())
    }

    /// Takes over a server that was started in an unusual way.
    pub(crate) fn of_child(child: Child, data: PathBuf) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let mut server = Self { child, data, runtime, _directory: None };
        server.address();
        server
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server answers, and gives its address.
    pub(crate) fn address(&mut self) -> String {
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
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("and reaped");
        // What a killed server leaves is not that of the next one.
        let _ = std::fs::remove_file(self.data.join("run/address"));
    }

    /// As a service manager ends it, in order.
    pub(crate) fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.ended().code(), Some(0), "the server stops in order");
    }

    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success(), "the server runs");
    }

    /// Waits until the server is gone.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the server ends", || child.try_wait().expect("waiting works"))
    }

    pub(crate) fn restart(&mut self) -> String {
        self.child = serve(command(&self.data));
        self.address()
    }

    /// A client verb on this server's machine; panics with its output when it fails.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let (text, succeeded) = run_cli(&self.data, arguments);
        assert!(succeeded, "greenroom {arguments:?} failed:\n{text}");
        text
    }

    /// The verb's output as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.cli(&[&["--json"], arguments].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}):\n{text}"))
    }

    /// The error of a verb that must fail.
    pub(crate) fn problem(&self, arguments: &[&str]) -> Value {
        let mut command = command(&self.data);
        problem_of(&command.arg("--json").args(arguments).output().expect("the binary starts"))
    }

    /// A client verb in somebody else's name.
    pub(crate) fn cli_as(&self, token: &str, arguments: &[&str]) -> Output {
        command(&self.data).env("GREENROOM_TOKEN", token).args(arguments).output().expect("the binary starts")
    }

    /// The same, which must succeed with JSON.
    pub(crate) fn json_as(&self, token: &str, arguments: &[&str]) -> Value {
        let output = self.cli_as(token, &[&["--json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}:\n{}", both(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Adds a member and answers a token of theirs.
    pub(crate) fn member(&self, login: &str) -> String {
        let email = email_of(login);
        self.cli(&["person", "add", login, "--name", &name_of(login), "--email", &email, "--role", "member"]);
        let token = self.json(&["token", "create", "test", "--person", login]);
        token["secret"].as_str().expect("a token has a secret").to_owned()
    }

    /// Makes `model` the default model.
    pub(crate) fn use_model(&self, model: &Model) {
        self.use_model_at(&model.server.url());
    }

    pub(crate) fn use_model_at(&self, url: &str) {
        let protocol = ["--provider", "anthropic", "--model", "test", "--base-url", url];
        self.cli(&[&["model", "add", "test"][..], &protocol, &["--no-key", "--default"]].concat());
    }

    /// Adds a repository with these files, with its image built.
    pub(crate) fn add_repository(&self, name: &str, files: &[(&str, &str)]) {
        let source = repository(files);
        self.cli(&["repository", "add", name, path_text(source.path()), "--wait"]);
    }

    /// Its address with a person's credentials in it, for git.
    pub(crate) fn clone_url(&self, login: &str, token: &str, repository: &str) -> String {
        let address = std::fs::read_to_string(self.data.join("run/address")).expect("the server runs");
        address.replacen("http://", &format!("http://{login}:{token}@"), 1)
            + &format!("/git/{repository}.git")
    }

    /// A client with the local admin's token.
    pub(crate) fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.data.join("run/local-token")).expect("the server runs");
        self.client_as(&token)
    }

    pub(crate) fn client_as(&self, token: &str) -> Client {
        let address = std::fs::read_to_string(self.data.join("run/address")).expect("the server runs");
        let address: Address = address.parse().expect("an address");
        Client::new(address, Credential::Token(token.to_owned())).expect("a client")
    }

    /// Waits for an answer of the client.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let limited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        limited.expect("an answer in time")
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// A session that works on `prompt`.
    pub(crate) fn ask(&self, repository: &str, prompt: &str) -> SessionId {
        self.create_session(repository, Some(prompt)).expect("a session").id
    }

    pub(crate) fn create_session(
        &self,
        repository: &str,
        prompt: Option<&str>,
    ) -> Result<SessionView, Error> {
        let body = session_body(repository, prompt);
        self.wait(self.client().create_session(&greenroom_client::new_key(), &body))
    }

    pub(crate) fn session(&self, id: SessionId) -> SessionView {
        self.wait(self.client().session(id)).expect("the session")
    }

    /// The whole log.
    pub(crate) fn entries(&self, id: SessionId) -> Vec<Entry> {
        let client = self.client();
        let mut all: Vec<Entry> = vec![];
        loop {
            let after = all.last().map_or(0, |entry| entry.seq);
            let page = self.wait(client.entries(id, after, 1000)).expect("entries");
            if page.entries.is_empty() {
                return all;
            }
            all.extend(page.entries);
        }
    }

    /// Waits until the session has answered everything, and gives the log.
    pub(crate) fn settled(&self, id: SessionId) -> Vec<Entry> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let session = self.session(id);
            if session.status != SessionStatus::Running && session.queued_prompts == 0 {
                return self.entries(id);
            }
            assert!(Instant::now() < deadline, "no answer in time:\n{:#?}", self.entries(id));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until the log holds an entry.
    pub(crate) fn entry(&self, id: SessionId, what: &str, is_it: impl Fn(&Event) -> bool) -> Entry {
        until(what, || self.entries(id).into_iter().find(|entry| is_it(&entry.event)))
    }

    /// Runs a command in the session's sandbox.
    pub(crate) fn exec(&self, id: SessionId, command: &str) -> ExecResult {
        let body = greenroom_wire::Exec { command: command.to_owned(), timeout_ms: None };
        self.wait(self.client().exec(id, &body)).unwrap_or_else(|error| panic!("{command}: {error}"))
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

/// Starts `greenroom serve` by a prepared command.
pub(crate) fn serve(mut command: Command) -> Child {
    let command = command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the binary starts")
}

/// The binary, with an environment that holds no setting of whoever runs the test.
pub(crate) fn command(data: &Path) -> Command {
    let mut command = Command::new(BINARY);
    clean(&mut command, data);
    command
}

/// The binary in a mount namespace of its own, in which the shell line `mount` was run first.
pub(crate) fn in_own_mounts(data: &Path, mount: &str) -> Command {
    let mut command = Command::new("unshare");
    clean(&mut command, data);
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    command.args(["--mount", "sh", "-c", &script, BINARY]);
    command
}

/// Mounting is root's; an ordinary user's run says that it left a test out.
pub(crate) fn may_mount() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("left out: only root can mount");
    }
    is_root
}

fn clean(command: &mut Command, data: &Path) {
    command.env("GREENROOM_DATA", data).stdin(Stdio::null());
    // Tests of that say how long turns may go on.
    command.env("GREENROOM_DRAIN_SECONDS", "0");
    let others =
        ["GREENROOM_TOKEN", "GREENROOM_SERVER", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GREENROOM_MODEL_URL"];
    for name in others {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", data.join("no-config"));
}

/// Runs it with `input` on its standard input.
pub(crate) fn fed(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn run_cli(data: &Path, arguments: &[&str]) -> (String, bool) {
    let output = command(data).args(arguments).output().expect("the binary starts");
    if output.status.success() {
        return (String::from_utf8_lossy(&output.stdout).into_owned(), true);
    }
    (both(&output), false)
}

/// The JSON error of a verb with `--json` that must have failed.
pub(crate) fn problem_of(output: &Output) -> Value {
    assert!(!output.status.success(), "it succeeded:\n{}", both(output));
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON error ({error}):\n{}", both(output)))
}

/// An error as people must get it: this code, a sentence, a hint.
#[track_caller]
pub(crate) fn assert_problem(problem: &Value, code: &str) {
    assert_eq!(problem["code"], code, "{problem}");
    let message = problem["message"].as_str().unwrap_or_default();
    assert!(message.ends_with('.') && message.contains(' '), "no sentence: {problem}");
    assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint: {problem}");
}

pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn name_of(login: &str) -> String {
    format!("Member {login}")
}

pub(crate) fn email_of(login: &str) -> String {
    format!("{login}@test.invalid")
}

pub(crate) fn session_body(repository: &str, prompt: Option<&str>) -> CreateSession {
    CreateSession {
        repository: repository.parse().expect("a name"),
        prompt: prompt.map(str::to_owned),
        attachments: vec![],
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    }
}

/// How the turns of a log ended, in order.
pub(crate) fn outcomes(entries: &[Entry]) -> Vec<TurnOutcome> {
    let outcome = |entry: &Entry| match &entry.event {
        Event::TurnFinished { outcome, .. } => Some(outcome.clone()),
        _ => None,
    };
    entries.iter().filter_map(outcome).collect()
}

/// A model server, with the runtime it lives in.
pub(crate) struct Model {
    pub(crate) server: WireServer,
    runtime: Runtime,
}

impl Model {
    pub(crate) fn new(respond: impl Fn(&Asked) -> Turn + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let options = WireServerOptions { tls: false, http2: false, round_trip: Duration::ZERO };
        let server = runtime.block_on(WireServer::start(options)).expect("a port is free");
        server.respond_with(move |recorded| respond(&Asked::of(recorded)));
        Self { server, runtime }
    }

    pub(crate) fn wait_for_requests(&self, wanted: usize) -> Vec<Recorded> {
        self.runtime.block_on(self.server.wait_for_requests(wanted, PATIENCE)).expect("requests in time")
    }
}

/// What a request asks, read from the body of the Messages protocol.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The last prompt of a person.
    pub(crate) prompt: String,
    /// Answers that the model gave since.
    pub(crate) step: usize,
    /// What the last calls gave.
    pub(crate) results: String,
}

impl Asked {
    fn of(recorded: &Recorded) -> Self {
        let body = recorded.json();
        let mut asked = Self { prompt: String::new(), step: 0, results: String::new() };
        for message in body["messages"].as_array().into_iter().flatten() {
            if message["role"] == "assistant" {
                asked.step += 1;
                continue;
            }
            asked.results.clear();
            for part in message["content"].as_array().into_iter().flatten() {
                match part["type"].as_str() {
                    Some("text") => {
                        asked.hear(part["text"].as_str().unwrap_or_default());
                    }
                    _ => asked.results.push_str(&part["content"].to_string()),
                }
            }
            if let Some(text) = message["content"].as_str() {
                asked.hear(text);
            }
        }
        asked
    }

    /// What the platform notes before a prompt is left out.
    fn hear(&mut self, text: &str) {
        self.prompt = text.rsplit("\n\n").next().unwrap_or_default().to_owned();
        self.step = 0;
    }
}

/// A tool call, with an id that no other call has.
pub(crate) fn call(name: &str, input: &Value) -> Turn {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Turn::call(&format!("call_{}", NEXT.fetch_add(1, Ordering::Relaxed)), name, input)
}

pub(crate) fn bash(command: &str) -> Turn {
    call("bash", &json!({ "command": command }))
}

/// Waits for a condition, with a deadline.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = try_git(directory, arguments);
    assert!(output.status.success(), "git {arguments:?}:\n{}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn try_git(directory: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@test.invalid", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git starts")
}

/// A repository with these files in one commit.
pub(crate) fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        write(directory.path(), name, text);
    }
    commit_all(directory.path());
    directory
}

pub(crate) fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
    std::fs::write(path, text).expect("a file");
}

/// Makes the directory a repository, everything in one commit.
pub(crate) fn commit_all(directory: &Path) {
    git(directory, &["init", "-q"]);
    git(directory, &["add", "-A", "-f"]);
    git(directory, &["commit", "-q", "-m", "first"]);
}
