//! The queue from the command line and the API: who may do what to whose prompt, and what a stop leaves.

use crate::support::{Model, NO_STEPS, Server, bash, outcomes, problem_of, until};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::Value;

/// A session whose turn runs until it is stopped.
fn busy() -> (Server, Model, SessionId, String) {
    let server = Server::start();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("wait", 0) => bash("echo begun > begun.txt; sleep 1000"),
        (other, _) => Turn::text(format!("Answered {other}.")),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let started = server.json(&["run", "sample", "wait", "--detach"]);
    let session = started["id"].as_str().unwrap().to_owned();
    let id = session.parse().unwrap();
    until("the command runs", || (server.exec(id, "cat begun.txt").output == "begun\n").then_some(()));
    (server, model, id, session)
}

fn queue(server: &Server, session: &str) -> Vec<(String, String)> {
    let listed = server.json(&["session", "queue", "list", session]);
    let text = |queued: &Value, name: &str| queued[name].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(|queued| (text(queued, "text"), text(queued, "prompt"))).collect()
}

fn texts(server: &Server, session: &str) -> Vec<String> {
    queue(server, session).into_iter().map(|(text, _)| text).collect()
}

#[test]
fn a_queue_is_put_in_order_held_and_released_from_the_command_line() {
    let (server, _model, id, session) = busy();
    let ann = server.member("ann");
    let prompt =
        |token: &str, text: &str| server.json_as(token, &["session", "prompt", &session, text, "--detach"]);
    prompt(&ann, "pears");
    server.cli(&["session", "prompt", &session, "apples", "--detach"]);
    prompt(&ann, "plums");
    prompt(&ann, "nuts");
    let waiting = queue(&server, &session);
    let of = |wanted: &str| waiting.iter().find(|(text, _)| text == wanted).unwrap().1.clone();
    let (pears, apples, plums, nuts) = (of("pears"), of("apples"), of("plums"), of("nuts"));

    let refused = |token: &str, arguments: &[&str]| {
        problem_of(&server.cli_as(token, &[arguments, &["--json"]].concat()))["code"].clone()
    };
    let before = ["session", "queue", "move", &session, &plums, "--before", &apples];
    assert_eq!(refused(&ann, &before), "not_allowed", "not ahead of another person's");
    assert_eq!(refused(&ann, &["session", "queue", "withdraw", &session, &apples]), "not_allowed");
    let edit = server.problem(&["session", "queue", "edit", &session, &pears, "poison"]);
    assert_eq!(edit["code"], "not_allowed", "an admin does not put words into another's mouth");
    assert_eq!(texts(&server, &session), ["pears", "apples", "plums", "nuts"]);

    server.cli(&before);
    server.json_as(&ann, &["session", "queue", "move", &session, &pears]);
    server.json_as(&ann, &["session", "queue", "edit", &session, &plums, "ripe plums"]);
    server.json_as(&ann, &["session", "queue", "insert", &session, &nuts]);
    server.json_as(&ann, &["session", "queue", "withdraw", &session, &nuts]);
    assert_eq!(texts(&server, &session), ["ripe plums", "apples", "pears"]);

    server.cli(&["session", "stop", &session, "--hold"]);
    server.entry(id, "the turn is stopped", |event| {
        matches!(event, Event::TurnFinished { outcome: TurnOutcome::Stopped, .. })
    });
    let listed = server.json(&["session", "queue", "list", &session]);
    assert!(listed.as_array().unwrap().iter().all(|queued| queued["is_held"] == true), "{listed}");
    server.cli(&["session", "prompt", &session, "first this"]);
    assert_eq!(texts(&server, &session), ["ripe plums", "apples", "pears"], "held as they were");

    server.cli(&["session", "queue", "release", &session]);
    until("all are answered", || texts(&server, &session).is_empty().then_some(()));
    let log = server.settled(id);
    assert_eq!(outcomes(&log)[1..], [const { TurnOutcome::Completed }; 4]);
    let prompts = |event: &Event| match event {
        Event::TurnStarted { prompts, .. } => prompts.iter().map(ToString::to_string).collect(),
        _ => vec![],
    };
    let answered: Vec<String> = log.iter().flat_map(|entry| prompts(&entry.event)).collect();
    assert_eq!(answered[2..], [plums, apples, pears]);
    server.cli(&["session", "rename", &session, "Fruit"]);
    assert_eq!(server.session(id).title, "Fruit");
}
