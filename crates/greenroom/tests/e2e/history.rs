//! What is kept of a session's files: snapshots after turns, forks of turns, and what a lost workspace comes back from.

use crate::support::{Model, NO_STEPS, Server, assert_problem, bash, outcomes, until};
use greenroom_client::new_key;
use greenroom_domain::event::{SandboxPhase, SnapshotReason, TurnOutcome};
use greenroom_domain::{Command, Entry, Event, SessionId, SnapshotId, TurnId};
use greenroom_model::testing::{Fault, Turn};
use greenroom_wire::{ForkSession, SessionView};
use std::path::PathBuf;

/// A server whose model runs each prompt as a command, and then says "done".
fn server() -> (Server, Model) {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 if asked.prompt.starts_with("say ") => Turn::text(asked.prompt.clone()),
        0 => bash(&asked.prompt),
        _ => Turn::text("done"),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    (server, model)
}

fn prompt(server: &Server, session: SessionId, text: &str) -> Vec<Entry> {
    let command =
        Command::Prompt { text: text.to_owned(), delivery: Default::default(), attachments: vec![] };
    let receipt = server.wait(server.client().submit(session, &new_key(), &command)).expect("a receipt");
    assert!(receipt.problem.is_none(), "{receipt:?}");
    server.settled(session)
}

fn turns(log: &[Entry]) -> Vec<TurnId> {
    let turn = |entry: &Entry| match &entry.event {
        Event::TurnFinished { turn, .. } => Some(*turn),
        _ => None,
    };
    log.iter().filter_map(turn).collect()
}

fn snapshots(log: &[Entry]) -> Vec<(SnapshotId, Option<TurnId>)> {
    let taken = |entry: &Entry| match &entry.event {
        Event::SnapshotTaken { snapshot, turn, .. } => Some((*snapshot, *turn)),
        _ => None,
    };
    log.iter().filter_map(taken).collect()
}

/// Waits for the snapshot of the last turn.
fn saved(server: &Server, session: SessionId) -> (SnapshotId, TurnId) {
    until("the last turn's snapshot", || {
        let log = server.entries(session);
        let last = *turns(&log).last()?;
        let (snapshot, turn) = *snapshots(&log).last()?;
        (turn == Some(last)).then_some((snapshot, last))
    })
}

fn fork(server: &Server, session: SessionId, turn: Option<TurnId>) -> SessionView {
    let body = ForkSession { turn, title: None, prompt: None };
    server.wait(server.client().fork_session(&new_key(), session, &body)).expect("a fork")
}

fn refused(server: &Server, session: SessionId, turn: Option<TurnId>) -> greenroom_client::Error {
    let body = ForkSession { turn, title: None, prompt: None };
    server.wait(server.client().fork_session(&new_key(), session, &body)).expect_err("a refusal")
}

/// Where the running server has its storage: in a mount namespace of its own.
fn storage(server: &Server) -> PathBuf {
    let data = server.data().strip_prefix("/").expect("an absolute path");
    let seen = PathBuf::from(format!("/proc/{}/root", server.pid())).join(data);
    let volume = seen.join("volume");
    if volume.join("workspaces").exists() { volume } else { seen }
}

/// As a crash of the machine leaves it: the files are there no more, and nobody said so.
fn lose_workspace_and_kill(server: &mut Server, session: SessionId) {
    let storage = storage(server);
    let workspace = storage.join("workspaces").join(session.to_string());
    std::fs::rename(&workspace, storage.join("trash").join(format!("lost-{session}"))).expect("it is there");
    server.kill();
}

#[test]
fn a_turn_is_forked_with_its_conversation_and_its_files_and_outlives_its_parent() {
    let (server, model) = server();
    let ann = server.member("ann");
    let parent = server.ask("sample", "echo one > own.txt; echo dirty >> a.txt");
    server.settled(parent);
    let (_, first) = saved(&server, parent);
    let body = ForkSession { turn: Some(first), title: None, prompt: None };
    prompt(&server, parent, "echo two > own.txt");
    saved(&server, parent);

    let key = new_key();
    let client = server.client_as(&ann);
    let made = server.wait(client.fork_session(&key, parent, &body)).unwrap();
    assert_eq!(server.wait(client.fork_session(&key, parent, &body)).unwrap().id, made.id);
    assert!(made.title.ends_with(" (fork)"), "{}", made.title);
    assert_eq!(made.branch.to_string(), format!("greenroom/{}", made.id));
    assert_eq!(made.usage, Default::default());
    let point = made.forked_from.as_ref().unwrap();
    assert_eq!((point.session, point.turn), (parent, first));
    server.cli(&["session", "delete", &parent.to_string()]);
    assert_eq!(server.wait(client.fork_session(&key, parent, &body)).unwrap().id, made.id);

    // Files as they were, on a branch of its own at the same commit, uncommitted work included.
    let shown =
        server.exec(made.id, "cat own.txt; git status --porcelain; git rev-parse --abbrev-ref HEAD").output;
    assert_eq!(shown, format!("one\n M a.txt\n?? own.txt\ngreenroom/{}\n", made.id));
    let asked = model.wait_for_requests(4).len();
    prompt(&server, made.id, "cat own.txt");
    let request = model.wait_for_requests(asked + 1)[asked].json()["messages"].to_string();
    assert!(request.contains("echo one") && !request.contains("echo two"), "{request}");
    assert!(request.contains("cat own.txt"), "{request}");
    server.exec(made.id, "true");
    server.cli(&["session", "delete", &made.id.to_string()]);
    until("nothing of either is left", || {
        let storage = storage(&server);
        let is_empty =
            |name: &str| storage.join(name).read_dir().is_ok_and(|mut names| names.next().is_none());
        (is_empty("snapshots") && !storage.join("workspaces").join(made.id.to_string()).exists())
            .then_some(())
    });
}

#[test]
fn whoever_prompted_the_parent_cannot_approve_the_forks_change() {
    let (server, model) = server();
    let (ann, ben) = (server.member("ann"), server.member("ben"));
    let key = new_key();
    let body = crate::support::session_body("sample", Some("echo one > own.txt"));
    let parent = server.wait(server.client_as(&ann).create_session(&key, &body)).unwrap().id;
    server.settled(parent);
    model.server.respond_with(|recorded| match recorded.json()["messages"].to_string().contains("opened") {
        true => Turn::text("done"),
        false => crate::support::call("open_change", &serde_json::json!({"title": "opened", "body": ""})),
    });
    let body = ForkSession { turn: None, title: None, prompt: Some("propose it".to_owned()) };
    let fork = server.wait(server.client_as(&ben).fork_session(&key, parent, &body)).unwrap();
    let log = server.settled(fork.id);
    assert_eq!(outcomes(&log).last(), Some(&TurnOutcome::Completed), "{log:#?}");
    let change = server.session(fork.id).change.expect("a change");
    let refused = server.cli_as(&ann, &["--json", "change", "approve", &change.id.to_string()]);
    assert_problem(&crate::support::problem_of(&refused), "self_approval");
}

#[test]
fn what_cannot_be_forked_is_refused_in_words() {
    let (server, model) = server();
    let session = server.ask("sample", "echo one > own.txt");
    let done = turns(&server.settled(session))[0];
    saved(&server, session);
    model.server.respond_with(|_| Turn::fault(Fault::SilenceBeforeHeaders));
    let command = Command::Prompt { text: "wait".into(), delivery: Default::default(), attachments: vec![] };
    server.wait(server.client().submit(session, &new_key(), &command)).unwrap();
    let running = server.entry(
        session,
        "a second turn",
        |event| matches!(event, Event::TurnStarted { turn, .. } if *turn != done),
    );
    let Event::TurnStarted { turn: running, .. } = running.event else { unreachable!("just matched") };
    assert_eq!(refused(&server, session, Some(running)).code().as_str(), "session_busy");
    let unknown = TurnId::from_parts(1, 1);
    assert_eq!(refused(&server, session, Some(unknown)).code().as_str(), "turn_unknown");
    // An ended turn of a session that is at work can be forked.
    assert_eq!(fork(&server, session, None).forked_from.unwrap().turn, done);
    let kept = storage(&server).join("snapshots").join(session.to_string());
    for entry in kept.read_dir().unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::rename(entry.path(), kept.join("gone")).unwrap();
    }
    assert_eq!(refused(&server, session, Some(done)).code().as_str(), "snapshot_unknown");
}

#[test]
fn a_turn_whose_snapshot_a_kill_prevented_is_saved_before_the_next_one_changes_its_files() {
    let (mut server, _model) = server();
    let session = server.create_session("sample", None).unwrap().id;
    // Where this link is, no directory can be made.
    let nowhere = |server: &Server| storage(server).join("snapshots").join(session.to_string());
    std::os::unix::fs::symlink("/nowhere/at/all", nowhere(&server)).unwrap();
    let first = turns(&prompt(&server, session, "echo one > own.txt"))[0];
    server.kill();
    server.restart();
    std::fs::remove_file(nowhere(&server)).unwrap();
    assert_eq!(snapshots(&server.entries(session)), []);
    prompt(&server, session, "cat own.txt > copy.txt && echo two > own.txt");
    assert_eq!(server.exec(session, "cat copy.txt own.txt").output, "one\ntwo\n");
    assert_eq!(snapshots(&server.entries(session))[0].1, Some(first));
    let fork = fork(&server, session, Some(first));
    assert_eq!(
        server.exec(fork.id, "cat own.txt; test ! -e copy.txt && echo no copy").output,
        "one\nno copy\n"
    );
}

#[test]
fn a_lost_workspace_comes_back_from_the_newest_copy_and_it_is_said_so() {
    let (mut server, _model) = server();
    let session = server.ask("sample", "mkdir -p deep && echo one > deep/own.txt && rm a.txt");
    server.settled(session);
    saved(&server, session);
    lose_workspace_and_kill(&mut server, session);
    server.restart();
    let shown =
        server.exec(session, "cat deep/own.txt; git status --porcelain; git rev-parse --abbrev-ref HEAD");
    assert_eq!(shown.output, format!("one\n D a.txt\n?? deep/\ngreenroom/{session}\n"));
    let log = server.entries(session);
    let restoring =
        |entry: &&Entry| matches!(entry.event, Event::SandboxChanged { state: SandboxPhase::Restoring, .. });
    assert_eq!(log.iter().filter(restoring).count(), 1, "{log:#?}");
    // And again from what was written since, which nobody took a snapshot of but the journal.
    server.exec(session, "echo more > more.txt");
    wait_for_journal(&server, session, "more.txt");
    lose_workspace_and_kill(&mut server, session);
    server.restart();
    assert_eq!(server.exec(session, "cat deep/own.txt more.txt").output, "one\nmore\n");
}

/// Waits for a whole copy that holds this file.
fn wait_for_journal(server: &Server, session: SessionId, file: &str) {
    let kept = storage(server).join("snapshots").join(session.to_string());
    until("a whole copy in the journal", || {
        let mut copies = kept.read_dir().ok()?.flatten().map(|entry| entry.path());
        copies.find(|copy| {
            let is_whole =
                copy.with_extension("json").exists() && copy.to_string_lossy().contains("journal-");
            is_whole && copy.join("root/workspace").join(file).exists()
        })
    });
}

#[test]
fn a_crash_in_mid_turn_loses_nothing_that_a_finished_call_wrote() {
    let (mut server, model) = server();
    model.server.respond_with(|recorded| {
        let asked = recorded.json()["messages"].to_string();
        match asked.contains("tool_result") {
            false => bash("echo finished > own.txt"),
            true => Turn::fault(Fault::SilenceBeforeHeaders),
        }
    });
    let session = server.ask("sample", "work");
    model.wait_for_requests(2);
    wait_for_journal(&server, session, "own.txt");
    lose_workspace_and_kill(&mut server, session);
    model.server.respond_with(|_| Turn::text("done"));
    server.restart();
    let log = server.settled(session);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed], "{log:#?}");
    assert_eq!(server.exec(session, "cat own.txt").output, "finished\n");
}

#[test]
fn a_sandbox_that_dies_is_copied_as_it_was_and_the_next_one_has_its_files() {
    let (server, _model) = server();
    let session = server.ask("sample", "true");
    server.settled(session);
    // What is copied after this is copied because of what comes now.
    saved(&server, session);
    server.exec(session, "echo one > own.txt");
    for pid in crate::crash::stages(server.pid()) {
        let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
    server.entry(session, "the loss is told", |event| {
        matches!(event, Event::SandboxChanged { state: SandboxPhase::Lost, .. })
    });
    server.entry(session, "its files are copied", |event| {
        matches!(event, Event::SnapshotTaken { reason: SnapshotReason::Exit, .. })
    });
    assert_eq!(server.exec(session, "cat own.txt").output, "one\n");
}

#[test]
fn a_server_that_stops_in_order_keeps_a_copy_of_unsaved_files() {
    let (mut server, _model) = server();
    let session = server.ask("sample", "true");
    server.settled(session);
    // What is copied after this is copied because the server stops.
    saved(&server, session);
    server.exec(session, "echo one > own.txt");
    server.stop();
    server.restart();
    server.entry(session, "a copy was made at the end", |event| {
        matches!(event, Event::SnapshotTaken { reason: SnapshotReason::Exit, .. })
    });
    lose_workspace_and_kill(&mut server, session);
    server.restart();
    assert_eq!(server.exec(session, "cat own.txt").output, "one\n");
}

#[test]
fn without_any_copy_the_loss_is_told_first_and_the_next_prompt_begins_from_the_image() {
    let (mut server, _model) = server();
    let session = server.ask("sample", "echo one > own.txt");
    server.settled(session);
    saved(&server, session);
    let kept = storage(&server).join("snapshots").join(session.to_string());
    std::fs::rename(&kept, storage(&server).join("trash/all-of-them")).unwrap();
    lose_workspace_and_kill(&mut server, session);
    server.restart();
    let log = prompt(&server, session, "cat own.txt a.txt");
    let told = |event: &Event| {
        matches!(event, Event::SandboxChanged { problem: Some(problem), .. }
            if problem.code.as_str() == "snapshot_damaged" && problem.hint.is_some())
    };
    assert!(log.iter().any(|entry| told(&entry.event)), "{log:#?}");
    let log = prompt(&server, session, "cat a.txt > copy.txt; test ! -e own.txt");
    assert_eq!(outcomes(&log).last(), Some(&TurnOutcome::Completed), "{log:#?}");
    let shown = server.exec(session, "cat copy.txt; ls own.txt; git rev-parse --abbrev-ref HEAD").output;
    assert!(shown.starts_with("a\n") && shown.ends_with(&format!("greenroom/{session}\n")), "{shown}");
}

#[test]
fn only_so_many_snapshots_are_kept_and_those_a_fork_needs_stay() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("greenroom.toml"), "snapshots_kept = 2\n").unwrap();
    let server = Server::start_in(&data);
    let model = Model::new(|asked| match asked.step {
        0 => bash(&asked.prompt),
        _ => Turn::text("done"),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let session = server.ask("sample", "echo 1 > own.txt");
    server.settled(session);
    let (needed, _) = saved(&server, session);
    let fork = fork(&server, session, None);
    for number in 2..=4 {
        prompt(&server, session, &format!("echo {number} > own.txt"));
        saved(&server, session);
    }
    let listed = until("the surplus is dropped", || {
        let listed = server.json(&["session", "snapshots", &session.to_string()]);
        (listed.as_array()?.len() == 2).then_some(listed)
    });
    assert!(listed.to_string().contains(&needed.to_string()), "{listed}");
    assert_eq!(server.exec(fork.id, "cat own.txt").output, "1\n");
    let text = server.cli(&["session", "snapshots", &session.to_string()]);
    assert!(text.contains("a turn ended"), "{text}");
}

#[test]
fn the_command_line_forks_by_a_turns_number_and_answers_the_new_prompt() {
    let (server, _model) = server();
    let session = server.ask("sample", "echo one > own.txt");
    server.settled(session);
    prompt(&server, session, "echo two > own.txt");
    saved(&server, session);
    let text = server.cli(&["session", "fork", &session.to_string(), "cat own.txt", "--turn", "1"]);
    assert!(text.contains("one") && text.contains("done"), "{text}");
    let made = server.json(&["session", "fork", &session.to_string(), "--title", "mine"]);
    assert_eq!(made["title"], "mine");
    assert_eq!(server.exec(made["id"].as_str().unwrap().parse().unwrap(), "cat own.txt").output, "two\n");
    let problem = server.problem(&["session", "fork", &session.to_string(), "--turn", "9"]);
    assert_problem(&problem, "invalid_request");
}
