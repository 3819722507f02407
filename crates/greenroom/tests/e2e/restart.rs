//! A server that is killed at any moment goes on from its log, loses nothing it acknowledged, and leaves nothing behind.

use crate::support::{
    Asked, Model, NO_STEPS, Server, assert_problem, bash, git, outcomes, path_text, repository, until, write,
};
use futures::StreamExt;
use greenroom_client::new_key;
use greenroom_domain::event::{OUTCOME_UNKNOWN, ToolOutcome, TurnOutcome};
use greenroom_domain::{Command, CommandId, Entry, Event, SessionId};
use greenroom_model::testing::{Fault, Turn};
use greenroom_wire::{Frame, Receipt};
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a viewer was given, over the session's stream.
#[derive(Clone, Default)]
struct Seen {
    entries: Arc<Mutex<Vec<Entry>>>,
    ephemeral: Arc<Mutex<String>>,
}

impl Seen {
    fn follow(server: &Server, session: SessionId) -> Self {
        let seen = Self::default();
        let (mut frames, kept) = (server.client().follow(session, 0), seen.clone());
        server.spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                match frame {
                    Frame::Entry { entry } => kept.entries.lock().unwrap().push(entry),
                    Frame::Delta { text, .. } | Frame::Output { text, .. } => {
                        kept.ephemeral.lock().unwrap().push_str(&text);
                    }
                    _ => {}
                }
            }
        });
        seen
    }

    fn wait_for_text(&self, text: &str) {
        until(text, || self.ephemeral.lock().unwrap().contains(text).then_some(()));
    }

    /// Everything that was seen is in the log, as it was.
    fn assert_kept(&self, log: &[Entry]) {
        let seen = self.entries.lock().unwrap();
        assert!(!seen.is_empty());
        assert_eq!(log[..seen.len()], seen[..]);
    }
}

/// What a server holds of the machine while sandboxes run.
struct Traces {
    pid: u32,
    processes: Vec<u32>,
}

impl Traces {
    fn of(server: &Server) -> Self {
        let processes = descendants(server.pid());
        let has_sandbox = processes.iter().any(|pid| is_in_other_network(*pid));
        assert!(has_sandbox, "no sandbox runs");
        Self { pid: server.pid(), processes }
    }

    /// After the kill, and the start of the next server.
    fn assert_gone(&self, data: &Path) {
        until("every process of the killed server is gone", || {
            self.processes.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        // A namespace lives by its processes. Its number says nothing: the kernel gives it to the next one.
        until("no process in a network of its own has lost its server", || {
            let orphans =
                numbers("/proc").filter(|pid| parent_of(*pid) == Some(1) && is_in_other_network(*pid));
            (orphans.count() == 0).then_some(())
        });
        until("its control groups are gone", || groups_of(self.pid).is_empty().then_some(()));
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(data.to_str().unwrap()), "{mounts}");
    }
}

pub(crate) fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = numbers("/proc").filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn is_in_other_network(pid: u32) -> bool {
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    network(pid).is_some_and(|its| Some(its) != network(std::process::id()))
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat[stat.rfind(')').unwrap_or(0)..].starts_with(") Z"))
}

/// Control groups that are named after this server.
pub(crate) fn groups_of(pid: u32) -> Vec<String> {
    let name = format!("greenroom-{pid}-");
    let arguments = ["/sys/fs/cgroup", "-type", "d", "-name", &format!("{name}*")];
    let found = std::process::Command::new("find").args(arguments).output().expect("find starts");
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

fn server_with(respond: impl Fn(&Asked) -> Turn + Send + Sync + 'static) -> (Server, Model) {
    let server = Server::start();
    let model = Model::new(respond);
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    (server, model)
}

fn prompt(server: &Server, session: SessionId, key: &CommandId, text: &str) -> Receipt {
    let command =
        Command::Prompt { text: text.to_owned(), delivery: Default::default(), attachments: vec![] };
    server.wait(server.client().submit(session, key, &command)).expect("a receipt")
}

#[test]
fn killed_while_the_model_speaks_the_turn_is_answered_anew_and_what_waited_comes_after() {
    let slow = "one two three four five ".repeat(200);
    let (mut server, model) = server_with(move |asked| match asked.prompt.as_str() {
        "speak" => Turn::text(slow.clone()).with_pace(Duration::from_millis(20)),
        _ => Turn::text("answered"),
    });
    let session = server.ask("sample", "speak");
    let seen = Seen::follow(&server, session);
    // Viewers are told of it once it is synced.
    server.entry(session, "text is in the log", |event| matches!(event, Event::BlockText { .. }));
    let key = new_key();
    let receipt = prompt(&server, session, &key, "and then this");
    assert!(receipt.problem.is_none(), "{receipt:?}");
    seen.wait_for_text("three four");
    server.kill();
    // The model is quicker the second time.
    model.server.respond_with(|_| Turn::text("answered anew"));
    server.restart();

    let log = server.settled(session);
    seen.assert_kept(&log);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed, TurnOutcome::Completed]);
    let interrupted =
        |event: &Event| matches!(event, Event::TurnInterrupted { open_calls, .. } if open_calls.is_empty());
    assert!(log.iter().any(|entry| interrupted(&entry.event)), "{log:#?}");
    let withdrawn = log.iter().filter(|entry| matches!(entry.event, Event::BlockReset { .. })).count();
    assert_eq!(withdrawn, 1, "{log:#?}");
    assert_eq!(prompt(&server, session, &key, "and then this"), receipt);
    // Its sandbox may become ready, or be copied, at any time after.
    let accepted = |log: &[Entry]| {
        log.iter().filter(|entry| matches!(entry.event, Event::PromptAccepted { .. })).count()
    };
    assert_eq!(accepted(&server.entries(session)), accepted(&log));
    assert_eq!(model.server.requests().len(), 3);
}

#[test]
fn killed_while_a_command_runs_the_call_is_of_unknown_outcome_and_is_not_repeated() {
    let (mut server, model) = server_with(|asked| match asked.step {
        0 => bash("echo once >> ran.txt; echo begun; sleep 1000"),
        1 => bash("cat ran.txt"),
        _ => Turn::text("done"),
    });
    let session = server.ask("sample", "work");
    let seen = Seen::follow(&server, session);
    seen.wait_for_text("begun");
    let traces = Traces::of(&server);
    server.kill();
    server.restart();

    let log = server.settled(session);
    seen.assert_kept(&log);
    traces.assert_gone(server.data());
    assert_eq!(outcomes(&log), [TurnOutcome::Completed]);
    let unknown = |event: &Event| matches!(event, Event::ToolFinished { outcome: ToolOutcome::Unknown, .. });
    assert_eq!(log.iter().filter(|entry| unknown(&entry.event)).count(), 1, "{log:#?}");
    let told = model.wait_for_requests(2)[1].json()["messages"].to_string();
    assert!(told.contains("outcome unknown"), "{told}");
    assert!(OUTCOME_UNKNOWN.contains("outcome unknown"));
    // The files are those of before, and nothing was run twice.
    assert_eq!(server.exec(session, "cat ran.txt").output, "once\n");
}

#[test]
fn killed_between_call_and_answer_or_at_rest_the_session_goes_on_where_it_was() {
    let (mut server, model) = server_with(|asked| match asked.step {
        0 => bash("echo once >> ran.txt; cat ran.txt"),
        _ => Turn::fault(Fault::SilenceBeforeHeaders),
    });
    let session = server.ask("sample", "work");
    let seen = Seen::follow(&server, session);
    model.wait_for_requests(2);
    let traces = Traces::of(&server);
    server.kill();
    model.server.respond_with(|_| Turn::text("done"));
    server.restart();

    let log = server.settled(session);
    seen.assert_kept(&log);
    traces.assert_gone(server.data());
    assert_eq!(outcomes(&log), [TurnOutcome::Completed]);
    let told = model.wait_for_requests(3)[2].json()["messages"].to_string();
    assert!(told.contains("once") && !told.contains("outcome unknown"), "{told}");

    // At rest.
    assert_eq!(server.exec(session, "cat ran.txt").output, "once\n");
    let traces = Traces::of(&server);
    server.kill();
    server.restart();
    traces.assert_gone(server.data());
    assert_eq!(server.exec(session, "cat ran.txt").output, "once\n");
    assert_eq!(server.entries(session)[..log.len()], log[..]);
    prompt(&server, session, &new_key(), "more");
    assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Completed, TurnOutcome::Completed]);
}

#[test]
fn killed_while_an_image_is_built_the_build_is_said_to_be_interrupted_and_can_be_repeated() {
    let mut server = Server::start();
    let token = server.member("ann");
    let recipe = |run: &str| format!("[[steps]]\nname = \"tools\"\nrun = \"{run}\"\n");
    let slow = recipe("echo the step has begun; sleep 1000");
    let source = repository(&[(".greenroom/environment.toml", &slow)]);
    let added = server.json(&["repository", "add", "slow", path_text(source.path())]);
    let image = added["build"]["id"].as_str().unwrap().to_owned();
    let log = server.data().join("images").join(&image).join("build.log");
    until("the step runs", || {
        std::fs::read_to_string(&log).ok().filter(|text| text.contains("the step has begun"))
    });
    let traces = Traces::of(&server);
    server.kill();
    server.restart();
    traces.assert_gone(server.data());
    let built = &server.json(&["image", "list", "slow"])[0];
    assert_eq!((&built["id"], &built["state"]), (&json!(image), &json!("failed")));
    assert_problem(&built["problem"], "interrupted");

    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["clone", "-q", &server.clone_url("ann", &token, "slow"), "here"]);
    let here = place.path().join("here");
    write(&here, ".greenroom/environment.toml", &recipe("echo quick"));
    git(&here, &["commit", "-q", "-a", "-m", "quicker"]);
    git(&here, &["push", "-q", "origin", "main"]);
    server.cli(&["image", "build", "slow", "--follow"]);
    assert_eq!(server.json(&["image", "list", "slow"])[0]["state"], "ready");
}
