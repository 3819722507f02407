//! Promises about terminals, watches and ports.

use super::{PATIENCE, Subject, code, run, shell};
use crate::{
    Error, ExitReason, Sandbox, Terminal, TerminalEvent, TerminalInput, TerminalSize, TerminalSpec,
    WatchEvent,
};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// A shell on a terminal of 24 rows and 80 columns, or `sh -c script`.
pub fn terminal(call: &str, script: Option<&str>) -> TerminalSpec {
    let arguments = script.map(|script| ["-c".to_owned(), script.to_owned()]).into_iter().flatten();
    TerminalSpec {
        call: call.into(),
        argv: ["/bin/sh".to_owned()].into_iter().chain(arguments).collect(),
        cwd: "/workspace".into(),
        env: vec![("PS1".into(), "$ ".into())],
        size: TerminalSize { rows: 24, columns: 80 },
    }
}

async fn open(sandbox: &dyn Sandbox, spec: TerminalSpec) -> Terminal {
    timeout(PATIENCE, sandbox.open_terminal(spec)).await.expect("opens in time").expect("opens")
}

async fn type_line(terminal: &Terminal, line: &str) {
    let bytes = format!("{line}\n").into_bytes();
    terminal.input.send(TerminalInput::Bytes { bytes }).await.expect("the terminal takes input");
}

/// Everything printed until `wanted` shows.
async fn until_shown(terminal: &mut Terminal, wanted: &str) -> String {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(wanted) {
        match timeout(PATIENCE, terminal.output.recv()).await.expect("speaks in time") {
            Some(TerminalEvent::Output { bytes }) => shown.extend(bytes),
            other => panic!("{other:?} before {wanted:?}: {}", String::from_utf8_lossy(&shown)),
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

async fn until_exit(output: &mut Receiver<TerminalEvent>) -> ExitReason {
    let exit = async {
        loop {
            match output.recv().await {
                Some(TerminalEvent::Exit { reason }) => return reason,
                Some(TerminalEvent::Output { .. }) => {}
                None => panic!("the outcome is unknown"),
            }
        }
    };
    timeout(PATIENCE, exit).await.expect("ends in time")
}

pub async fn a_terminal_runs_a_shell_and_tells_how_it_ended(subject: &Subject) {
    let sandbox = subject.claim().await;
    sandbox.write_file("/workspace/note", b"read inside\n").await.expect("writes");
    let mut shell = open(&*sandbox, terminal("t", None)).await;
    type_line(&shell, "echo $GREETING").await;
    until_shown(&mut shell, "from the claim").await;
    type_line(&shell, "cat /workspace/note").await;
    until_shown(&mut shell, "read inside").await;
    type_line(&shell, "exit 7").await;
    assert_eq!(until_exit(&mut shell.output).await, code(7));
    assert_eq!(shell.output.recv().await, None, "the exit is the last event");
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_terminal_without_its_program_says_so(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut spec = terminal("missing", None);
    spec.argv = vec!["no-such-program".into()];
    let mut missing = open(&*sandbox, spec).await;
    assert_eq!(until_exit(&mut missing.output).await, ExitReason::NotStarted { errno: 2 });
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_terminal_call_is_never_repeated(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut first = open(&*sandbox, terminal("once", None)).await;
    let refused = sandbox.open_terminal(terminal("once", None)).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    type_line(&first, "exit 0").await;
    assert_eq!(until_exit(&mut first.output).await, code(0));
    let refused = sandbox.open_terminal(terminal("once", None)).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    run(&*sandbox, "echo the sandbox goes on").await;
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_terminal_is_one_and_follows_its_size(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut shell = open(&*sandbox, terminal("size", None)).await;
    type_line(&shell, "test -t 0 && tty < /dev/tty; echo $TERM; stty size").await;
    let shown = until_shown(&mut shell, "24 80").await;
    assert!(shown.contains("/dev/pts/") || shown.contains("/dev/tty"), "{shown}");
    assert!(shown.contains("xterm-256color"), "{shown}");
    let size = TerminalSize { rows: 50, columns: 132 };
    shell.input.send(TerminalInput::Resize { size }).await.expect("takes it");
    type_line(&shell, "stty size").await;
    until_shown(&mut shell, "50 132").await;
    let script = "trap 'exit 3' INT; echo ready; while :; do sleep 1000 & wait; done";
    let mut busy = open(&*sandbox, terminal("busy", Some(script))).await;
    until_shown(&mut busy, "ready").await;
    busy.input.send(TerminalInput::Bytes { bytes: vec![3] }).await.expect("takes Ctrl-C");
    assert_eq!(until_exit(&mut busy.output).await, code(3));
    sandbox.destroy().await.expect("destroys");
    let end = timeout(PATIENCE, async { while shell.output.recv().await.is_some() {} }).await;
    end.expect("a terminal ends with its sandbox");
}

pub async fn a_terminal_nobody_holds_is_hung_up(subject: &Subject) {
    let sandbox = subject.claim().await;
    let polite =
        "trap 'echo hung up > /workspace/hup; exit 5' HUP; echo ready; while :; do sleep 1000 & wait; done";
    let mut shell = open(&*sandbox, terminal("polite", Some(polite))).await;
    until_shown(&mut shell, "ready").await;
    let Terminal { input, mut output } = shell;
    drop(input);
    assert_eq!(until_exit(&mut output).await, code(5));
    assert_eq!(run(&*sandbox, "cat /workspace/hup").await, "hung up\n");
    let stubborn = "trap '' HUP; echo ready; while :; do sleep 1000; done";
    let mut shell = open(&*sandbox, terminal("stubborn", Some(stubborn))).await;
    until_shown(&mut shell, "ready").await;
    let Terminal { input, mut output } = shell;
    drop(input);
    assert_eq!(until_exit(&mut output).await, ExitReason::Signal { signal: 9 });
    sandbox.destroy().await.expect("destroys");
}

pub async fn at_most_32_terminals_are_open_at_a_time(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut held = Vec::new();
    for number in 0..32 {
        held.push(open(&*sandbox, terminal(&format!("t{number}"), Some("exec cat"))).await);
    }
    let refused = sandbox.open_terminal(terminal("t32", None)).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let Terminal { input, mut output } = held.pop().expect("32 are held");
    drop(input);
    assert_eq!(until_exit(&mut output).await, ExitReason::Signal { signal: 1 });
    open(&*sandbox, terminal("t33", None)).await;
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_terminal_is_bounded_both_ways(subject: &Subject) {
    let sandbox = subject.claim().await;
    let flood = open(&*sandbox, terminal("flood", Some("yes"))).await;
    let mut deaf = open(&*sandbox, terminal("deaf", Some("stty raw; echo ready; sleep 1000"))).await;
    until_shown(&mut deaf, "ready").await;
    let fill = async {
        let piece = || TerminalInput::Bytes { bytes: vec![b'x'; 64 * 1024] };
        // The queue is full at once, or when the relay has taken what the kernel takes.
        while deaf.input.try_send(piece()).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, fill).await.expect("a program that reads nothing slows its sender");
    assert_eq!(run(&*sandbox, "echo alive").await, "alive\n");
    drop((flood, deaf));
    sandbox.destroy().await.expect("destroys");
}

pub async fn nothing_listens_at_first(subject: &Subject) {
    let sandbox = subject.claim().await;
    assert_eq!(sandbox.listening_ports().await.expect("lists"), Vec::<u16>::new());
    // The second is one of the ports that lead out: no door to the broker.
    for port in [5000, 443] {
        let refused = timeout(PATIENCE, sandbox.connect(port)).await.expect("in time");
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_port_inside_is_reached_from_outside(subject: &Subject) {
    let sandbox = subject.claim().await;
    let script = r#"
import socket, threading, time
def serve(family, address):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(address); s.listen(8)
    while True:
        c, _ = s.accept(); c.sendall(b"heard " + c.recv(100)); c.close()
for family, address in ((socket.AF_INET, ("127.0.0.1", 5001)), (socket.AF_INET6, ("::1", 5002)), (socket.AF_INET, ("0.0.0.0", 5003))):
    threading.Thread(target=serve, args=(family, address)).start()
full = socket.socket(); full.bind(("127.0.0.1", 5004)); full.listen(0)
"#;
    sandbox.write_file("/tmp/serve.py", script.as_bytes()).await.expect("writes");
    let mut server = shell("server", "");
    server.argv = ["python3", "/tmp/serve.py"].map(String::from).to_vec();
    let _output = sandbox.exec(server).await.expect("starts");
    let all_listen = async {
        while sandbox.listening_ports().await.expect("lists") != [5001, 5002, 5003, 5004] {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_listen).await.expect("they listen in time");
    for port in [5001, 5002, 5003] {
        let mut stream = sandbox.connect(port).await.expect("connects");
        stream.write_all(b"us").await.expect("writes");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("reads");
        assert_eq!(answer, "heard us");
    }
    let mut held = Vec::new();
    let refused = async {
        loop {
            match sandbox.connect(5004).await {
                Ok(stream) => held.push(stream),
                Err(error) => return error,
            }
        }
    };
    let refused = timeout(PATIENCE, refused).await.expect("a full listener is not waited for");
    assert!(matches!(refused, Error::Deadline { .. }), "{refused:?}");
    sandbox.destroy().await.expect("destroys");
}

async fn watched(sandbox: &dyn Sandbox, path: &str) -> Receiver<WatchEvent> {
    timeout(PATIENCE, sandbox.watch(path)).await.expect("watches in time").expect("watches")
}

/// All events up to one that is wanted.
async fn events_until(events: &mut Receiver<WatchEvent>, wanted: &WatchEvent) -> Vec<WatchEvent> {
    let mut seen = Vec::new();
    while seen.last() != Some(wanted) {
        let event = timeout(PATIENCE, events.recv()).await;
        match event.unwrap_or_else(|_| panic!("no {wanted:?} in time, but {seen:?}")) {
            Some(event) => seen.push(event),
            None => panic!("the watch ended before {wanted:?}: {seen:?}"),
        }
    }
    seen
}

fn changed(path: &str) -> WatchEvent {
    WatchEvent::Changed { path: path.into() }
}

fn removed(path: &str) -> WatchEvent {
    WatchEvent::Removed { path: path.into() }
}

pub async fn changes_below_a_directory_are_told(subject: &Subject) {
    let sandbox = subject.claim().await;
    sandbox.write_file("/workspace/src/old", b"x").await.expect("writes");
    sandbox.write_file("/workspace/other/file", b"x").await.expect("writes");
    let mut events = watched(&*sandbox, "/workspace/src").await;
    sandbox.write_file("/workspace/other/file", b"y").await.expect("writes");
    run(&*sandbox, "echo new > /workspace/src/old").await;
    events_until(&mut events, &changed("/workspace/src/old")).await;
    sandbox.write_file("/workspace/src/deep/er/file", b"x").await.expect("writes");
    let seen = events_until(&mut events, &changed("/workspace/src/deep/er/file")).await;
    let strange = |event: &&WatchEvent| match event {
        WatchEvent::Changed { path } => !path.starts_with("/workspace/src/") || path.contains(".greenroom"),
        WatchEvent::Removed { .. } | WatchEvent::Overflow => true,
    };
    assert_eq!(seen.iter().find(strange), None, "{seen:?}");
    let missing = sandbox.watch("/workspace/none").await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    sandbox.destroy().await.expect("destroys");
}

pub async fn new_directories_are_watched_without_a_gap(subject: &Subject) {
    let sandbox = subject.claim().await;
    run(&*sandbox, "mkdir -p /workspace/a/b; echo x > /workspace/a/b/file").await;
    let mut events = watched(&*sandbox, "/workspace").await;
    let script =
        "cd /workspace; for i in $(seq 300); do mkdir -p d$i/e/f; echo x > d$i/e/f/g; done; echo x > last";
    run(&*sandbox, script).await;
    let mut missing: BTreeSet<String> = (1..=300).map(|i| format!("/workspace/d{i}/e/f/g")).collect();
    while !missing.is_empty() {
        match timeout(PATIENCE, events.recv()).await.expect("told in time").expect("the watch goes on") {
            WatchEvent::Changed { path } => drop(missing.remove(&path)),
            other => panic!("{other:?}"),
        }
    }
    run(&*sandbox, "echo y > /workspace/d7/e/f/g; rm -r /workspace/d8").await;
    events_until(&mut events, &removed("/workspace/d8")).await;
    run(&*sandbox, "mv /workspace/a /workspace/moved").await;
    events_until(&mut events, &changed("/workspace/moved/b/file")).await;
    run(&*sandbox, "echo y > /workspace/moved/b/file; rm /workspace/moved/b/file").await;
    let seen = events_until(&mut events, &removed("/workspace/moved/b/file")).await;
    assert!(!seen.contains(&changed("/workspace/a/b/file")), "{seen:?}");
    run(&*sandbox, "mv /workspace /gone").await;
    let end = async { while events.recv().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("a watch ends with its directory");
    sandbox.destroy().await.expect("destroys");
}

pub async fn what_can_be_made_again_is_not_watched(subject: &Subject) {
    let sandbox = subject.claim().await;
    run(
        &*sandbox,
        "mkdir -p /workspace/.git/objects /workspace/build; echo tag > /workspace/build/CACHEDIR.TAG",
    )
    .await;
    let mut events = watched(&*sandbox, "/workspace").await;
    let script = "cd /workspace; mkdir -p node_modules/p target/debug; echo tag > target/CACHEDIR.TAG; \
        for f in .git/index .git/objects/x node_modules/p/x build/x; do echo x > $f; done; echo x > first";
    run(&*sandbox, script).await;
    events_until(&mut events, &changed("/workspace/first")).await;
    run(&*sandbox, "cd /workspace; echo x > target/debug/x; echo x > last").await;
    let seen = events_until(&mut events, &changed("/workspace/last")).await;
    assert!(!seen.contains(&changed("/workspace/target/debug/x")), "{seen:?}");
    for hidden in ["/.git/", "node_modules/", "build/"] {
        let is_below =
            |event: &&WatchEvent| matches!(event, WatchEvent::Changed { path } if path.contains(hidden));
        assert_eq!(seen.iter().find(is_below), None);
    }
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_watch_that_misses_changes_says_so(subject: &Subject) {
    let sandbox = subject.claim().await;
    run(&*sandbox, "mkdir /workspace/many").await;
    let mut events = watched(&*sandbox, "/workspace").await;
    let script = "import os\nfor i in range(20000): open(f'/workspace/many/{i}', 'w').close()";
    let mut many = shell("many", "");
    many.argv = ["python3", "-c", script].map(String::from).to_vec();
    super::finish(&*sandbox, many).await;
    events_until(&mut events, &WatchEvent::Overflow).await;
    run(&*sandbox, "mkdir /workspace/later; echo x > /workspace/later/file").await;
    events_until(&mut events, &changed("/workspace/later/file")).await;
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_watch_past_a_bound_names_it(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(watched(&*sandbox, "/workspace").await);
    }
    let refused = sandbox.watch("/workspace").await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    drop(held);
    sandbox.destroy().await.expect("destroys");
    // Programs inside take all that one sandbox may have: neither the machine nor another sandbox notices.
    let (greedy, other) = (subject.claim().await, subject.claim().await);
    let script = "import ctypes,time\nc=ctypes.CDLL(None)\nn=0\nwhile c.inotify_init()>=0: n+=1\nprint(n,flush=True)\ntime.sleep(1000)";
    let mut hog = shell("hog", "");
    hog.argv = ["python3", "-c", script].map(String::from).to_vec();
    let mut output = greedy.exec(hog).await.expect("starts");
    timeout(PATIENCE, output.recv()).await.expect("has them all in time");
    let refused = greedy.watch("/workspace").await;
    let is_named = |reason: &str| reason.contains("sysctl -w fs.inotify.max_user_instances=");
    assert!(matches!(&refused, Err(Error::Unavailable { reason, .. }) if is_named(reason)), "{refused:?}");
    watched(&*other, "/workspace").await;
    greedy.destroy().await.expect("destroys");
    other.destroy().await.expect("destroys");
}
