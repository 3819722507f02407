//! What every provider must do. Each function is one promise; a provider's tests call them with a `Subject`.

mod interactive;
mod ownership;
mod reading;

use crate::{
    Base, ClaimSpec, EgressHandler, EgressStream, ExecEvent, ExecSpec, Exit, ExitReason, Fence, Origin,
    Resources, Sandbox, SandboxProvider, SearchQuery, Workspace,
};
use async_trait::async_trait;
pub use interactive::*;
pub use ownership::*;
pub use reading::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Nothing in these tests takes longer on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A provider under test, and a scratch directory on a disk that can hold workspaces.
#[derive(Clone, Debug)]
pub struct Subject {
    pub provider: Arc<dyn SandboxProvider>,
    pub scratch: PathBuf,
    pub egress: Arc<Recorder>,
}

/// Remembers where connections went, and answers each with a word.
#[derive(Debug, Default)]
pub struct Recorder {
    origins: Mutex<Vec<Origin>>,
}

impl Recorder {
    pub fn origins(&self) -> Vec<Origin> {
        self.origins.lock().expect("no test panics while it holds this").clone()
    }

    fn note(&self, origin: Origin) {
        self.origins.lock().expect("no test panics while it holds this").push(origin);
    }
}

#[async_trait]
impl EgressHandler for Recorder {
    async fn connection(&self, origin: Origin, mut stream: Box<dyn EgressStream>) {
        self.note(origin);
        let mut line = [0u8; 5];
        if stream.read_exact(&mut line).await.is_ok() {
            let _ = stream.write_all(b"hello ").await;
            let _ = stream.write_all(&line).await;
            let _ = stream.shutdown().await;
        }
    }

    async fn dns(&self, origin: Origin, query: Vec<u8>) -> Option<Vec<u8>> {
        self.note(origin);
        Some(query.iter().rev().copied().collect())
    }
}

impl Subject {
    /// A claim whose names nobody else uses.
    pub fn spec(&self) -> ClaimSpec {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ClaimSpec {
            id: format!("sandbox-{number}"),
            fence: Fence { session: format!("session-{number}"), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: Vec::new(),
            workspace: Workspace {
                directory: self.scratch.join(format!("workspace-{number}")),
                begin_from: None,
            },
            binds: Vec::new(),
            egress_ports: Vec::new(),
            resources: Resources::default(),
            hostname: format!("room-{number}"),
            env: vec![("GREETING".into(), "from the claim".into())],
            is_background: false,
        }
    }

    pub async fn claim(&self) -> Arc<dyn Sandbox> {
        self.claim_with(self.spec()).await
    }

    pub async fn claim_with(&self, spec: ClaimSpec) -> Arc<dyn Sandbox> {
        timeout(PATIENCE, self.provider.claim(spec)).await.expect("claims in time").expect("claims")
    }
}

/// A run of `sh -c script`.
pub fn shell(call: &str, script: &str) -> ExecSpec {
    ExecSpec {
        call: call.into(),
        argv: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        cwd: "/".into(),
        env: Vec::new(),
        stdin: Vec::new(),
        timeout_ms: 30_000,
        output_limit_bytes: 1 << 20,
        is_read_only: false,
    }
}

/// What a run printed, and how it ended.
pub async fn finish(sandbox: &dyn Sandbox, spec: ExecSpec) -> (String, Exit) {
    let (output, exit) = timeout(PATIENCE, try_finish(sandbox, spec)).await.expect("ends in time");
    (output, exit.expect("its outcome is known"))
}

async fn try_finish(sandbox: &dyn Sandbox, spec: ExecSpec) -> (String, Option<Exit>) {
    let mut events = sandbox.exec(spec).await.expect("starts");
    let mut output = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            ExecEvent::Output { offset, bytes } => {
                assert_eq!(offset, output.len() as u64, "output comes in order");
                output.extend(bytes);
            }
            ExecEvent::Exit(exit) => return (String::from_utf8_lossy(&output).into_owned(), Some(exit)),
        }
    }
    (String::from_utf8_lossy(&output).into_owned(), None)
}

/// The output of a script that must succeed.
pub async fn run(sandbox: &dyn Sandbox, script: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let call = format!("run-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (output, exit) = finish(sandbox, shell(&call, script)).await;
    assert_eq!(exit.reason, ExitReason::Code { code: 0 }, "{script}: {output}");
    sandbox.acknowledge(&call).await.expect("acknowledges");
    output
}

fn code(code: i32) -> ExitReason {
    ExitReason::Code { code }
}

pub async fn a_run_gives_its_output_and_exit_code(subject: &Subject) {
    let sandbox = subject.claim().await;
    let (output, exit) = finish(&*sandbox, shell("a", "echo out; echo err >&2; exit 3")).await;
    assert_eq!(output, "out\nerr\n");
    assert_eq!((exit.reason, exit.output_bytes, exit.is_truncated), (code(3), 8, false));
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_run_sees_its_environment_directory_and_input(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut spec = shell("env", "echo $GREETING; echo $EXTRA; pwd; cat");
    spec.env = vec![("EXTRA".into(), "from the run".into())];
    spec.cwd = "/workspace".into();
    spec.stdin = b"from input".to_vec();
    let (output, _) = finish(&*sandbox, spec).await;
    assert_eq!(output, "from the claim\nfrom the run\n/workspace\nfrom input");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_missing_program_is_not_started(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut spec = shell("missing", "");
    spec.argv = vec!["no-such-program".into()];
    let (_, exit) = finish(&*sandbox, spec).await;
    assert_eq!(exit.reason, ExitReason::NotStarted { errno: 2 });
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_call_never_runs_twice(subject: &Subject) {
    let sandbox = subject.claim().await;
    let script = "echo run >> /workspace/log; cat /workspace/log";
    let first = finish(&*sandbox, shell("same", script)).await;
    let second = finish(&*sandbox, shell("same", script)).await;
    assert_eq!(first, second);
    assert_eq!(run(&*sandbox, "cat /workspace/log").await, "run\n");
    sandbox.destroy().await.expect("destroys");
}

pub async fn output_past_the_limit_is_counted_and_dropped(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut spec = shell("long", "echo 123456789; echo abcdefghi");
    spec.output_limit_bytes = 15;
    let (output, exit) = finish(&*sandbox, spec).await;
    assert_eq!(output, "123456789\nabcde");
    assert_eq!((exit.output_bytes, exit.is_truncated), (20, true));
    sandbox.destroy().await.expect("destroys");
}

pub async fn files_are_written_read_and_listed(subject: &Subject) {
    let sandbox = subject.claim().await;
    let big: Vec<u8> = (0..2_500_000u32).map(|n| (n % 251) as u8).collect();
    sandbox.write_file("/workspace/a/b/file.txt", b"hello\n").await.expect("writes");
    sandbox.write_file("/workspace/big", &big).await.expect("writes in pieces");
    let content = sandbox.read_file("/workspace/a/b/file.txt", 2, 2).await.expect("reads");
    assert_eq!((content.bytes.as_slice(), content.size, content.is_end), (b"ll".as_slice(), 6, false));
    assert_eq!(sandbox.read_file("/workspace/big", 0, 1 << 30).await.expect("reads").bytes, big);
    let stat = sandbox.stat("/workspace/a/b/file.txt").await.expect("stats");
    assert_eq!((stat.kind, stat.size), (crate::FileKind::File, 6));
    let names: Vec<String> =
        sandbox.list_dir("/workspace").await.expect("lists").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "big"]);
    let missing = sandbox.read_file("/workspace/none", 0, 10).await;
    assert!(matches!(missing, Err(crate::Error::NotFound { .. })), "{missing:?}");
    assert!(matches!(sandbox.stat("relative").await, Err(crate::Error::Invalid { .. })));
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_search_finds_names_and_lines(subject: &Subject) {
    let sandbox = subject.claim().await;
    for (path, text) in
        [("src/one.rs", "fn alpha() {}\n"), ("src/two.rs", "fn beta() {}\n"), ("notes.md", "alpha\n")]
    {
        sandbox.write_file(&format!("/workspace/{path}"), text.as_bytes()).await.expect("writes");
    }
    let glob = SearchQuery::Glob { root: "/workspace".into(), pattern: "src/*.rs".into(), limit: 10 };
    let found = sandbox.search(glob).await.expect("searches");
    let mut lines: Vec<&str> = found.text.lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, found.matches), (vec!["/workspace/src/one.rs", "/workspace/src/two.rs"], 2));
    let grep = SearchQuery::Grep {
        root: "/workspace".into(),
        pattern: "alpha".into(),
        include: Some("*.rs".into()),
        is_case_insensitive: false,
        context_lines: 0,
        limit: 10,
    };
    let found = sandbox.search(grep).await.expect("searches");
    assert_eq!(found.text, "/workspace/src/one.rs:1:fn alpha() {}\n");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_workspace_outlives_its_sandbox(subject: &Subject) {
    let spec = subject.spec();
    let sandbox = subject.claim_with(spec.clone()).await;
    sandbox.write_file("/workspace/kept", b"still here").await.expect("writes");
    sandbox.destroy().await.expect("destroys");
    let sandbox = subject.claim_with(spec).await;
    assert_eq!(sandbox.read_file("/workspace/kept", 0, 100).await.expect("reads").bytes, b"still here");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_suspended_sandbox_becomes_a_layer(subject: &Subject) {
    let sandbox = subject.claim().await;
    sandbox.write_file("/workspace/layered", b"below").await.expect("writes");
    let layer = sandbox.suspend().await.expect("suspends");
    assert!(sandbox.exec(shell("late", "true")).await.is_err());
    let mut spec = subject.spec();
    spec.layers = vec![layer.directory];
    let next = subject.claim_with(spec).await;
    assert_eq!(next.read_file("/workspace/layered", 0, 100).await.expect("reads").bytes, b"below");
    next.write_file("/workspace/layered", b"above").await.expect("writes");
    assert_eq!(run(&*next, "cat /workspace/layered").await, "above");
    next.destroy().await.expect("destroys");
}

pub async fn an_older_owner_is_refused(subject: &Subject) {
    let spec = subject.spec();
    let old = subject.claim_with(spec.clone()).await;
    let mut newer = subject.spec();
    newer.fence = Fence { epoch: 2, ..spec.fence.clone() };
    let new = subject.claim_with(newer).await;
    let mut late = subject.spec();
    late.fence = spec.fence.clone();
    let refused = subject.provider.claim(late).await;
    assert!(matches!(refused, Err(crate::Error::Fenced { seen: 2 })), "{refused:?}");
    assert!(matches!(old.exec(shell("x", "true")).await, Err(crate::Error::Fenced { seen: 2 })));
    assert_eq!(run(&*new, "echo mine").await, "mine\n");
    old.destroy().await.expect("destroys");
    new.destroy().await.expect("destroys");
}

pub async fn a_destroyed_sandbox_is_forgotten(subject: &Subject) {
    let sandbox = subject.claim().await;
    let id = sandbox.id().to_owned();
    assert!(subject.provider.list().await.expect("lists").contains(&id));
    sandbox.destroy().await.expect("destroys");
    assert!(!subject.provider.list().await.expect("lists").contains(&id));
    assert_eq!(timeout(PATIENCE, sandbox.ended()).await.expect("ended"), "it was destroyed");
    assert!(matches!(sandbox.exec(shell("x", "true")).await, Err(crate::Error::Ended { .. })));
}

impl Subject {
    /// Where a snapshot may be put, on the workspaces' file system.
    fn snapshot_path(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.scratch.join("snapshots").join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A sandbox over the same layers whose workspace begins from a snapshot.
    async fn begun(&self, layers: &[PathBuf], snapshot: &Path) -> Arc<dyn Sandbox> {
        let mut spec = self.spec();
        spec.layers = layers.to_vec();
        spec.workspace.begin_from = Some(snapshot.to_owned());
        self.claim_with(spec).await
    }
}

pub async fn a_snapshot_begins_any_number_of_workspaces_and_is_not_changed_by_them(subject: &Subject) {
    let below = subject.claim().await;
    for name in ["removed", "replaced/old", "kept"] {
        below.write_file(&format!("/workspace/{name}"), b"below").await.expect("writes");
    }
    let layers = [below.suspend().await.expect("suspends").directory];
    let mut spec = subject.spec();
    spec.layers = layers.to_vec();
    let sandbox = subject.claim_with(spec).await;
    run(
        &*sandbox,
        "cd /workspace && rm removed && rm -r replaced && mkdir replaced && echo one > replaced/new \
         && ln replaced/new twin && ln -s nowhere link && mkdir closed && chmod 000 closed",
    )
    .await;
    let first = subject.snapshot_path();
    let taken = timeout(PATIENCE, sandbox.snapshot(&first)).await.expect("in time").expect("snapshots");
    assert_eq!(taken.layer.directory, first);
    run(&*sandbox, "cd /workspace && echo two > replaced/new && rm kept").await;

    const LOOK: &str = "cd /workspace && find . | sort | tr '\\n' ' ' && cat replaced/new";
    const FOUND: &str = ". ./closed ./kept ./link ./replaced ./replaced/new ./twin one\n";
    for _ in 0..2 {
        let begun = subject.begun(&layers, &first).await;
        assert_eq!(run(&*begun, LOOK).await, FOUND);
        run(&*begun, "cd /workspace && rm -r replaced link && echo more > own").await;
        begun.destroy().await.expect("destroys");
    }
    // A snapshot of what began from one is whole by itself.
    let begun = subject.begun(&layers, &first).await;
    run(&*begun, "cd /workspace && rm kept twin && rm -r closed && echo three > replaced/new").await;
    let second = subject.snapshot_path();
    begun.snapshot(&second).await.expect("snapshots");
    begun.destroy().await.expect("destroys");
    let last = subject.begun(&layers, &second).await;
    assert_eq!(run(&*last, LOOK).await, ". ./link ./replaced ./replaced/new three\n");
    last.destroy().await.expect("destroys");
    assert_eq!(run(&*sandbox, "cat /workspace/replaced/new").await, "two\n");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_workspace_that_holds_files_ignores_what_it_could_begin_from(subject: &Subject) {
    let spec = subject.spec();
    let sandbox = subject.claim_with(spec.clone()).await;
    sandbox.write_file("/workspace/file", b"early").await.expect("writes");
    let snapshot = subject.snapshot_path();
    sandbox.snapshot(&snapshot).await.expect("snapshots");
    sandbox.write_file("/workspace/file", b"late").await.expect("writes");
    sandbox.destroy().await.expect("destroys");
    let mut again = spec;
    again.workspace.begin_from = Some(snapshot);
    let sandbox = subject.claim_with(again).await;
    assert_eq!(sandbox.read_file("/workspace/file", 0, 9).await.expect("reads").bytes, b"late");
    sandbox.destroy().await.expect("destroys");
}

/// A process writes two files, always the first one first; a snapshot never shows the second one newer, nor the first
/// more than one ahead. And the process goes on.
pub async fn a_snapshot_of_a_busy_sandbox_is_one_instant(subject: &Subject) {
    let sandbox = subject.claim().await;
    let script = "cd /workspace; (n=0; while :; do n=$((n+1)); for f in a b; do \
        echo $n > .$f; mv .$f $f; done; done) > /dev/null 2>&1 & \
        until [ -f /workspace/b ]; do sleep 0.01; done";
    run(&*sandbox, script).await;
    for _ in 0..5 {
        let path = subject.snapshot_path();
        let taken = timeout(PATIENCE, sandbox.snapshot(&path)).await.expect("in time").expect("snapshots");
        assert!(taken.freeze_us > 0 && taken.freeze_us <= taken.total_us, "{taken:?}");
        let begun = subject.begun(&[], &path).await;
        let text = run(&*begun, "cat /workspace/a /workspace/b").await;
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().expect("a whole number")).collect();
        assert!(numbers[0] == numbers[1] || numbers[0] == numbers[1] + 1, "{numbers:?}");
        begun.destroy().await.expect("destroys");
        let wait = format!("while [ $(cat /workspace/a) = {} ]; do sleep 0.01; done", numbers[0]);
        run(&*sandbox, &wait).await;
    }
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_snapshot_never_replaces_what_is_there(subject: &Subject) {
    let sandbox = subject.claim().await;
    let path = subject.snapshot_path();
    sandbox.snapshot(&path).await.expect("snapshots");
    let again = sandbox.snapshot(&path).await;
    assert!(matches!(again, Err(crate::Error::Invalid { .. })), "{again:?}");
    sandbox.destroy().await.expect("destroys");
    sandbox
        .snapshot(&subject.snapshot_path())
        .await
        .expect("the files of an ended sandbox can still be copied");
}

/// The promises that need no real processes.
pub async fn basics(subject: &Subject) {
    a_run_gives_its_output_and_exit_code(subject).await;
    a_run_sees_its_environment_directory_and_input(subject).await;
    a_missing_program_is_not_started(subject).await;
    a_call_never_runs_twice(subject).await;
    output_past_the_limit_is_counted_and_dropped(subject).await;
    files_are_written_read_and_listed(subject).await;
    a_search_finds_names_and_lines(subject).await;
    a_workspace_outlives_its_sandbox(subject).await;
    a_suspended_sandbox_becomes_a_layer(subject).await;
    an_older_owner_is_refused(subject).await;
    a_destroyed_sandbox_is_forgotten(subject).await;
    a_run_that_only_reads_writes_nothing_but_below_tmp(subject).await;
    a_terminal_runs_a_shell_and_tells_how_it_ended(subject).await;
    a_terminal_without_its_program_says_so(subject).await;
    a_terminal_call_is_never_repeated(subject).await;
    nothing_listens_at_first(subject).await;
    changes_below_a_directory_are_told(subject).await;
}

pub async fn a_run_past_its_time_is_ended(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut spec = shell("slow", "echo started; sleep 1000");
    spec.timeout_ms = 300;
    let (output, exit) = finish(&*sandbox, spec).await;
    // The shell may still say that its child was terminated.
    assert!(output.starts_with("started\n"), "{output}");
    assert_eq!(exit.reason, ExitReason::TimedOut);
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_cancelled_run_takes_its_grandchildren_along(subject: &Subject) {
    let sandbox = subject.claim().await;
    let script = "trap '' TERM; (trap '' TERM; sleep 1111) & setsid sh -c 'sleep 1112' & \
        sh -c 'setsid setsid sleep 1113 &' ; echo ready; sleep 1114";
    let mut events = sandbox.exec(shell("tree", script)).await.expect("starts");
    let ready = timeout(PATIENCE, events.recv()).await.expect("speaks in time");
    assert!(matches!(ready, Some(ExecEvent::Output { .. })), "{ready:?}");
    timeout(PATIENCE, sandbox.cancel("tree", 100)).await.expect("in time").expect("cancels");
    let exit = timeout(PATIENCE, async {
        loop {
            match events.recv().await {
                Some(ExecEvent::Exit(exit)) => return exit.reason,
                Some(ExecEvent::Output { .. }) => {}
                None => panic!("the outcome is unknown"),
            }
        }
    });
    assert_eq!(exit.await.expect("in time"), ExitReason::Cancelled);
    let left = run(&*sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
    assert!(!left.contains("sleep 111"), "{left}");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_background_process_does_not_hold_the_exit_up(subject: &Subject) {
    let sandbox = subject.claim().await;
    let (output, exit) = finish(&*sandbox, shell("daemon", "sleep 1000 & echo done")).await;
    assert_eq!((output.as_str(), exit.reason), ("done\n", code(0)));
    assert!(exit.duration_ms < 20_000);
    assert!(run(&*sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.contains("sleep 1000"));
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_link_to_a_host_path_stays_inside(subject: &Subject) {
    let secret = subject.scratch.join("host-secret");
    std::fs::write(&secret, "do not show").expect("writes on the host");
    let sandbox = subject.claim().await;
    run(&*sandbox, &format!("ln -s {} /workspace/link; ln -s / /workspace/root", secret.display())).await;
    assert!(sandbox.read_file("/workspace/link", 0, 100).await.is_err());
    assert!(sandbox.read_file(&format!("/workspace/root{}", secret.display()), 0, 100).await.is_err());
    sandbox.write_file("/workspace/root/marker", b"inside").await.expect("writes inside");
    assert!(!Path::new("/marker").exists());
    sandbox.destroy().await.expect("destroys");
}

pub async fn no_secret_of_the_host_is_visible(subject: &Subject, canaries: &[PathBuf]) {
    let sandbox = subject.claim().await;
    for canary in canaries {
        let (output, exit) =
            finish(&*sandbox, shell(&canary.to_string_lossy(), &format!("cat {}", canary.display()))).await;
        assert_ne!(exit.reason, code(0), "{} shows {output}", canary.display());
    }
    let keys = run(&*sandbox, "cat /etc/gshadow /etc/ssh/*_key /proc/kcore 2>/dev/null || true").await;
    assert_eq!(keys, "");
    let passwords = run(&*sandbox, "cat /etc/shadow 2>/dev/null || true").await;
    assert!(passwords.lines().all(|line| line.ends_with(":*:::::::")), "only locked ones: {passwords}");
    let names = run(&*sandbox, "ls -A / /root /home /mnt /srv /run").await;
    for hidden in [".ssh", ".cargo", "docker.sock", "systemd"] {
        assert!(!names.contains(hidden), "{hidden} in {names}");
    }
    sandbox.destroy().await.expect("destroys");
}

pub async fn there_is_no_interface_but_lo(subject: &Subject) {
    let sandbox = subject.claim().await;
    let names = run(&*sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1").await;
    assert_eq!(names.trim(), "lo");
    sandbox.destroy().await.expect("destroys");
}

pub async fn connections_arrive_with_their_destination(subject: &Subject) {
    let spec = subject.spec();
    let session = spec.fence.session.clone();
    let sandbox = subject.claim_with(spec).await;
    let script = r#"
import socket
for family, address in ((socket.AF_INET, ("203.0.113.7", 443)), (socket.AF_INET6, ("2001:db8::7", 80))):
    s = socket.create_connection(address, 10); s.sendall(b"12345"); print(s.makefile().read()); s.close()
for family, address in ((socket.AF_INET, ("198.51.100.1", 53)), (socket.AF_INET6, ("2001:db8::53", 53))):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(10); s.connect(address); s.send(b"abc"); print(s.recv(100).decode())
"#;
    sandbox.write_file("/tmp/connect.py", script.as_bytes()).await.expect("writes");
    assert_eq!(run(&*sandbox, "python3 /tmp/connect.py").await, "hello 12345\nhello 12345\ncba\ncba\n");
    let mut seen: Vec<String> = subject
        .egress
        .origins()
        .into_iter()
        .filter(|origin| origin.session == session)
        .map(|origin| origin.destination.to_string())
        .collect();
    seen.sort();
    assert_eq!(seen, ["198.51.100.1:53", "203.0.113.7:443", "[2001:db8::53]:53", "[2001:db8::7]:80"]);
    sandbox.destroy().await.expect("destroys");
}

/// Or the provider says that it cannot.
pub async fn memory_past_the_limit_ends_only_what_is_inside(subject: &Subject) {
    let entries = subject.provider.capabilities().entries;
    let limit = entries.iter().find(|entry| entry.name == "memory_limit").expect("is always reported");
    if !limit.is_available {
        assert!(limit.remedy.is_some(), "a gap names its remedy: {limit:?}");
        return;
    }
    let mut spec = subject.spec();
    spec.resources.memory_bytes = Some(128 << 20);
    let sandbox = subject.claim_with(spec).await;
    let mut hog = shell("hog", "");
    hog.argv = ["python3", "-c", "x = bytearray(512 << 20)"].map(String::from).to_vec();
    let (output, exit) = finish(&*sandbox, hog).await;
    assert_eq!(exit.reason, ExitReason::OutOfMemory, "{output}");
    assert_eq!(run(&*sandbox, "echo alive").await, "alive\n");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_fork_bomb_is_contained(subject: &Subject) {
    let mut spec = subject.spec();
    spec.resources.processes = Some(64);
    let sandbox = subject.claim_with(spec).await;
    let mut bomb = shell("bomb", "b() { b | b & }; b; sleep 1000");
    bomb.timeout_ms = 1000;
    let (_, exit) = finish(&*sandbox, bomb).await;
    assert!(!matches!(exit.reason, ExitReason::NotStarted { .. }), "{exit:?}");
    timeout(PATIENCE, sandbox.destroy()).await.expect("in time").expect("destroys");
}

/// What docs/docker.md says of container engines: namespaces and mounts are refused with EPERM, `chroot` is not.
pub async fn containers_inside_are_refused_and_a_changed_root_is_not(subject: &Subject) {
    let sandbox = subject.claim().await;
    let script = r#"
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000):
    assert c.unshare(flag) == -1 and ctypes.get_errno() == 1, hex(flag)
    if os.uname().machine == "x86_64":
        assert c.syscall(56, flag | 17, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1, hex(flag)
assert c.mount(b"none", b"/mnt", b"tmpfs", 0, None) == -1 and ctypes.get_errno() == 1
assert c.syscall(435, 0, 0) == -1 and ctypes.get_errno() == 38
os.makedirs("/tmp/root/inner"); os.chroot("/tmp/root"); print(os.listdir("/"))
"#;
    sandbox.write_file("/tmp/containers.py", script.as_bytes()).await.expect("writes");
    assert_eq!(run(&*sandbox, "python3 /tmp/containers.py").await, "['inner']\n");
    let told = run(&*sandbox, "unshare -U true 2>&1 || true").await;
    assert_eq!(told, "unshare: unshare failed: Operation not permitted\n");
    sandbox.destroy().await.expect("destroys");
}

pub async fn nothing_inside_reaches_the_kernel_or_other_namespaces(subject: &Subject) {
    let sandbox = subject.claim().await;
    let attempts = [
        "mount -t tmpfs none /mnt",
        "unshare -U true",
        "unshare -m true",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "mknod /tmp/disk b 254 0",
        "nsenter -t 1 -m true",
        "chroot /proc/1/root true",
        "cat /proc/1/environ",
        "python3 -c 'import socket; socket.socket(40, 1)'",
        // Generic netlink, SCTP, statmount, open_tree_attr.
        "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)'",
        "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)'",
        "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(457, 0, 0, 0, 0) != 0)'",
        "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(467, -100, b\"/\", 1, 0, 0) < 0)'",
    ];
    for attempt in attempts {
        let (output, exit) = finish(&*sandbox, shell(attempt, attempt)).await;
        assert_ne!(exit.reason, code(0), "{attempt} worked: {output}");
    }
    let status = run(&*sandbox, "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t\\n'").await;
    assert_eq!(status, "NoNewPrivs:1Seccomp:2");
    assert_eq!(run(&*sandbox, "ls /proc/self/fd | tr '\\n' ' '").await.trim(), "0 1 2 3");
    sandbox.destroy().await.expect("destroys");
}
