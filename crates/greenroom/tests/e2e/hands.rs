//! The agent's tools in a real sandbox: what the tests of the loop cannot know of terminals and files.

use crate::support::{Model, NO_STEPS, Server, call, outcomes};
use greenroom_domain::Event;
use greenroom_domain::event::TurnOutcome;
use greenroom_model::testing::Turn;
use serde_json::json;

/// What each call of a tool gave, in order.
fn told(entries: &[greenroom_domain::Entry]) -> Vec<String> {
    let text = |entry: &greenroom_domain::Entry| match &entry.event {
        Event::ToolFinished { text, .. } => Some(text.clone()),
        _ => None,
    };
    entries.iter().filter_map(text).collect()
}

#[test]
fn a_program_on_a_terminal_outlives_the_turn_and_reads_what_is_typed() {
    let server = Server::start();
    let program =
        "test -t 0 && echo on a terminal; while read -r line; do echo \"heard $line\"; done; echo over";
    let model = Model::new(move |asked| match (asked.prompt.as_str(), asked.step) {
        ("start", 0) => call("terminal", &json!({"command": program})),
        ("type", 0) => call("terminal", &json!({"terminal": 1, "input": "one\n"})),
        ("end", 0) => call("terminal", &json!({"terminal": 1, "input": "\u{4}", "wait_ms": 60_000})),
        ("serve", 0) => call("terminal", &json!({"command": "exec sleep 1000", "wait_ms": 0})),
        ("serve", 1) => call("terminal", &json!({"terminal": 2, "close": true})),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let session = server.ask("sample", "start");
    let mut log = server.settled(session);
    for prompt in ["type", "end", "serve"] {
        server.cli(&["session", "prompt", &session.to_string(), prompt, "--detach"]);
        log = server.settled(session);
    }
    assert_eq!(outcomes(&log), vec![TurnOutcome::Completed; 4]);
    let told = told(&log);
    assert_eq!(told[0], "on a terminal\n[Terminal 1 is open.]");
    assert_eq!(told[1], "one\nheard one\n[Terminal 1 is open.]");
    assert_eq!(told[2], "over\n[Terminal 1 is closed: the program ended.]");
    assert_eq!(told[3], "[Terminal 2 is open.]");
    assert_eq!(told[4], "[Terminal 2 is closed: the program was ended.]");
    let left = server.exec(session, "grep -lsz '^sleep$' /proc/[0-9]*/cmdline || echo none sleeps").output;
    assert_eq!(left, "none sleeps\n");
}

#[test]
fn a_patch_makes_changes_moves_and_removes_files() {
    let server = Server::start();
    let patch = "*** Begin Patch\n*** Update File: a.txt\n-one\n+1\n*** Update File: b.txt\n*** Move to: sub/c.txt\n-x\n+y\n\
                 *** Delete File: old.txt\n*** Add File: new/d.txt\n+d\n*** End Patch\n";
    let model = Model::new(move |asked| match asked.step {
        0 => call("apply_patch", &json!({ "patch": patch })),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    let files = [NO_STEPS, ("a.txt", "one\ntwo\n"), ("b.txt", "x\n"), ("old.txt", "o\n")];
    server.add_repository("sample", &files);
    let session = server.ask("sample", "patch");
    let log = server.settled(session);
    assert_eq!(told(&log), ["Done:\nM a.txt\nR b.txt -> sub/c.txt\nD old.txt\nA new/d.txt"]);
    let shown = server.exec(session, "cat a.txt sub/c.txt new/d.txt; ls b.txt old.txt 2>&1 | wc -l").output;
    assert_eq!(shown, "1\ntwo\ny\nd\n2\n");
    let paths: Vec<String> = server
        .wait(server.client().session_diff(session))
        .unwrap()
        .into_iter()
        .map(|file| file.path)
        .collect();
    assert_eq!(paths, ["a.txt", "b.txt", "new/d.txt", "old.txt", "sub/c.txt"]);
}
