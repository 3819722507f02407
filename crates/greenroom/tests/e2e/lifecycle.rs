//! What is ready before the first prompt, and what need not wait for it: warm sandboxes, reservations, services, and
//! reads before the newest commits have arrived.

use crate::support::{
    Model, NO_STEPS, Server, both, call, command, git, may_mount, outcomes, repository, session_body, until,
    write,
};
use greenroom_domain::event::{SandboxPhase, SandboxStart, ServicePhase, TurnOutcome};
use greenroom_domain::{Entry, Event, ImageId};
use greenroom_model::testing::Turn;
use greenroom_wire::{ImageKept, ImageState, PoolView, WarmRepository, WarmState};
use serde_json::json;
use std::path::Path;

fn pool(server: &Server) -> PoolView {
    server.wait(server.client().machine_resources()).unwrap().pools.pop().unwrap()
}

fn wait_for_warm(server: &Server, ready: u64) -> PoolView {
    until("warm sandboxes are ready", || {
        let pool = pool(server);
        (pool.ready == ready && pool.preparing == 0).then_some(pool)
    })
}

fn made_from(log: &[Entry]) -> Option<SandboxStart> {
    log.iter().find_map(|entry| match &entry.event {
        Event::StartTimeline { sandbox, .. } => *sandbox,
        _ => None,
    })
}

/// A clone of a served repository, as its admin has it.
fn clone(server: &Server, name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let token = server.member("pusher");
    git(directory.path(), &["clone", "-q", &server.clone_url("pusher", &token, name), "."]);
    directory
}

/// Commits these files to the repository's default branch, as a colleague's merge would.
fn advance(clone: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        write(clone, name, text);
    }
    git(clone, &["add", "-A"]);
    git(clone, &["commit", "-q", "-m", "later"]);
    git(clone, &["push", "-q", "origin", "HEAD"]);
}

#[test]
fn the_second_session_finds_a_warm_sandbox_that_becomes_its_own() {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => call("bash", &json!({"command": "echo new > new.txt && git branch --show-current && hostname"})),
        1 => call("open_change", &json!({"title": "Add a file", "body": "It is new."})),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    wait_for_warm(&server, 1);
    let session = server.ask("sample", "add it");
    let log = server.settled(session);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed], "{log:#?}");
    assert_eq!(made_from(&log), Some(SandboxStart::Warm), "{log:#?}");
    // The change could be pushed, so the broker knows the sandbox as this session's.
    assert!(log.iter().any(|entry| matches!(entry.event, Event::ChangeOpened { .. })), "{log:#?}");
    let branch = server.exec(session, "git branch --show-current").output;
    assert_eq!(branch.trim(), format!("greenroom/{session}"));
    let pool = wait_for_warm(&server, 1);
    assert_eq!((pool.hits, pool.starts), (1, 1), "{pool:?}");
}

#[test]
fn a_warm_sandbox_follows_its_branch_and_is_never_offered_behind_it() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("Done."));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "old\n")]);
    wait_for_warm(&server, 1);
    let colleague = clone(&server, "sample");
    advance(colleague.path(), &[("a.txt", "new\n")]);
    // At once: whatever it is given, it stands at the new head.
    let first = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(first, "cat a.txt").output, "new\n");
    wait_for_warm(&server, 1);
    let second = server.ask("sample", "look");
    server.settled(second);
    assert_eq!(server.exec(second, "cat a.txt; git status --porcelain").output, "new\n");
    let head = server.exec(second, "git rev-parse origin/main").output;
    // Only now: a turn this short is over before its sandbox is there. The push also began a new image; a sandbox over
    // that one has nothing to sync.
    let log = server.settled(second);
    let stands_there = |entry: &Entry| match &entry.event {
        Event::Synced { to, changed, .. } => to.as_str() == head.trim() && changed == &["a.txt"],
        Event::SandboxChanged { commit: Some(commit), .. } => commit.as_str() == head.trim(),
        _ => false,
    };
    assert!(log.iter().any(stands_there), "{log:#?}");
}

#[test]
fn reads_come_before_the_sync_and_what_it_changed_is_told() {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => call("read", &json!({"path": "a.txt"})),
        1 => call("bash", &json!({"command": "cat a.txt; cat made.txt"})),
        _ => Turn::text(asked.results.clone()),
    });
    server.use_model(&model);
    let recipe = "[[steps]]\nname = \"make\"\nrun = \"cp a.txt made.txt; [ $(cat a.txt) = old ] || sleep 2\"\ninputs = [\"a.txt\"]\n";
    server.add_repository("sample", &[(".greenroom/environment.toml", recipe), ("a.txt", "old\n")]);
    let colleague = clone(&server, "sample");
    wait_for_warm(&server, 1);
    advance(colleague.path(), &[("a.txt", "new\n")]);
    let session = server.ask("sample", "read it");
    let log = server.settled(session);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed], "{log:#?}");
    let at = |what: &str, is_it: &dyn Fn(&Event) -> bool| {
        log.iter().position(|entry| is_it(&entry.event)).unwrap_or_else(|| panic!("no {what}:\n{log:#?}"))
    };
    let is_read = |event: &Event| matches!(event, Event::ToolFinished { text, .. } if text.contains("old"));
    let is_synced =
        |event: &Event| matches!(event, Event::Synced { rerun_steps, .. } if rerun_steps == &["make"]);
    let is_told =
        |event: &Event| matches!(event, Event::NoticeGiven { text, .. } if text.contains("/workspace/a.txt"));
    let is_run =
        |event: &Event| matches!(event, Event::ToolFinished { text, .. } if text.contains("new\nnew"));
    let read = at("early read", &is_read);
    let synced = at("sync", &is_synced);
    assert!(read < synced && synced < at("notice", &is_told), "{log:#?}");
    assert!(synced < at("command", &is_run));
}

#[test]
fn a_command_that_only_looks_changes_nothing_in_the_sessions_own_sandbox() {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => call("bash", &json!({"command": "cat a.txt"})),
        1 => call(
            "bash",
            &json!({"command": "echo b > b.txt; rm -f a.txt; chmod 700 a.txt; echo z > /tmp/z; cat a.txt /tmp/z", "read_only": true}),
        ),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let session = server.ask("sample", "look");
    let log = server.settled(session);
    let told: Vec<&str> = log
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::ToolFinished { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let look = told[1];
    assert!(look.contains("b.txt: Permission denied") && look.contains("Read-only file system"), "{log:#?}");
    assert!(look.ends_with("a\nz"), "{look}");
    assert_eq!(
        server.exec(session, "cat a.txt; stat -c %a a.txt; git status --porcelain").output,
        "a\n644\n"
    );
}

#[test]
fn once_an_image_is_published_no_session_begins_on_the_one_before() {
    let server = Server::start();
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "old\n")]);
    wait_for_warm(&server, 1);
    let images = || server.json(&["image", "list", "sample"]);
    let first = images()[0]["id"].clone();
    let colleague = clone(&server, "sample");
    advance(colleague.path(), &[("a.txt", "new\n")]);
    server.cli(&["image", "build", "sample", "--follow"]);
    let newest = until("the new image is published", || {
        let newest = images()[0].clone();
        (newest["id"] != first && newest["state"] == "ready").then(|| newest["id"].clone())
    });
    // A warm sandbox over the old image may still be there: it is not given.
    let session = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(session, "cat a.txt").output, "new\n");
    let ready = server.entry(session, "the sandbox is ready", |event| {
        matches!(event, Event::SandboxChanged { state: SandboxPhase::Ready, .. })
    });
    let Event::SandboxChanged { image: Some(image), .. } = ready.event else { panic!("{ready:#?}") };
    assert_eq!(newest, image.to_string());
    // And the pool has another in its place, which is given.
    until("a session finds a warm one over the new image", || {
        let before = pool(&server).hits;
        let next = server.create_session("sample", None).unwrap().id;
        server.exec(next, "true");
        (pool(&server).hits > before).then_some(())
    });
}

#[test]
fn a_step_that_fails_when_it_runs_again_is_told_and_loses_nothing() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("Done."));
    server.use_model(&model);
    let recipe = "[[steps]]\nname = \"check\"\nrun = \"grep -q good a.txt || { echo it is bad; exit 1; }\"\ninputs = [\"a.txt\"]\n";
    server.add_repository("sample", &[(".greenroom/environment.toml", recipe), ("a.txt", "good\n")]);
    let colleague = clone(&server, "sample");
    advance(colleague.path(), &[("a.txt", "bad\n")]);
    let session = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(session, "cat a.txt").output, "bad\n");
    let ready = server.entry(session, "the sandbox is ready", |event| {
        matches!(event, Event::SandboxChanged { state: SandboxPhase::Ready, .. })
    });
    let Event::SandboxChanged { problem: Some(problem), .. } = ready.event else { panic!("{ready:#?}") };
    assert!(problem.message.contains("check"), "{problem:?}");
    assert!(problem.detail.unwrap().contains("it is bad"));
}

#[test]
fn a_keystroke_reserves_a_sandbox_for_its_author_alone() {
    let server = Server::start();
    // A turn that needs its sandbox: a shorter one is over before it is there.
    let model = Model::new(|asked| match asked.step {
        0 => call("bash", &json!({"command": "true"})),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let (ann, bob) = (server.client_as(&server.member("ann")), server.client_as(&server.member("bob")));
    let name = "sample".parse().unwrap();
    let body = WarmRepository { base_branch: None };
    let view = until("the reservation is ready", || {
        let view = server.wait(ann.warm(&name, &body)).unwrap();
        (view.state == WarmState::Ready).then_some(view)
    });
    let again = server.wait(ann.warm(&name, &body)).unwrap();
    assert!(again.expires_at_ms >= view.expires_at_ms);
    assert_eq!(pool(&server).reserved, 1);
    // Another one, for whoever comes next, is made beside it.
    until("a free one stands beside it", || (pool(&server).ready == 2).then_some(()));
    let session = |client: &greenroom_client::Client| {
        let (key, body) = (greenroom_client::new_key(), session_body("sample", Some("go")));
        server.wait(client.create_session(&key, &body)).unwrap().id
    };
    assert_eq!(made_from(&server.settled(session(&bob))), Some(SandboxStart::Warm));
    assert_eq!(pool(&server).reserved, 1);
    assert_eq!(made_from(&server.settled(session(&ann))), Some(SandboxStart::Warm));
    assert_eq!(pool(&server).reserved, 0);
    let unknown = WarmRepository { base_branch: Some("nowhere".into()) };
    assert!(server.wait(ann.warm(&name, &unknown)).is_err());
}

#[test]
fn services_are_up_watched_and_started_again() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("Done."));
    server.use_model(&model);
    let recipe = "[[services]]\nname = \"web\"\nrun = \"exec python3 -m http.server 3456 --bind 127.0.0.1\"\n\
        ready = { port = 3456, within_seconds = 60 }\nrestart = true\n\
        [[services]]\nname = \"broken\"\nrun = \"echo cannot; exit 3\"\n\
        [[ports]]\nport = 3456\nname = \"page\"\n";
    server.add_repository("sample", &[(".greenroom/environment.toml", recipe), ("a.txt", "a\n")]);
    let session = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(session, "cat a.txt").output, "a\n");
    let is_state = |wanted: ServicePhase| move |event: &Event| matches!(event, Event::ServiceChanged { name, state, .. } if name == "web" && *state == wanted);
    server.entry(session, "the service is up", is_state(ServicePhase::Ready));
    let broken = server.entry(session, "the broken service is told", |event| {
        matches!(event, Event::ServiceChanged { name, state: ServicePhase::Failed, .. } if name == "broken")
    });
    assert!(format!("{broken:?}").contains("cannot"), "{broken:?}");
    let environment = server.wait(server.client().session_environment(session)).unwrap();
    assert!(environment.is_running);
    let port = environment.ports.iter().find(|port| port.port == 3456).unwrap();
    assert!(port.is_listening && port.name.as_deref() == Some("page"), "{environment:?}");
    let fetched = server.exec(
        session,
        "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:3456/a.txt').read())\"",
    );
    assert!(fetched.output.contains("a\\n"), "{fetched:?}");
    server.exec(session, "kill $(grep -lz '^http.server$' /proc/[0-9]*/cmdline | cut -d/ -f3 | head -1)");
    let starts = |wanted: usize| {
        let log = server.entries(session);
        let ready = log.iter().filter(|entry| is_state(ServicePhase::Ready)(&entry.event)).count();
        (ready >= wanted).then_some(())
    };
    until("it is up again", || starts(2));
}

#[test]
fn a_pool_of_a_killed_server_leaves_nothing() {
    let mut server = Server::start();
    // A turn that needs its sandbox: a shorter one is over before it is there.
    let model = Model::new(|asked| match asked.step {
        0 => call("bash", &json!({"command": "true"})),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    let source = repository(&[NO_STEPS, ("a.txt", "a\n")]);
    server.cli(&["repository", "add", "sample", source.path().to_str().unwrap(), "--wait"]);
    wait_for_warm(&server, 1);
    server.kill();
    server.restart();
    let pool = wait_for_warm(&server, 1);
    assert_eq!((pool.hits, pool.starts), (0, 0));
    let session = server.ask("sample", "go");
    assert_eq!(made_from(&server.settled(session)), Some(SandboxStart::Warm));
}

#[test]
fn an_image_says_what_it_holds_why_it_is_kept_and_what_its_recipe_declares() {
    let server = Server::start();
    let recipe = "[[steps]]\nname = \"fill\"\nrun = \"head -c 3000000 /dev/urandom > filled\"\ninputs = []\n\
        [[checks]]\nname = \"good\"\nrun = \"test -s filled\"\n\
        [[checks]]\nname = \"bad\"\nrun = \"exit 7\"\noptional = true\n\
        [[services]]\nname = \"web\"\nrun = \"exec sleep 1000\"\nready = { port = 8000, within_seconds = 9 }\n\
        [[ports]]\nport = 8000\nname = \"page\"\n";
    server.add_repository("sample", &[(".greenroom/environment.toml", recipe), ("a.txt", "a\n")]);
    let (client, name) = (server.client(), "sample".parse().unwrap());
    let listed = server.wait(client.images(&name)).unwrap();
    assert_eq!(listed.iter().map(|image| image.kept).collect::<Vec<_>>(), [Some(ImageKept::Newest)]);
    let contents = server.wait(client.image_contents(listed[0].image.id)).unwrap();
    assert_eq!(listed[0].size_bytes, Some(contents.size_bytes));
    let layer = contents.layers.iter().find(|layer| layer.step == "fill").expect("the step's layer");
    assert!((3_000_000..4_000_000).contains(&layer.size_bytes) && layer.images == 1, "{layer:?}");
    let verdicts: Vec<_> = contents
        .checks
        .iter()
        .map(|check| (check.name.as_str(), check.has_passed, check.ended.as_str()))
        .collect();
    assert_eq!(verdicts, [("good", true, "exit code 0"), ("bad", false, "exit code 7")]);
    let [service] = &contents.services[..] else { panic!("{contents:?}") };
    assert_eq!((service.ready_when.as_deref(), service.within_seconds), (Some("port 8000 listens"), Some(9)));
    assert!(contents.ports.iter().any(|port| port.port == 8000 && port.name == "page"), "{contents:?}");
    let unknown = server.wait(client.image_contents(ImageId::from_parts(1, 1))).unwrap_err();
    assert!(unknown.to_string().contains("no such image"), "{unknown}");
    // A build that failed is kept for its log, which says what went wrong.
    let colleague = clone(&server, "sample");
    let broken = "[[steps]]\nname = \"fail\"\nrun = \"echo it is broken; exit 3\"\ninputs = []\n";
    advance(colleague.path(), &[(".greenroom/environment.toml", broken)]);
    server.wait(client.build_image(&name)).unwrap();
    let listed = until("the next build failed", || {
        let listed = server.wait(client.images(&name)).unwrap();
        (listed.len() == 2 && listed[0].image.state == ImageState::Failed).then_some(listed)
    });
    assert!(matches!(listed[0].kept, Some(ImageKept::ForItsLog { .. })), "{listed:?}");
    assert_eq!((listed[0].size_bytes, listed[1].kept), (None, Some(ImageKept::Newest)));
    let log =
        command(server.data()).args(["image", "log", &listed[0].image.id.to_string()]).output().unwrap();
    let log = both(&log);
    assert!(log.contains("it is broken"), "{log}");
}

#[test]
fn what_sandboxes_write_is_counted_by_kind() {
    if !may_mount() {
        return;
    }
    const WRITTEN: u64 = 20_000_000;
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => call("bash", &json!({"command": format!("head -c {WRITTEN} /dev/urandom > big")})),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let disk = || server.wait(server.client().machine_resources()).unwrap().disk;
    assert!(disk().workspaces_bytes.is_none_or(|bytes| bytes < WRITTEN));
    let session = server.ask("sample", "fill it");
    server.settled(session);
    // The file system's counters follow its own commits.
    until("it is counted", || disk().workspaces_bytes.is_some_and(|bytes| bytes >= WRITTEN).then_some(()));
    until("a turn that wrote was kept", || disk().snapshots_bytes.map(drop));
}
