//! Undo and diff with real sandboxes: a tree for each step, back to any, forward again.

use crate::support::{Model, NO_STEPS, Server, assert_problem, bash, both, until};
use greenroom_domain::event::StepOf;
use greenroom_domain::{Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::Value;

/// Every path but git's own with its kind, mode and content.
const LOOK: &str = r#"find . -path ./.git -prune -o -printf '%y %m %l ' -print0 | sort -z | tr '\0' '\n'; \
    find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"#;
const FIRST: &str = "printf 'one\\n' > a.txt; printf 'ELF\\0\\1' > prog; chmod +x prog; ln -s a.txt link; mkdir -p deep; echo d > deep/d";
const SECOND: &str = "rm gone.txt; mv moves.txt moved.txt; printf '\\377' > \"$(printf 'odd\\nname\\377')\"; echo two >> a.txt";
const THIRD: &str = "rm -r deep link; mkdir link; echo in > link/in; chmod -x prog; echo three >> a.txt; mkdir -p cache; echo c > cache/c";

fn steps(server: &Server, session: SessionId) -> Value {
    server.json(&["session", "steps", &session.to_string()])
}

/// A tree is made beside the work: it may come a moment later.
fn wait_for_step(server: &Server, session: SessionId, number: u64) -> Value {
    until("the step has its tree", || {
        let found = steps(server, session);
        (found["steps"][0]["step"].as_u64()? >= number).then_some(found)
    })
}

fn paths(diff: &Value) -> Vec<String> {
    diff.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

fn model() -> Model {
    Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        (said, 0) if said.ends_with("work") => bash(FIRST),
        (said, 1) if said.ends_with("work") => bash(SECOND),
        (said, 2) if said.ends_with("work") => bash(THIRD),
        (said, 0) if said.ends_with("look") => bash("git status --short"),
        (said, 0) if said.ends_with("wait") => bash("while [ ! -e /tmp/go ]; do sleep 0.1; done"),
        (said, 0) if said.ends_with("more") => bash("echo more > more.txt"),
        _ => Turn::text("Done."),
    })
}

const FILES: &[(&str, &str)] =
    &[NO_STEPS, ("gone.txt", "gone\n"), ("moves.txt", "some\nlines\nmove\n"), (".gitignore", "cache/\n")];

#[test]
fn three_steps_are_shown_undone_and_done_again() {
    let server = Server::start();
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", FILES);
    let session = server.ask("sample", "work");
    let name = session.to_string();
    server.settled(session);
    let found = wait_for_step(&server, session, 3);
    let counted: Vec<u64> =
        found["steps"].as_array().unwrap().iter().map(|step| step["files"].as_u64().unwrap()).collect();
    assert_eq!((counted.len(), counted[3]), (4, 0), "{found:#}");
    assert_eq!((&found["at"], &found["forward"]), (&3.into(), &Value::Null), "{found:#}");
    let diff = |arguments: &[&str]| server.json(&[&["session", "diff", name.as_str()], arguments].concat());
    assert_eq!(paths(&diff(&["--step", "1"])), ["a.txt", "deep/d", "link", "prog"]);
    assert!(diff(&["--step", "1"])[3]["is_binary"].as_bool().unwrap());
    let second = diff(&["--step", "2"]);
    let renamed = second.as_array().unwrap().iter().find(|file| file["path"] == "moved.txt").unwrap();
    assert_eq!(renamed["old_path"], "moves.txt", "{second:#}");
    assert_eq!(second.as_array().unwrap().len(), 4, "{second:#}");
    let whole = paths(&diff(&["--turn", "1"]));
    assert!(whole.contains(&"link/in".to_owned()) && !whole.contains(&"deep/d".to_owned()), "{whole:?}");
    assert_eq!(whole, paths(&diff(&[])), "the turn is all that the session did");

    let last = server.exec(session, LOOK).output;
    let would = server.json(&["session", "revert", &name, "--to", "1", "--dry-run"]);
    assert!(paths(&would).contains(&"gone.txt".to_owned()), "{would:#}");
    assert_eq!(server.exec(session, LOOK).output, last, "a look changes nothing");

    let done = server.json(&["session", "revert", &name, "--to", "1", "--key", "once"]);
    assert_eq!((&done["to"], &done["from"], &done["forward"]), (&1.into(), &3.into(), &3.into()), "{done:#}");
    let first =
        server.exec(session, "cat a.txt gone.txt deep/d link cache/c; test -x prog; echo $?; ls").output;
    assert!(first.starts_with("one\ngone\nd\none\nc\n0\n"), "{first}");
    assert!(first.contains("moves.txt") && !first.contains("odd"), "{first}");
    // Repeated under its key it is the same one.
    server.json(&["session", "revert", &name, "--to", "1", "--key", "once"]);
    let reverted = |event: &&Event| matches!(event, Event::Reverted { .. });
    let entries = server.entries(session);
    assert_eq!(entries.iter().map(|entry| &entry.event).filter(reverted).count(), 1);

    server.json(&["session", "revert", &name, "--to", "0"]);
    assert_eq!(server.exec(session, "git status --short").output, "");
    let forward = server.json(&["session", "revert", &name, "--forward"]);
    assert_eq!((&forward["to"], &forward["forward"]), (&3.into(), &Value::Null), "{forward:#}");
    assert_eq!(server.exec(session, LOOK).output, last);
    let ahead = server.problem(&["session", "revert", &name, "--forward"]);
    assert_problem(&ahead, "step_unknown");
    assert_problem(&server.problem(&["session", "revert", &name, "--to", "99"]), "step_unknown");
    assert_problem(&server.problem(&["session", "diff", &name, "--step", "99"]), "step_unknown");
}

#[test]
fn what_people_did_is_kept_first_the_agent_is_told_and_lines_stay_whose_they_were() {
    let server = Server::start();
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", FILES);
    let session = server.ask("sample", "work");
    let name = session.to_string();
    server.settled(session);
    wait_for_step(&server, session, 3);
    // Not while a turn runs.
    server.json(&["session", "prompt", &name, "wait", "--detach"]);
    let busy = until("the turn runs", || {
        let output = server.problem(&["session", "revert", &name, "--to", "1"]);
        (output["code"] == "session_busy").then_some(output)
    });
    assert!(busy["hint"].as_str().unwrap().contains("stop it"), "{busy}");
    server.exec(session, "touch /tmp/go");
    server.settled(session);
    server.exec(session, "echo by hand > hand.txt");
    let done = server.json(&["session", "revert", &name, "--to", "2"]);
    assert_eq!(done["from"], 4, "{done:#}");
    assert_eq!(paths(&server.json(&["session", "diff", &name, "--step", "4"])), ["hand.txt"]);
    assert_eq!(server.exec(session, "ls hand.txt 2>&1").exit_code, Some(2));

    // Only who may prompt.
    let onlooker = server.member("ben");
    server.cli(&["session", "people", "open", &name, "view"]);
    let refused = server.cli_as(&onlooker, &["--json", "session", "revert", &name, "--to", "1"]);
    assert!(!refused.status.success() && both(&refused).contains("not_allowed"), "{}", both(&refused));
    let blamed = server.json(&["session", "blame", &name, "a.txt"]);
    assert!(
        blamed["parts"].as_array().unwrap().iter().all(|part| part["by"]["kind"] == "prompts"),
        "{blamed:#}"
    );

    server.json(&["session", "prompt", &name, "look", "--detach"]);
    let entries = server.settled(session);
    let told = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::NoticeGiven { text, .. } => Some(text.clone()),
        _ => None,
    });
    let told = told.expect("the agent was told");
    assert!(told.contains("put the workspace's files back") && told.contains("hand.txt"), "{told}");
    assert_eq!(entries.iter().filter(|entry| matches!(entry.event, Event::NoticeGiven { .. })).count(), 1);

    // The next step stands on the one that the files went back to.
    server.json(&["session", "prompt", &name, "more", "--detach"]);
    server.settled(session);
    let found = wait_for_step(&server, session, 5);
    assert_eq!((&found["steps"][0]["from"], &found["forward"]), (&2.into(), &Value::Null), "{found:#}");
    assert_eq!(paths(&server.json(&["session", "diff", &name, "--turn", "4"])), ["more.txt"]);
    server.json(&["session", "revert", &name, "--to", "4"]);
    assert_eq!(server.exec(session, "cat hand.txt; ls more.txt 2>&1").exit_code, Some(2));
}

#[test]
fn a_revert_goes_on_after_a_kill_and_its_steps_are_in_a_restored_copy() {
    let mut server = Server::start();
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", FILES);
    let session = server.ask("sample", "work");
    let name = session.to_string();
    server.settled(session);
    wait_for_step(&server, session, 3);
    // A filter of the clone's takes its time over a file that is to be written, so that the kill comes in the middle of it.
    let slow = "echo 'gone.txt filter=slow' > .git/info/attributes; git config filter.slow.clean cat; \
        git config filter.slow.smudge '[ -e cache/begun ] || { touch cache/begun; sleep 600; }; cat'";
    assert_eq!(server.exec(session, slow).exit_code, Some(0));
    let client = server.client();
    let command = greenroom_domain::Command::Revert { to: 1 };
    server.wait(client.submit(session, &"k".parse().unwrap(), &command)).unwrap();
    until("it has begun", || (server.exec(session, "ls cache/begun").exit_code == Some(0)).then_some(()));
    server.kill();
    server.restart();
    // The sandbox is another one; whoever uses it finds the files put back.
    server.exec(session, "true");
    until("it is done", || {
        let is_done =
            |entry: &greenroom_domain::Entry| matches!(entry.event, Event::Reverted { to: 1, from: 3, .. });
        server.entries(session).iter().any(is_done).then_some(())
    });
    assert_eq!(server.exec(session, "cat a.txt gone.txt").output, "one\ngone\n");
    let entries = server.entries(session);
    let outside = entries
        .iter()
        .filter(|entry| matches!(entry.event, Event::StepTree { of: StepOf::Outside, step, .. } if step > 3));
    assert_eq!(outside.count(), 0, "what was half done is nobody's step");
    server.json(&["session", "revert", &name, "--forward"]);
    assert_eq!(server.exec(session, "cat a.txt").output, "one\ntwo\nthree\n");
}
