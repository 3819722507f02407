//! What an installation says about itself: metrics that move, a trace for each turn, a timeline for every turn's start.

use crate::open_metrics::Exposition;
use crate::support::{Model, NO_STEPS, Server, bash, command, serve, until};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::trace::{SpanKind, SpanStatus, TurnTrace};
use greenroom_domain::{Entry, Event, SessionId};
use greenroom_model::testing::{Fault, Turn};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers a prompt with one command and then with words.
fn model() -> Model {
    Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        ("fail", _) => Turn::fault(Fault::key_refused()),
        (_, 0) => bash("echo done"),
        _ => Turn::text("It is done."),
    })
}

fn start(data: &std::path::Path, flags: &[&str]) -> Server {
    let mut started = command(data);
    started.env("RUST_LOG", "warn");
    let flags: Vec<(String, String)> =
        flags.chunks(2).map(|pair| (format!("GREENROOM_{}", pair[0]), pair[1].to_owned())).collect();
    started.envs(flags);
    Server::of_child(serve(started), data.to_owned())
}

fn scrape(server: &Server, path: &str, token: Option<&str>) -> String {
    let address = std::fs::read_to_string(server.data().join(path)).unwrap();
    let request = reqwest::Client::new().get(format!("{address}/metrics"));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    server.wait(async { request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap() })
}

fn timelines(entries: &[Entry]) -> (usize, usize) {
    let count = |is_it: fn(&Event) -> bool| entries.iter().filter(|entry| is_it(&entry.event)).count();
    (
        count(|event| matches!(event, Event::TurnFinished { .. })),
        count(|event| matches!(event, Event::StartTimeline { .. })),
    )
}

fn traces(server: &Server, session: SessionId) -> Vec<TurnTrace> {
    serde_json::from_value(server.json(&["session", "trace", &session.to_string()])).unwrap()
}

#[test]
fn metrics_move_when_things_happen() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &["METRICS_LISTEN", "127.0.0.1:0"]);
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let token = std::fs::read_to_string(server.data().join("run/local-token")).unwrap();
    let read = || Exposition::parse(&scrape(&server, "run/metrics-address", None));
    let before = read();
    assert_eq!(before.value("greenroom_prompts_total", &[]), 0.0);
    assert!(before.value("greenroom_image_build_seconds_count", &[("outcome", "good")]) >= 1.0);

    let session = server.ask("sample", "go");
    server.settled(session);
    let problem = server.create_session("unknown", Some("go")).unwrap_err();
    assert_eq!(problem.code().as_str(), "repository_unknown");
    let command = greenroom_domain::Command::Stop { hold_queue: false };
    let refused =
        server.wait(server.client().submit(session, &greenroom_client::new_key(), &command)).unwrap();
    assert_eq!(refused.problem.unwrap().code.as_str(), "not_running");

    let after = Exposition::parse(&scrape(&server, "run/address", Some(&token)));
    let one = |name: &str, labels: &[(&str, &str)]| {
        assert_eq!(after.value(name, labels), 1.0, "{name} {labels:?}: {after:?}");
    };
    one("greenroom_prompts_total", &[]);
    one("greenroom_turn_seconds_count", &[("outcome", "completed")]);
    one("greenroom_tool_seconds_count", &[("tool", "bash"), ("outcome", "succeeded")]);
    one("greenroom_refusals_total", &[("code", "repository_unknown")]);
    one("greenroom_commands_refused_total", &[("code", "not_running")]);
    one("greenroom_start_stage_seconds_count", &[("stage", "model_called")]);
    one("greenroom_start_stage_seconds_count", &[("stage", "first_token")]);
    one("greenroom_sessions", &[("status", "idle")]);
    assert_eq!(after.value("greenroom_model_requests_total", &[("model", "anthropic/test")]), 2.0);
    assert!(after.value("greenroom_model_tokens_total", &[("model", "anthropic/test")]) > 0.0);
    assert!(after.value("greenroom_commit_seconds_count", &[]) >= 2.0);
    assert!(after.value("greenroom_sandboxes", &[]) >= 1.0);
    assert!(after.value("greenroom_disk_bytes", &[("kind", "total")]) > 0.0);
    let route = [("route", "/api/v1/sessions/{id}/commands"), ("status", "200")];
    assert!(after.value("greenroom_http_request_seconds_count", &route) >= 1.0);
    assert!(after.has("greenroom_pool_entries"), "{after:?}");
}

#[test]
fn every_turn_tells_its_start_and_the_waterfall_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = start(&directory.path().join("data"), &[]);
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "first");
    server.settled(session);
    let id = session.to_string();
    server.cli(&["session", "prompt", &id, "a follow-up", "--detach"]);
    server.settled(session);
    server.stop();
    server.restart();
    server.cli(&["session", "prompt", &id, "after a restart", "--detach"]);
    server.settled(session);
    server.cli(&["session", "prompt", &id, "fail", "--detach"]);
    let entries = server.settled(session);
    assert_eq!(timelines(&entries), (4, 4));

    let turns = traces(&server, session);
    assert_eq!(turns.iter().map(|turn| turn.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for turn in &turns {
        assert!(turn.request.is_some(), "{turn:?}");
        assert!(turn.spans.iter().any(|span| span.name == "committed"), "{turn:?}");
        let model = turn.spans.iter().find(|span| span.kind == SpanKind::Model).unwrap();
        assert!(model.duration_us.is_some(), "{turn:?}");
    }
    assert!(matches!(turns[3].outcome, Some(TurnOutcome::Failed { .. })));
    let failed = turns[3].spans.iter().find(|span| span.kind == SpanKind::Model).unwrap();
    assert_eq!(failed.status, SpanStatus::Failed);
    let text = server.cli(&["session", "trace", &id, "--turn", "2"]);
    assert!(text.starts_with("Turn 2  completed") && text.contains("bash"), "{text}");
    let problem = server.problem(&["session", "trace", &id, "--turn", "9"]);
    crate::support::assert_problem(&problem, "turn_unknown");
}

/// An OTLP receiver for HTTP: keeps the spans that it is sent.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || while receive(&stream, &kept).is_some() {});
            }
        });
        Self { address, spans }
    }

    fn attribute(span: &Span, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            Value::IntValue(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// One request of a kept connection; `None` at its end.
fn receive(mut stream: &TcpStream, spans: &Mutex<Vec<Span>>) -> Option<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let sent = request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
    spans.lock().unwrap().extend(sent);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        .ok()
}

#[test]
fn a_turn_reaches_the_collector_as_one_trace() {
    let collector = Collector::start();
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &["OTLP_ENDPOINT", &collector.address]);
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "go");
    server.settled(session);
    let spans = until("the turn's spans", || {
        let spans = collector.spans.lock().unwrap().clone();
        (!spans.is_empty()).then_some(spans)
    });
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let [root] = roots[..] else { panic!("{roots:?}") };
    assert_eq!(root.name, "turn");
    assert_eq!(Collector::attribute(root, "greenroom.session"), Some(session.to_string()));
    let request = Collector::attribute(root, "greenroom.request").expect("the prompt's request");
    assert!(request.starts_with("req_"), "{request}");
    for span in &spans {
        assert_eq!(span.trace_id, root.trace_id);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        let is_part = span.parent_span_id == root.span_id;
        assert!(is_part || span.span_id == root.span_id, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
    }
    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    for stage in ["queued", "committed", "model_called", "first_token", "claimed", "synced"] {
        assert_eq!(of(stage).len(), 1, "{stage}: {spans:?}");
    }
    assert_eq!((of("chat anthropic/test").len(), of("execute_tool bash").len()), (2, 1));
    let (asked, ran) = (of("chat anthropic/test")[0], of("execute_tool bash")[0]);
    assert!(asked.start_time_unix_nano < ran.end_time_unix_nano);
}

#[test]
fn a_collector_that_is_away_delays_nothing() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{gone}");
    let flags = ["OTLP_ENDPOINT", &endpoint, "METRICS_LISTEN", "127.0.0.1:0"];
    let mut server = start(&directory.path().join("data"), &flags);
    let model = model();
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "go");
    server.settled(session);
    until("the turn is given up", || {
        let metrics = Exposition::parse(&scrape(&server, "run/metrics-address", None));
        (metrics.value("greenroom_traces_total", &[("outcome", "failed")]) == 1.0).then_some(())
    });
    server.stop();
}
