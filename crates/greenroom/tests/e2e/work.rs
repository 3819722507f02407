//! Sessions beside each other, prompts that wait, and stop, as the command line gives them.

use crate::support::{Model, NO_STEPS, Server, bash, outcomes, until};
use greenroom_domain::Event;
use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_model::testing::Turn;
use serde_json::json;
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
