//! The agent asks people, over a real server: answered from the command line, over a kill, with rules of the installation.

use crate::support::{Model, NO_STEPS, Server, bash, call, outcomes, until};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::{Value, json};

const SETTINGS: &str = "[asks]\nwait_minutes = 30\n[[permissions]]\npermission = \"bash\"\npattern = \"touch *\"\naction = \"ask\"\n[[permissions]]\npermission = \"bash\"\npattern = \"rm *\"\naction = \"deny\"\n";

fn model() -> Model {
    Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("ask", 0) => {
            let options = json!([{"label": "red", "description": "It is warm."}, {"label": "blue"}]);
            let colour = json!({"header": "Colour", "text": "Which colour?", "options": options});
            let why = json!({"header": "Why", "text": "Why that one?", "takes_text": true});
            call("question", &json!({ "questions": [colour, why] }))
        }
        ("touch", 0) => bash("cd /workspace && touch leave.txt"),
        ("remove", 0) => bash("true; sh -c 'rm a.txt'"),
        (other, _) => Turn::text(format!("Answered {other}.")),
    })
}

fn asks(server: &Server, session: &str) -> Vec<Value> {
    server.json(&["session", "asks", session]).as_array().unwrap().clone()
}

fn asked(server: &Server, session: &str) -> Value {
    until("something is asked", || asks(server, session).pop())
}

fn results(server: &Server, id: SessionId) -> Vec<String> {
    let log = server.settled(id);
    let text = |event: &Event| match event {
        Event::ToolFinished { text, .. } => Some(text.clone()),
        _ => None,
    };
    log.iter().filter_map(|entry| text(&entry.event)).collect()
}

#[test]
fn a_question_outlives_a_killed_server_and_leave_is_asked_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("greenroom.toml"), SETTINGS).unwrap();
    let mut server = Server::start_in(&data);
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let started = server.json(&["run", "sample", "ask", "--detach"]);
    let session = started["id"].as_str().unwrap().to_owned();
    let id: SessionId = session.parse().unwrap();

    let open = asked(&server, &session);
    until("the list says that it waits", || {
        server.cli(&["session", "list"]).contains("waiting").then_some(())
    });
    assert!(server.cli(&["session", "asks", &session]).contains("1. red: It is warm."));
    server.kill();
    server.restart();
    assert_eq!(asked(&server, &session)["ask"], open["ask"], "the same question waits");
    let wrong = server.problem(&["session", "answer", &session, "green", "no reason"]);
    assert_eq!(wrong["code"], "invalid_request");
    server.cli(&["session", "answer", &session, "2", "It is calm."]);
    let told = results(&server, id);
    assert!(
        told.len() == 1 && told[0].ends_with(" answered.\n- Colour: blue\n- Why: It is calm."),
        "{told:?}"
    );
    let ask = open["ask"].as_str().unwrap();
    let late = server.problem(&["session", "answer", &session, "--ask", ask, "red", "late"]);
    assert_eq!(late["code"], "ask_closed");

    server.cli(&["session", "prompt", &session, "touch", "--detach"]);
    let leave = asked(&server, &session);
    assert_eq!(leave["of"]["subjects"], json!(["touch leave.txt"]), "the command, not the line");
    server.cli(&["session", "answer", &session, "deny", "not", "yet"]);
    let denied = results(&server, id).pop().unwrap();
    assert!(denied.contains("denied this call. They said: not yet"), "{denied}");
    assert_eq!(server.exec(id, "ls leave.txt").exit_code, Some(2));

    server.cli(&["session", "prompt", &session, "touch", "--detach"]);
    asked(&server, &session);
    server.cli(&["session", "answer", &session, "always"]);
    server.settled(id);
    assert_eq!(server.exec(id, "ls leave.txt").output.trim(), "leave.txt");
    server.cli(&["session", "prompt", &session, "touch"]);
    assert_eq!(asks(&server, &session).len(), 0, "it is not asked again");

    server.cli(&["session", "prompt", &session, "remove"]);
    let refused = results(&server, id).pop().unwrap();
    assert!(refused.contains("deny `rm a.txt`"), "{refused}");
    assert_eq!(outcomes(&server.settled(id)), [const { TurnOutcome::Completed }; 5]);
}
