//! Sessions beside each other, prompts that wait, and stop, as the command line gives them.

use crate::support::{Model, NO_STEPS, Server, bash, command, outcomes, until};
use futures::StreamExt;
use greenroom_domain::Event;
use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_model::testing::Turn;
use greenroom_wire::{SessionStatus, SessionsFrame};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn two_sessions_work_beside_each_other_with_files_of_their_own() {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => bash(&format!("echo {} > name.txt && cat name.txt", asked.prompt)),
        _ => Turn::text(format!("It said {}.", asked.results)),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let (one, two) = (server.ask("sample", "one"), server.ask("sample", "two"));
    for (session, name) in [(one, "one"), (two, "two")] {
        assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Completed]);
        assert_eq!(server.exec(session, "cat name.txt").output, format!("{name}\n"));
    }
    let listed = server.json(&["session", "list"]);
    let newest: Vec<_> = listed.as_array().unwrap().iter().map(|session| session["id"].clone()).collect();
    assert_eq!(newest, [json!(two), json!(one)]);
}

#[test]
fn stop_ends_a_running_command_at_once_and_a_prompt_that_waited_is_answered_then() {
    let server = Server::start();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("wait", 0) => bash("echo kept > kept.txt; echo begun; sleep 1000"),
        ("go on", 0) => bash("cat kept.txt"),
        ("go on", _) => Turn::text(format!("Here: {}", asked.results)),
        other => Turn::text(format!("Unexpected: {other:?}")),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let started = server.json(&["run", "sample", "wait", "--detach"]);
    let session = started["id"].as_str().unwrap().to_owned();
    let id = session.parse().unwrap();
    until("the command runs", || (server.exec(id, "cat kept.txt").output == "kept\n").then_some(()));
    server.cli(&["session", "prompt", &session, "go on", "--detach"]);
    assert_eq!(server.session(id).queued_prompts, 1);

    let stopped_at = Instant::now();
    server.cli(&["session", "stop", &session]);
    server.entry(id, "the turn is stopped", |event| {
        matches!(event, Event::TurnFinished { outcome: TurnOutcome::Stopped, .. })
    });
    assert!(stopped_at.elapsed() < Duration::from_secs(8), "it took {:?}", stopped_at.elapsed());

    let log = server.settled(id);
    assert_eq!(outcomes(&log), [TurnOutcome::Stopped, TurnOutcome::Completed]);
    let cancelled =
        |event: &Event| matches!(event, Event::ToolFinished { outcome: ToolOutcome::Cancelled, .. });
    assert!(log.iter().any(|entry| cancelled(&entry.event)), "{log:#?}");
    let shown = server.exec(id, "cat kept.txt; grep -lz '^sleep$' /proc/[0-9]*/cmdline || echo none sleeps");
    assert_eq!(shown.output, "kept\nnone sleeps\n");
    let again = server.problem(&["session", "stop", &session]);
    assert_eq!(again["code"], "not_running", "{again}");
}

#[test]
fn the_list_of_sessions_tells_what_comes_what_works_and_what_goes() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("Done."));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    server.add_repository("other", &[NO_STEPS, ("a.txt", "a\n")]);
    let client = server.client_as(&server.member("ann"));
    let mut all = client.follow_sessions(None);
    let mut next = || server.wait(all.next()).expect("it goes on").expect("a frame");
    let SessionsFrame::Snapshot { sessions, .. } = next() else { panic!("no snapshot first") };
    assert!(sessions.is_empty());
    let id = server.ask("sample", "go");
    server.settled(id);
    let mut seen = vec![];
    while seen.last() != Some(&SessionStatus::Idle) {
        let SessionsFrame::Changed { session } = next() else { panic!("not a change") };
        assert_eq!(session.id, id);
        seen.push(session.status);
    }
    // Begun later: the list has it whole, and another repository's has nothing of it.
    let mut later = client.follow_sessions(Some("sample".parse().unwrap()));
    let mut elsewhere = client.follow_sessions(Some("other".parse().unwrap()));
    let listed = |frame: Option<Result<SessionsFrame, _>>| match frame {
        Some(Ok(SessionsFrame::Snapshot { sessions, .. })) => sessions.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(server.wait(later.next())), 1);
    assert_eq!(listed(server.wait(elsewhere.next())), 0);
    let other = server.create_session("other", None).unwrap().id;
    let first = server.wait(elsewhere.next());
    assert!(
        matches!(&first, Some(Ok(SessionsFrame::Changed { session })) if session.id == other),
        "{first:?}"
    );
    server.wait(server.client().delete_session(id)).unwrap();
    let gone = server.wait(later.next());
    assert!(matches!(gone, Some(Ok(SessionsFrame::Removed { session })) if session == id), "{gone:?}");
}

#[test]
fn the_list_is_followed_on_the_command_line_line_by_line() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("Done."));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let mut following = command(server.data());
    let following = following.args(["--json", "session", "list", "--follow"]).stdout(Stdio::piped());
    let mut following = following.spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("a line").unwrap()).unwrap();
    assert_eq!(next(), json!({"type": "snapshot", "sessions": [], "reads": []}));
    let id = server.ask("sample", "go");
    let line = next();
    assert_eq!((&line["type"], &line["session"]["id"]), (&json!("changed"), &json!(id)));
    following.kill().unwrap();
    following.wait().unwrap();
}
