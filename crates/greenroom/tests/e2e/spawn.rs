//! Sessions that a session's agent begins: in two repositories beside each other, through a kill of the server, and what
//! becomes of them when their parent is stopped or put away.

use crate::support::{Asked, Model, NO_STEPS, Server, bash, call, outcomes, until};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{ChildOutcome, Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::{Value, json};

fn spawn(repository: &str, prompt: &str) -> (&'static str, Value) {
    (
        "spawn_session",
        json!({"repository": repository, "prompt": prompt, "title": prompt, "budget_percent": 20}),
    )
}

fn spawn_three() -> Turn {
    let parts = [spawn("left", "part one"), spawn("right", "part two"), spawn("right", "part three")];
    calls(&parts)
}

fn calls(calls: &[(&str, Value)]) -> Turn {
    let [(name, input), rest @ ..] = calls else { panic!("no call") };
    let add = |turn: Turn, (n, (name, input)): (usize, &(&str, Value))| {
        turn.and_call(&format!("more_{n}"), name, input)
    };
    rest.iter().enumerate().fold(call(name, input), add)
}

/// Changes a file, opens a change, says so.
fn part(asked: &Asked) -> Turn {
    match asked.step {
        0 => bash(&format!("echo '{}' > part.txt", asked.prompt)),
        1 => call("open_change", &json!({"title": format!("Do {}", asked.prompt), "body": "As asked."})),
        _ => Turn::text(format!("{} is done.", asked.prompt)),
    }
}

fn server_with_two_repositories() -> Server {
    let server = Server::start();
    for name in ["left", "right"] {
        server.add_repository(name, &[NO_STEPS, ("a.txt", "a\n")]);
    }
    server
}

fn children(server: &Server, parent: SessionId) -> Vec<SessionId> {
    let spawned = |event: &Event| match event {
        Event::ChildSpawned { child, .. } => Some(*child),
        _ => None,
    };
    server.entries(parent).iter().filter_map(|entry| spawned(&entry.event)).collect()
}

fn ends(server: &Server, parent: SessionId) -> Vec<(SessionId, ChildOutcome)> {
    let ended = |event: &Event| match event {
        Event::ChildEnded { child, end, .. } => Some((*child, end.outcome)),
        _ => None,
    };
    server.entries(parent).iter().filter_map(|entry| ended(&entry.event)).collect()
}

#[test]
fn one_prompt_becomes_three_sessions_in_two_repositories_and_three_changes() {
    let server = server_with_two_repositories();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("do it all", 0) => spawn_three(),
        ("do it all", 1) => call("wait_session", &json!({"timeout_seconds": 80})),
        ("do it all", _) => Turn::text(format!("They said: {}", asked.results)),
        _ => part(asked),
    });
    server.use_model(&model);
    let parent = server.ask("left", "do it all");
    let log = server.settled(parent);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed]);
    let told = format!("{log:?}");
    for part in ["part one is done.", "part two is done.", "part three is done."] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let children = children(&server, parent);
    assert_eq!(children.len(), 3);
    let ended = until("the parent's log has their ends", || {
        Some(ends(&server, parent)).filter(|ends| ends.len() == 3)
    });
    assert!(ended.iter().all(|(_, outcome)| *outcome == ChildOutcome::Completed), "{ended:?}");
    let changes = server.json(&["change", "list"]);
    let mut opened: Vec<(String, String)> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let text = |key: &str| change[key].as_str().unwrap().to_owned();
            (text("repository"), text("title"))
        })
        .collect();
    opened.sort();
    let wanted = [("left", "Do part one"), ("right", "Do part three"), ("right", "Do part two")];
    assert_eq!(opened, wanted.map(|(repository, title)| (repository.to_owned(), title.to_owned())));
    // One tree, from wherever one looks.
    let tree = server.json(&["session", "tree", &children[1].to_string()]);
    assert_eq!((&tree["root"], tree["sessions"].as_array().unwrap().len()), (&json!(parent), 4));
    let shown = server.cli(&["session", "tree", &parent.to_string()]);
    assert!(shown.contains(&format!("  {}", children[0])) && shown.contains("part three"), "{shown}");
    let listed = server.cli(&["session", "list"]);
    assert_eq!(listed.matches('↳').count(), 3, "{listed}");
}

#[test]
fn a_kill_of_the_server_loses_and_doubles_no_child() {
    let mut server = server_with_two_repositories();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("do it all", 0..=2) => calls(&[spawn("right", &format!("part {}", asked.step))]),
        ("do it all", _) if asked.results.contains("Its last words") => Turn::text("They are done."),
        ("do it all", _) => call("wait_session", &json!({"timeout_seconds": 80 + asked.step})),
        (_, 0) => bash("sleep 2; echo x > part.txt"),
        _ => Turn::text(format!("{} is done.", asked.prompt)),
    });
    server.use_model(&model);
    let parent = server.ask("left", "do it all");
    // At three moments: as soon as the first, the second and the third intent are seen; a call that was cut off before its
    // intent began nothing.
    for wanted in 1..=3 {
        until("so many are begun", || {
            let log = server.entries(parent);
            (children(&server, parent).len() >= wanted || !outcomes(&log).is_empty()).then_some(())
        });
        server.kill();
        server.restart();
    }
    server.settled(parent);
    let children = children(&server, parent);
    assert!(!children.is_empty());
    let ended = until("all have ended", || {
        let ended = ends(&server, parent);
        (ended.len() >= children.len()).then_some(ended)
    });
    assert_eq!(ended.len(), children.len(), "each is told once: {ended:?}");
    let listed = server.json(&["session", "list"]);
    let of_parent = |session: &&Value| session["parent"] == json!(parent);
    let listed = listed.as_array().unwrap();
    assert_eq!(
        listed.iter().filter(of_parent).count(),
        children.len(),
        "as many as the log says: {listed:#?}"
    );
    for child in children {
        assert_eq!(outcomes(&server.settled(child)), [TurnOutcome::Completed]);
    }
}

#[test]
fn children_are_stopped_or_released_as_asked_when_their_parent_is_put_away() {
    let server = server_with_two_repositories();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("begin", 0) => calls(&[spawn("left", "sleep"), spawn("right", "sleep")]),
        ("begin", _) => Turn::text("Begun."),
        (_, 0) => bash("sleep 1000"),
        _ => Turn::text("Awake."),
    });
    server.use_model(&model);
    let parent = server.ask("left", "begin");
    server.settled(parent);
    let id = parent.to_string();
    let children = children(&server, parent);
    // The end of the turn leaves them at work, and nobody puts the parent away by accident.
    for verb in ["archive", "delete"] {
        let refused = server.problem(&["session", verb, &id]);
        assert_eq!(refused["code"], "session_busy", "{refused}");
    }
    server.cli(&["session", "archive", &id, "--children", "release"]);
    assert_eq!(ends(&server, parent), []);
    server.cli(&["session", "unarchive", &id]);
    server.cli(&["session", "stop", &id, "--only-children"]);
    for child in &children {
        assert_eq!(outcomes(&server.settled(*child)), [TurnOutcome::Stopped]);
    }
    let ended = until("the parent is told", || Some(ends(&server, parent)).filter(|ends| ends.len() == 2));
    assert!(ended.iter().all(|(_, outcome)| *outcome == ChildOutcome::Stopped), "{ended:?}");
    server.cli(&["session", "delete", &id]);
    assert!(children.iter().all(|child| server.session(*child).parent == Some(parent)));
}
