//! A server that is told to stop: it takes nothing new, finishes or hands over what runs, tells its viewers everything
//! that is durable, and ends; and what it says about whether it can take work.

use crate::restart::descendants;
use crate::support::{Model, NO_STEPS, Server, assert_problem, command, outcomes, serve, until};
use futures::{SinkExt, StreamExt};
use greenroom_client::new_key;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Command, Event, SessionId};
use greenroom_model::testing::{Fault, Turn};
use greenroom_wire::{ClientFrame, Frame, PROTOCOL, Readiness};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

fn start(data: &Path, settings: &[(&str, &str)]) -> Server {
    let mut started = command(data);
    started.envs(settings.iter().map(|(name, value)| (format!("GREENROOM_{name}"), value)));
    Server::of_child(serve(started), data.to_owned())
}

fn get(server: &Server, path: &str) -> reqwest::Response {
    // Chooses the process's cryptography.
    let _ = server.client();
    let address = std::fs::read_to_string(server.data().join("run/address")).unwrap();
    server.wait(reqwest::get(format!("{address}{path}"))).unwrap()
}

fn readiness(server: &Server) -> (u16, Readiness) {
    let response = get(server, "/readyz");
    let status = response.status().as_u16();
    (status, server.wait(response.json()).unwrap())
}

/// The names of the checks that fail, each with a reason.
fn failing(server: &Server) -> Vec<String> {
    let (status, readiness) = readiness(server);
    assert_eq!((status == 200, readiness.is_ready), (readiness.is_ready, status == 200));
    let failing = readiness.checks.into_iter().filter(|check| !check.is_ok);
    failing
        .map(|check| {
            assert!(check.reason.is_some_and(|reason| reason.ends_with('.')));
            check.name
        })
        .collect()
}

fn post(server: &Server, path: &str, body: &Value) -> reqwest::Response {
    let run = |name: &str| std::fs::read_to_string(server.data().join("run").join(name)).unwrap();
    let request = reqwest::Client::new()
        .post(format!("{}/api/v1{path}", run("address")))
        .bearer_auth(run("local-token"))
        .header("idempotency-key", new_key().as_str())
        .json(body);
    server.wait(request.send()).unwrap()
}

fn assert_refused(server: &Server, path: &str, body: &Value) {
    let response = post(server, path, body);
    assert_eq!(response.status(), 503);
    let again: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let body: Value = server.wait(response.json()).unwrap();
    assert_problem(&body["error"], "shutting_down");
    assert_eq!(body["error"]["retry_after_s"], again);
}

/// Reads a session's WebSocket to its end: the entries' numbers, and the reason of the close.
fn socket_to_its_end(server: &Server, session: SessionId) -> JoinHandle<(Vec<u64>, u16, String)> {
    let run = |name: &str| std::fs::read_to_string(server.data().join("run").join(name)).unwrap();
    let (address, token) = (run("address"), run("local-token"));
    let host = address.trim_start_matches("http://").to_owned();
    let url = format!("ws://{host}/api/v1/sessions/{session}/socket");
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut socket = server.wait(async {
        let stream = TcpStream::connect(host).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.unwrap().0
    });
    let hello = ClientFrame::Hello {
        protocol: PROTOCOL,
        after_seq: 0,
        window: None,
        client: Default::default(),
        compression: None,
    };
    let hello = Message::text(serde_json::to_string(&hello).unwrap());
    server.wait(socket.send(hello)).unwrap();
    server.runtime().spawn(async move {
        let mut seqs = vec![];
        loop {
            match socket.next().await.expect("a close before the end").unwrap() {
                Message::Text(text) => {
                    if let Frame::Entry { entry } = serde_json::from_str(&text).unwrap() {
                        seqs.push(entry.seq);
                    }
                }
                Message::Close(Some(close)) => return (seqs, close.code.into(), close.reason.to_string()),
                _ => {}
            }
        }
    })
}

/// Reads a session's events to their end, as text.
fn events_to_their_end(server: &Server, session: SessionId) -> JoinHandle<String> {
    let run = |name: &str| std::fs::read_to_string(server.data().join("run").join(name)).unwrap();
    let url = format!("{}/api/v1/sessions/{session}/stream", run("address"));
    let request = reqwest::Client::new().get(url).bearer_auth(run("local-token"));
    let response = server.wait(request.send()).unwrap();
    server.runtime().spawn(async move { response.text().await.unwrap() })
}

fn prompt(text: &str) -> Command {
    Command::Prompt { text: text.to_owned(), delivery: Default::default(), attachments: vec![] }
}

#[test]
fn told_to_stop_it_finishes_the_turn_begins_nothing_new_and_tells_viewers_everything() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = start(&data, &[("DRAIN_SECONDS", "600")]);
    let may_answer = Arc::new(AtomicBool::new(false));
    let latch = Arc::clone(&may_answer);
    let model = Model::new(move |asked| {
        until("the model may answer", || latch.load(Ordering::Acquire).then_some(()));
        Turn::text(format!("answer to {}", asked.prompt))
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    assert!(failing(&server).is_empty());
    let session = server.ask("sample", "first");
    model.wait_for_requests(1);
    let waits = server.wait(server.client().submit(session, &new_key(), &prompt("second"))).unwrap();
    assert!(waits.problem.is_none());
    let (socket, events) = (socket_to_its_end(&server, session), events_to_their_end(&server, session));

    server.terminate();
    until("it says that it drains", || (failing(&server) == ["accepting"]).then_some(()));
    let health: Value = server.wait(get(&server, "/api/v1/health").json()).unwrap();
    assert_eq!(health["is_ready"], false);
    assert_eq!(get(&server, "/healthz").status(), 200);
    let body = serde_json::json!({ "repository": "sample", "prompt": "third" });
    assert_refused(&server, "/sessions", &body);
    let body = serde_json::json!({ "key": new_key(), "command": prompt("third") });
    assert_refused(&server, &format!("/sessions/{session}/commands"), &body);
    let body = serde_json::json!({ "command": "true" });
    assert_refused(&server, &format!("/sessions/{session}/exec"), &body);
    // Reading goes on.
    assert_eq!(server.session(session).queued_prompts, 1);

    may_answer.store(true, Ordering::Release);
    assert_eq!(server.ended().code(), Some(0));
    let (seqs, code, reason) = server.wait(socket).unwrap();
    assert_eq!((code, reason.as_str()), (1001, "the server is stopping"));
    let told = server.wait(events).unwrap();
    let last = told.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("event: resume"), "{last}");

    server.restart();
    let log = server.settled(session);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed, TurnOutcome::Completed]);
    assert!(!log.iter().any(|entry| matches!(entry.event, Event::TurnInterrupted { .. })), "{log:#?}");
    let first_end = log.iter().find(|entry| matches!(entry.event, Event::TurnFinished { .. })).unwrap().seq;
    // Both saw the whole log as it was when the server ended, and nothing twice.
    let head = *seqs.last().unwrap();
    assert!(head >= first_end);
    assert_eq!(seqs, (1..=head).collect::<Vec<_>>());
    assert!(last.contains(&format!("\"after_seq\":{head},\"reason\":\"stopping\"")), "{last}");
    let second = log.iter().find(|entry| entry.seq > head).unwrap();
    assert!(!matches!(second.event, Event::PromptAccepted { .. }));
    let started = log.iter().filter(|entry| matches!(entry.event, Event::TurnStarted { .. }));
    assert_eq!(started.filter(|entry| entry.seq <= head).count(), 1, "the second turn waited for the start");
}

#[test]
fn a_turn_that_outlasts_the_stop_goes_on_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = start(&data, &[("DRAIN_SECONDS", "1")]);
    let model = Model::new(|_| Turn::fault(Fault::SilenceBeforeHeaders));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "work");
    model.wait_for_requests(1);
    server.stop();
    model.server.respond_with(|_| Turn::text("done"));
    server.restart();
    assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Completed]);
}

#[test]
fn told_to_stop_twice_it_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = start(&data, &[("DRAIN_SECONDS", "600")]);
    let model = Model::new(|_| Turn::fault(Fault::SilenceBeforeHeaders));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "work");
    model.wait_for_requests(1);
    server.terminate();
    until("it drains", || (failing(&server) == ["accepting"]).then_some(()));
    server.terminate();
    assert_eq!(server.ended().code(), Some(143));
    model.server.respond_with(|_| Turn::text("done"));
    server.restart();
    assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Completed]);
}

#[test]
fn it_is_not_ready_without_room_or_a_data_directory_it_can_write_and_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = start(&data, &[("READY_FREE_MIB", "4000000000")]);
    assert_eq!(failing(&server), ["disk"]);
    assert_eq!(get(&server, "/healthz").status(), 200);
    let text = server.wait(get(&server, "/readyz").text()).unwrap();
    assert!(!text.contains(data.to_str().unwrap()) && !text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    server.stop();
    server.restart();

    until("all is well", || failing(&server).is_empty().then_some(()));
    let probe = data.join("run/ready");
    std::fs::remove_file(&probe).unwrap();
    std::fs::create_dir(&probe).unwrap();
    until("it finds that it cannot write", || (failing(&server) == ["directory"]).then_some(()));
    std::fs::remove_dir(&probe).unwrap();
    until("all is well", || failing(&server).is_empty().then_some(()));
}

#[test]
fn it_is_not_ready_while_nobody_makes_sandboxes_and_recovers() {
    let server = Server::start();
    until("all is well", || failing(&server).is_empty().then_some(()));
    // The zygote is a child of the server.
    let own = server.pid();
    let children = descendants(own).into_iter().filter(|pid| crate::restart::parent_of(*pid) == Some(own));
    for pid in children {
        let stopped = std::process::Command::new("kill").args(["-STOP", &pid.to_string()]).status();
        assert!(stopped.unwrap().success());
    }
    until("it finds that nobody answers", || (failing(&server) == ["sandboxes"]).then_some(()));
    // It is given up and replaced.
    until("all is well", || failing(&server).is_empty().then_some(()));
}
