//! What goes wrong is said with a stable code, a sentence and a hint, and leaves nothing behind.

use crate::support::{
    BINARY, Model, NO_STEPS, PATIENCE, Server, assert_problem, bash, command, git, in_own_mounts, may_mount,
    outcomes, path_text, problem_of, repository, serve, session_body, until, write,
};
use futures::{SinkExt, StreamExt};
use greenroom_client::{Error, new_key};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Event, Problem};
use greenroom_model::testing::{Fault, Turn};
use greenroom_wire::SubmitCommand;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

fn value(problem: &Problem) -> Value {
    serde_json::to_value(problem).expect("JSON")
}

/// The problem that a client was answered.
#[track_caller]
fn refused<T>(answer: Result<T, Error>) -> Value {
    let Err(error) = answer else { panic!("it was not refused") };
    serde_json::to_value(error.into_view()).expect("JSON")
}

/// How the only turn of a new session failed.
fn failed_turn(server: &Server, prompt: &str) -> Value {
    let session = server.ask("sample", prompt);
    match outcomes(&server.settled(session)).as_slice() {
        [TurnOutcome::Failed { problem }] => value(problem),
        other => panic!("{other:?}"),
    }
}

fn sample(server: &Server) {
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
}

/// The end of a build that must fail: the last line of `repository add --wait` or `image build --follow`.
fn failed_build(server: &Server, arguments: &[&str]) -> (Value, String) {
    let output = command(server.data()).arg("--json").args(arguments).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(last["image"]["state"], "failed", "{last}");
    (last["image"].clone(), text)
}

#[test]
fn what_is_unknown_is_said_to_be() {
    let server = Server::start();
    sample(&server);
    assert_problem(&server.problem(&["run", "missing", "do it"]), "repository_unknown");
    assert_problem(&server.problem(&["image", "build", "missing"]), "repository_unknown");
    assert_problem(
        &server.problem(&["session", "show", "ses_01m7yg2q58b3nne1tqkyssye7j"]),
        "session_unknown",
    );
    assert_problem(&server.problem(&["change", "show", "sample#7"]), "change_unknown");
    assert_problem(&server.problem(&["run", "sample", "do it", "--model", "missing"]), "model_unknown");
    let nowhere = ["repository", "add", "gone", "/no/such/repository"];
    assert_problem(&server.problem(&nowhere), "clone_failed");
    assert_eq!(server.json(&["session", "list"]), json!([]));
    assert_eq!(server.json(&["repository", "list"]).as_array().map(Vec::len), Some(1));
    let mirrors = std::fs::read_dir(server.data().join("repositories")).unwrap().count();
    assert_eq!(mirrors, 1, "a mirror was left behind");
}

#[test]
fn without_a_model_a_prompt_ends_with_the_command_to_run() {
    let server = Server::start();
    sample(&server);
    let problem = failed_turn(&server, "do it");
    assert_problem(&problem, "model_not_configured");
    assert!(problem["hint"].as_str().unwrap().contains("greenroom model add"), "{problem}");
}

#[test]
fn a_model_that_refuses_the_key_or_does_not_answer_is_named() {
    let server = Server::start();
    sample(&server);
    let model = Model::new(|_| Turn::fault(Fault::key_refused()));
    server.use_model(&model);
    assert_problem(&failed_turn(&server, "do it"), "model_key_refused");
    assert_problem(&server.problem(&["model", "test", "test"]), "model_key_refused");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    server.use_model_at(&format!("http://{closed}"));
    assert_problem(&server.problem(&["model", "test", "test"]), "model_unreachable");
    // A turn is patient with a network that fails; it says what it waits for, and can be stopped.
    let session = server.ask("sample", "do it");
    let entry = server.entry(session, "the turn waits", |event| matches!(event, Event::ModelRetry { .. }));
    let Event::ModelRetry { problem, .. } = entry.event else { unreachable!() };
    assert_problem(&value(&problem), "model_unreachable");
    server.cli(&["session", "stop", &session.to_string()]);
    assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Stopped]);
}

#[test]
fn a_broken_recipe_or_a_failing_step_is_shown_and_the_good_image_stays() {
    let server = Server::start();
    let failing =
        "[[steps]]\nname = \"tools\"\nrun = \"echo the tool is missing; echo half > /opt/half; exit 3\"\n";
    let first = repository(&[(".greenroom/environment.toml", failing)]);
    let (image, said) =
        failed_build(&server, &["repository", "add", "failing", path_text(first.path()), "--wait"]);
    assert_problem(&image["problem"], "step_failed");
    assert!(image["problem"]["detail"].as_str().unwrap().contains("the tool is missing"), "{image}");
    assert!(said.contains("the tool is missing"), "the log does not show it:\n{said}");
    let log = command(server.data()).args(["image", "log", image["id"].as_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&log.stdout).contains("the tool is missing"));
    let left = until_no_file_named(server.data(), "half");
    assert!(left.is_none(), "the failed step left {left:?}");

    sample(&server);
    let good = server.json(&["image", "list", "sample"])[0]["id"].clone();
    let token = server.member("ann");
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["clone", "-q", &server.clone_url("ann", &token, "sample"), "here"]);
    let here = place.path().join("here");
    write(&here, ".greenroom/environment.toml", "[[steps]]\nname = \"tools\"\nrnu = \"true\"\n");
    git(&here, &["commit", "-q", "-a", "-m", "a recipe that cannot be read"]);
    git(&here, &["push", "-q", "origin", "main"]);
    let (image, _) = failed_build(&server, &["image", "build", "sample", "--follow"]);
    assert_problem(&image["problem"], "recipe_invalid");
    assert!(image["problem"]["message"].as_str().unwrap().contains("line 3"), "{image}");
    let listed = server.json(&["repository", "list"]);
    let kept = listed.as_array().unwrap().iter().find(|view| view["name"] == "sample").unwrap();
    assert_eq!((&kept["image"]["id"], &kept["build"]["state"]), (&good, &json!("failed")));
    let session = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(session, "cat a.txt").output, "a\n");
}

/// What of a failed step is still in a data directory, once the build is cleared away.
fn until_no_file_named(data: &Path, name: &str) -> Option<PathBuf> {
    let deadline = Instant::now() + PATIENCE / 6;
    loop {
        let found = files(data).into_iter().find(|path| path.file_name().is_some_and(|own| own == name));
        if found.is_none() || Instant::now() > deadline {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            _ => found.push(path),
        }
    }
    found
}

#[test]
fn a_prompt_of_two_megabytes_is_too_large() {
    let server = Server::start();
    sample(&server);
    let prompt = "x".repeat(2 * 1024 * 1024);
    assert_problem(&refused(server.create_session("sample", Some(&prompt))), "too_large");
    let session = server.create_session("sample", None).unwrap().id;
    let told =
        greenroom_domain::Command::Prompt { text: prompt, delivery: Default::default(), attachments: vec![] };
    assert_problem(&refused(server.wait(server.client().submit(session, &new_key(), &told))), "too_large");
    let text = "x".repeat(400 * 1024);
    let told = greenroom_domain::Command::Prompt { text, delivery: Default::default(), attachments: vec![] };
    let receipt = server.wait(server.client().submit(session, &new_key(), &told)).unwrap();
    assert_problem(&value(&receipt.problem.expect("a refusal")), "too_large");
    assert_eq!(server.json(&["session", "list"]).as_array().map(Vec::len), Some(1));
    assert_eq!(server.entries(session).len(), 1, "something was written");
}

#[test]
fn a_key_with_another_body_is_refused_and_with_the_same_body_answered_again() {
    let server = Server::start();
    sample(&server);
    let (client, key) = (server.client(), new_key());
    let first = server.wait(client.create_session(&key, &session_body("sample", None))).unwrap();
    let same = server.wait(client.create_session(&key, &session_body("sample", None))).unwrap();
    assert_eq!(first.id, same.id);
    let other = server.wait(client.create_session(&key, &session_body("sample", Some("other"))));
    assert_problem(&refused(other), "key_reused");

    let prompt = |text: &str| greenroom_domain::Command::Prompt {
        text: text.to_owned(),
        delivery: Default::default(),
        attachments: vec![],
    };
    let key = new_key();
    let receipt = server.wait(client.submit(first.id, &key, &prompt("one"))).unwrap();
    assert_eq!(server.wait(client.submit(first.id, &key, &prompt("one"))).unwrap(), receipt);
    assert_problem(&refused(server.wait(client.submit(first.id, &key, &prompt("two")))), "key_reused");
    let prompts = |entry: &&greenroom_domain::Entry| matches!(entry.event, Event::PromptAccepted { .. });
    assert_eq!(server.settled(first.id).iter().filter(prompts).count(), 1);
}

#[test]
fn a_malformed_frame_is_answered_and_the_socket_lives() {
    let server = Server::start();
    sample(&server);
    let session = server.create_session("sample", None).unwrap().id;
    let address = std::fs::read_to_string(server.data().join("run/address")).unwrap();
    let token = std::fs::read_to_string(server.data().join("run/local-token")).unwrap();
    let host = address.trim_start_matches("http://").to_owned();
    let mut request = format!("ws://{host}/api/v1/sessions/{session}/socket").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    server.wait(async {
        let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        for bad in [
            Message::text("{\"type\":\"hel"),
            Message::text("{\"type\":\"dance\"}"),
            Message::binary(vec![0u8; 4]),
        ] {
            socket.send(bad).await.unwrap();
            let frame = next_frame(&mut socket).await;
            assert_eq!(frame["type"], "error", "{frame}");
            assert_problem(&frame["problem"], "invalid_frame");
        }
        socket.send(Message::text(json!({ "type": "hello", "protocol": 1 }).to_string())).await.unwrap();
        assert_eq!(next_frame(&mut socket).await["type"], "hello");
        let body =
            SubmitCommand { key: new_key(), command: greenroom_domain::Command::Stop { hold_queue: false } };
        let mut frame = serde_json::to_value(&body).unwrap();
        frame["type"] = json!("command");
        socket.send(Message::text(frame.to_string())).await.unwrap();
        loop {
            let frame = next_frame(&mut socket).await;
            if frame["type"] == "receipt" {
                assert_eq!(frame["problem"]["code"], "not_running", "{frame}");
                return;
            }
        }
    });
}

async fn next_frame<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match socket.next().await.expect("the socket lives").expect("a frame") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Close(close) => panic!("closed: {close:?}"),
            _ => {}
        }
    }
}

/// A server that must not start.
fn not_started(command: &mut Command) -> Value {
    let output: Output = command.args(["--json", "serve"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    problem_of(&output)
}

#[test]
fn a_server_that_cannot_start_says_why_and_the_one_that_runs_is_not_disturbed() {
    let server = Server::start();
    let address = std::fs::read_to_string(server.data().join("run/address")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");

    let taken = address.trim_start_matches("http://");
    let problem = not_started(command(&data).env("GREENROOM_LISTEN", taken));
    assert_problem(&problem, "port_in_use");
    assert!(!data.join("greenroom.db").exists() && !data.join("run/address").exists(), "something was made");

    let problem = not_started(command(server.data()).env("GREENROOM_LISTEN", "127.0.0.1:0"));
    assert_problem(&problem, "data_in_use");
    assert_eq!(std::fs::read_to_string(server.data().join("run/address")).unwrap(), address);
    server.cli(&["session", "list"]);
}

#[test]
fn a_data_directory_on_an_overlay_is_refused() {
    if !may_mount() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    for name in ["data", "lower", "upper", "work"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let at = place.path().display();
    let mount = format!(
        "mount -t overlay overlay -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work {at}/data"
    );
    let problem = not_started(in_own_mounts(&data, &mount).env("GREENROOM_LISTEN", "127.0.0.1:0"));
    assert_problem(&problem, "data_on_overlay");
    assert!(problem["hint"].as_str().unwrap().contains("--data"), "{problem}");
    assert!(!place.path().join("upper/greenroom.db").exists(), "something was made");
}

#[test]
fn without_user_namespaces_the_server_says_how_to_get_them() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    // A user namespace of its own in which no other may be made: what a hardened kernel or a container does.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    let mut refusing = Command::new("unshare");
    refusing.args(["--user", "--map-root-user", "sh", "-c", script, BINARY]);
    refusing.env("GREENROOM_DATA", &data).env("GREENROOM_LISTEN", "127.0.0.1:0");
    let problem = not_started(&mut refusing);
    assert_problem(&problem, "sandbox_unsupported");
    assert!(!data.join("run/address").exists());
}

#[test]
fn a_full_disk_is_said_leaves_nothing_half_done_and_is_got_over() {
    if !may_mount() {
        return;
    }
    let (server, _place) = server_on_small_disk();
    let seen = server.data().to_owned();
    let model = Model::new(|_| Turn::text("done"));
    server.use_model(&model);
    sample(&server);
    let session = server.ask("sample", "one");
    let before = server.settled(session);
    assert_eq!(outcomes(&before), [TurnOutcome::Completed]);
    let sessions = || std::fs::read_dir(seen.join("sessions")).unwrap().count();
    let mirrors = || std::fs::read_dir(seen.join("repositories")).unwrap().count();
    let (sessions_before, mirrors_before) = (sessions(), mirrors());

    fill(&seen.join("filler"));
    let told = greenroom_domain::Command::Prompt {
        text: "y".repeat(100_000),
        delivery: Default::default(),
        attachments: vec![],
    };
    let refusal = server.wait(server.client().submit(session, &new_key(), &told));
    assert_problem(&refused(refusal), "disk_full");
    assert_problem(&refused(server.create_session("sample", Some("two"))), "disk_full");
    let other = repository(&[NO_STEPS, ("b.txt", &"b\n".repeat(40_000))]);
    let added = server.problem(&["repository", "add", "other", path_text(other.path())]);
    assert_problem(&added, "disk_full");
    // The turn's own copy may have been told since.
    let prompts = |log: &[greenroom_domain::Entry]| {
        log.iter()
            .filter(|entry| matches!(entry.event, greenroom_domain::Event::PromptAccepted { .. }))
            .count()
    };
    let after = server.entries(session);
    assert!(after.starts_with(&before) && prompts(&after) == prompts(&before), "{after:#?}");
    assert_eq!((sessions(), mirrors()), (sessions_before, mirrors_before), "something is half done");

    std::fs::remove_file(seen.join("filler")).unwrap();
    assert!(server.wait(server.client().submit(session, &new_key(), &told)).unwrap().problem.is_none());
    assert_eq!(outcomes(&server.settled(session)), [TurnOutcome::Completed, TurnOutcome::Completed]);
    server.cli(&["repository", "add", "other", path_text(other.path()), "--wait"]);
    let second = server.ask("other", "two");
    assert_eq!(outcomes(&server.settled(second)), [TurnOutcome::Completed]);
}

#[test]
fn a_turn_that_a_full_disk_cuts_off_ends_and_says_so_once_there_is_space() {
    if !may_mount() {
        return;
    }
    let (server, _place) = server_on_small_disk();
    let slow = "one two three four five ".repeat(400);
    let model = Model::new(move |asked| match asked.prompt.as_str() {
        "speak" => Turn::text(slow.clone()).with_pace(Duration::from_millis(10)),
        _ => Turn::text("done"),
    });
    server.use_model(&model);
    sample(&server);
    let session = server.ask("sample", "speak");
    server.entry(session, "text is in the log", |event| matches!(event, Event::BlockText { .. }));
    server.exec(session, "true");
    fill(&server.data().join("filler"));
    // The log has a little room left inside its file; then nothing more is written.
    let mut last = (0, Instant::now());
    until("the log stands still", || {
        let head = server.session(session).head_seq;
        if head != last.0 {
            last = (head, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    std::fs::remove_file(server.data().join("filler")).unwrap();
    let log = server.settled(session);
    let [TurnOutcome::Failed { problem }] = &outcomes(&log)[..] else { panic!("{log:#?}") };
    assert_problem(&value(problem), "disk_full");
    server.cli(&["session", "prompt", &session.to_string(), "again", "--detach"]);
    assert_eq!(outcomes(&server.settled(session)).last(), Some(&TurnOutcome::Completed));
}

/// A server whose data directory is a file system of 16 MiB.
fn server_on_small_disk() -> (Server, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mount = format!("mount -t tmpfs -o size=16m,mode=700 tmpfs {}", data.display());
    let child = serve(in_own_mounts(&data, &mount));
    // Seen from outside of the server's mount namespace.
    let seen = PathBuf::from(format!("/proc/{}/root{}", child.id(), data.display()));
    until("the file system is mounted", || seen.join("run").exists().then_some(()));
    (Server::of_child(child, seen), place)
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

#[test]
fn a_models_key_is_in_no_file_no_answer_and_no_sandbox() {
    // In two parts: every sandbox, and so the data directory, holds this source.
    const CANARY: &str = concat!("sk-canary", "-4c1f7e0b9a");
    let server = Server::start();
    sample(&server);
    let model = Model::new(|asked| match asked.step {
        0 => bash(
            "env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; grep -r canary /workspace /tmp /etc /root 2>/dev/null",
        ),
        _ => Turn::text("done"),
    });
    let url = model.server.url();
    let add = ["model", "add", "test", "--provider", "anthropic", "--model", "test", "--base-url", &url];
    let mut adding = command(server.data());
    adding.env("CANARY", CANARY).arg("--json").args(add).args(["--key-env", "CANARY", "--default"]);
    let output = adding.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let session = server.ask("sample", "look around");
    let log = server.settled(session);
    assert_eq!(outcomes(&log), [TurnOutcome::Completed]);
    let sent = &model.server.requests()[0].headers;
    assert_eq!(sent["x-api-key"], CANARY, "the key was not even used");

    let id = session.to_string();
    let mut answers = vec![String::from_utf8(output.stdout).unwrap(), serde_json::to_string(&log).unwrap()];
    for verb in
        [&["model", "list"][..], &["session", "show", &id], &["session", "diff", &id], &["person", "list"]]
    {
        answers.push(server.json(verb).to_string());
    }
    answers.push(server.exec(session, "env; cat /proc/1/environ").output);
    for answer in &answers {
        assert!(!answer.contains(CANARY), "{answer}");
    }
    let all = files(server.data());
    assert!(all.iter().any(|path| path.ends_with("vault.db")));
    for path in all {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let has_it = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!has_it, "{} holds the key", path.display());
    }
}
