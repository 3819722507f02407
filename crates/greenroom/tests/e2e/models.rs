//! Which model answers: chosen for a session and later, the next of a chain, and the small one beside.

use crate::support::{Model, NO_STEPS, Server, assert_problem, bash, both, command, outcomes, serve};
use greenroom_domain::Event;
use greenroom_domain::event::TurnOutcome;
use greenroom_model::testing::{Fault, Turn};
use serde_json::Value;
use std::path::Path;

fn start(data: &Path, settings: &[(&str, &str)]) -> Server {
    let mut started = command(data);
    started.envs(settings.iter().map(|(name, value)| (format!("GREENROOM_{name}"), value)));
    Server::of_child(serve(started), data.to_owned())
}

fn add(server: &Server, name: &str, model: &str, at: &Model, more: &[&str]) {
    let url = at.server.url();
    let what =
        ["model", "add", name, "--provider", "anthropic", "--model", model, "--base-url", &url, "--no-key"];
    server.cli(&[&what[..], more].concat());
}

fn bodies(model: &Model) -> Vec<Value> {
    model.server.requests().iter().map(greenroom_model::testing::Recorded::json).collect()
}

#[test]
fn a_sessions_model_and_effort_are_chosen_shown_and_changed_for_the_next_turn() {
    let server = Server::start();
    let model = Model::new(|_| Turn::default().and_thinking("I think", "c2lnbmVk").and_text("done"));
    add(&server, "main", "claude-opus-5-5", &model, &["--default"]);
    add(&server, "fast", "claude-haiku-5-5", &model, &[]);
    server.add_repository("sample", &[NO_STEPS]);
    let refused = server.problem(&["run", "sample", "go", "--model", "fast", "--effort", "minimal"]);
    assert_problem(&refused, "model_effort_unknown");

    let made = server.json(&["run", "sample", "go", "--model", "main", "--effort", "high", "--detach"]);
    let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let session = id.parse().unwrap();
    server.settled(session);
    assert!(server.cli(&["session", "show", &id]).contains("main, effort high"));
    assert_problem(&server.problem(&["session", "model", &id, "gone"]), "model_unknown");
    server.cli(&["session", "model", &id, "fast", "--effort", "low"]);
    server.cli(&["session", "prompt", &id, "again"]);
    // The effort alone leaves the model.
    server.cli(&["session", "model", &id, "--effort", "max"]);
    server.cli(&["session", "prompt", &id, "once more"]);
    let shown = server.json(&["session", "show", &id]);
    assert_eq!((shown["model"].as_str(), shown["effort"].as_str()), (Some("fast"), Some("max")));

    let bodies = bodies(&model);
    let asked: Vec<_> = bodies
        .iter()
        .map(|body| (body["model"].as_str().unwrap(), body["output_config"]["effort"].as_str().unwrap()))
        .collect();
    assert_eq!(
        asked,
        [("claude-opus-5-5", "high"), ("claude-haiku-5-5", "low"), ("claude-haiku-5-5", "max")]
    );
    // What the first one signed is not shown to the second; what the second signed comes back to it.
    assert!(!bodies[1].to_string().contains("c2lnbmVk"), "{}", bodies[1]);
    assert_eq!(bodies[2].to_string().matches("c2lnbmVk").count(), 1, "{}", bodies[2]);
    assert_eq!(outcomes(&server.settled(session)), vec![TurnOutcome::Completed; 3]);
}

#[test]
fn when_a_model_gives_out_the_next_of_the_chain_goes_on_and_people_see_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &[("MODELS_FALLBACK", "backup")]);
    let main = Model::new(|asked| match asked.step {
        0 => bash("echo once >> ran.txt"),
        _ => Turn::fault(Fault::status(403, "billing_error", "Your credit balance is too low")),
    });
    let backup = Model::new(|asked| match asked.step {
        1 => bash("cat ran.txt"),
        _ => Turn::text("done"),
    });
    add(&server, "main", "claude-opus-5-5", &main, &["--default"]);
    add(&server, "backup", "claude-sonnet-5-5", &backup, &[]);
    server.add_repository("sample", &[NO_STEPS]);
    let text = both(&command(server.data()).args(["run", "sample", "go"]).output().unwrap());
    assert!(text.contains("claude-sonnet-5-5 goes on instead of anthropic/claude-opus-5-5"), "{text}");
    let listed = server.json(&["session", "list"]);
    let session = listed[0]["id"].as_str().unwrap().parse().unwrap();
    let entries = server.settled(session);
    assert_eq!(outcomes(&entries), [TurnOutcome::Completed]);
    let fell = |entry: &&greenroom_domain::Entry| matches!(entry.event, Event::ModelFallback { .. });
    assert_eq!(entries.iter().filter(fell).count(), 1);
    assert_eq!(server.exec(session, "cat ran.txt").output.trim(), "once", "the call ran once");
}

#[test]
fn the_small_model_writes_titles_and_is_paid_for_by_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &[("MODELS_SMALL", "small")]);
    let main = Model::new(|_| Turn::text("done"));
    let small = Model::new(|_| Turn::text("\"Weigh the pears\""));
    add(&server, "main", "test", &main, &["--default"]);
    add(&server, "small", "claude-haiku-5-5", &small, &[]);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "please would you weigh all of the pears that we have");
    server.entry(
        session,
        "a title",
        |event| matches!(event, Event::TitleChanged { title, .. } if title == "Weigh the pears"),
    );
    let done = server.entry(session, "its cost", |event| matches!(event, Event::SmallJobDone { .. }));
    let Event::SmallJobDone { model, usage, .. } = done.event else { unreachable!() };
    assert_eq!((model.as_str(), usage.requests), ("anthropic/claude-haiku-5-5", 1));
    assert!(usage.cost_microusd > 0);
    server.settled(session);
    assert_eq!(server.session(session).title, "Weigh the pears");
    assert_eq!(server.session(session).usage.requests, 2);
    // A title that somebody gave stays.
    let body = greenroom_wire::CreateSession {
        title: Some("My own".into()),
        ..crate::support::session_body("sample", Some("go"))
    };
    let own = server.wait(server.client().create_session(&greenroom_client::new_key(), &body)).unwrap();
    server.settled(own.id);
    assert_eq!(server.session(own.id).title, "My own");
    assert_eq!(small.server.requests().len(), 1);
}

#[test]
fn a_catalog_of_the_installation_is_obeyed_and_a_broken_one_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let file = directory.path().join("models.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(
        "[[model]]\nprovider = \"ollama\"\nid = \"tiny\"\ncontext_window = 8000\ntools = false\nimages = false\n",
    );
    let server = start(&data, &[("MODELS_CATALOG", file.to_str().unwrap())]);
    server.cli(&["model", "add", "tiny", "--provider", "ollama", "--model", "tiny", "--no-key"]);
    let listed = server.json(&["model", "list"]);
    assert_eq!((&listed[0]["context_window"], &listed[0]["uses_tools"]), (&8000.into(), &false.into()));
    server.add_repository("sample", &[NO_STEPS]);
    assert_problem(&server.problem(&["run", "sample", "go", "--model", "tiny"]), "model_without_tools");
    drop(server);
    write("[[model]]\nprovider = \"ollama\"\nid = \"tiny\"\ncontext_window = 0\n");
    let output = command(&data)
        .args(["--json", "serve", "--listen", "127.0.0.1:0"])
        .env("GREENROOM_MODELS_CATALOG", &file)
        .output()
        .unwrap();
    assert_problem(&crate::support::problem_of(&output), "settings_invalid");
}
