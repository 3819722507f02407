//! How much one person and one address may ask for: rates, back-off where sign-ins fail, quotas; each refusal with its
//! code, a sentence, a hint, and when it is worth asking again.

use crate::support::{Model, NO_STEPS, Server, assert_problem, command, outcomes, serve, session_body};
use greenroom_client::{Error, new_key};
use greenroom_domain::{Command, ErrorCode};
use greenroom_model::testing::Turn;
use greenroom_wire::SignIn;
use reqwest::Response;
use serde_json::{Value, json};
use std::path::Path;

fn start(data: &Path, settings: &[(&str, &str)]) -> Server {
    let mut started = command(data);
    started.envs(settings.iter().map(|(name, value)| (format!("GREENROOM_{name}"), value)));
    Server::of_child(serve(started), data.to_owned())
}

fn address(server: &Server) -> String {
    // Chooses the process's cryptography.
    let _ = server.client();
    std::fs::read_to_string(server.data().join("run/address")).unwrap()
}

fn assert_wait(server: &Server, response: Response, code: &str) {
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    let body: Value = server.wait(response.json()).unwrap();
    assert_problem(&body["error"], code);
    assert_eq!(body["error"]["retry_after_s"], seconds);
}

/// Asks until it is refused.
fn flood(server: &Server, ask: impl Fn() -> reqwest::RequestBuilder) -> (usize, Response) {
    for count in 0..2000 {
        let response = server.wait(ask().send()).unwrap();
        if response.status() == 429 {
            return (count, response);
        }
    }
    panic!("nothing was refused");
}

#[test]
fn a_person_who_asks_too_often_waits_and_others_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &[("RATE_PERSON_PER_MINUTE", "400")]);
    let (ann, bob) = (server.member("ann"), server.member("bob"));
    let url = format!("{}/api/v1/me", address(&server));
    let http = reqwest::Client::new();
    let (count, refused) = flood(&server, || http.get(&url).bearer_auth(&ann));
    assert!(count >= 100, "a quarter of a minute's requests may come at once: {count}");
    assert_wait(&server, refused, "too_many_requests");
    assert_eq!(server.wait(http.get(&url).bearer_auth(&bob).send()).unwrap().status(), 200);
    // Whoever looks after the server is not refused, and neither is the page.
    assert_eq!(server.wait(http.get(url.replace("/api/v1/me", "/readyz")).send()).unwrap().status(), 200);
}

#[test]
fn only_a_trusted_proxy_says_for_which_address_it_asks() {
    let directory = tempfile::tempdir().unwrap();
    // Fifteen at once, then one each second.
    let settings = [("RATE_ADDRESS_PER_MINUTE", "60"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let server = start(&directory.path().join("data"), &settings);
    let url = format!("{}/api/v1/openapi.json", address(&server));
    let http = reqwest::Client::new();
    let from = |address: &str| http.get(&url).header("x-forwarded-for", address.to_owned());
    let (_, refused) = flood(&server, || from("203.0.113.9"));
    assert_wait(&server, refused, "too_many_requests");
    assert_eq!(server.wait(from("203.0.113.10").send()).unwrap().status(), 200);
    // A client cannot write itself another address: that of the proxy's word has next to nothing left.
    let (count, _) = flood(&server, || from("203.0.113.11, 203.0.113.9"));
    assert!(count < 10, "{count} were let through");
}

#[test]
fn failed_sign_ins_cost_time_whether_or_not_the_login_exists() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &[]);
    server.member("ann");
    let url = format!("{}/api/v1/sign-in", address(&server));
    let http = reqwest::Client::new();
    let attempt = |login: &str| {
        let body = SignIn { login: login.parse().unwrap(), password: "not the password".to_owned() };
        http.post(&url).json(&body).send()
    };
    let mut texts = vec![];
    for login in ["ann", "nobody"] {
        // At once: none of them is known to have failed when the next one comes.
        let answers = server.wait(futures::future::join_all((0..12).map(|_| attempt(login))));
        let (refused, failed): (Vec<_>, Vec<_>) =
            answers.into_iter().map(Result::unwrap).partition(|answer| answer.status() == 429);
        assert_eq!(failed.len(), 6, "{login}: five are free, and one begins the waiting");
        for answer in refused {
            assert_wait(&server, answer, "too_many_requests");
        }
        let failed = failed.into_iter().next().unwrap();
        assert_eq!(failed.status(), 401);
        let body: Value = server.wait(failed.json()).unwrap();
        texts.push((body["error"]["code"].clone(), body["error"]["message"].clone()));
    }
    assert_eq!(texts[0], texts[1]);
    // The address as a whole has a little more patience.
    assert_eq!(server.wait(attempt("bob")).unwrap().status(), 401);
}

fn refusal(error: &Error) -> Value {
    let Error::Problem(view) = error else { panic!("{error}") };
    serde_json::to_value(view).unwrap()
}

#[test]
fn a_reached_quota_says_what_how_much_and_when_it_is_free_again() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("done"));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let token = server.member("ann");
    let ann = server.client_as(&token);
    server.cli(&["quota", "set", "--person", "ann", "--prompts-per-day", "2", "--sessions", "2"]);
    let (key, body) = (new_key(), session_body("sample", Some("first")));
    let session = server.wait(ann.create_session(&key, &body)).unwrap().id;
    // A repetition is no other prompt.
    assert_eq!(server.wait(ann.create_session(&key, &body)).unwrap().id, session);
    server.settled(session);
    let prompt = |text: &str| Command::Prompt {
        text: text.to_owned(),
        delivery: Default::default(),
        attachments: vec![],
    };
    let second = new_key();
    assert!(server.wait(ann.submit(session, &second, &prompt("second"))).unwrap().problem.is_none());
    assert!(server.wait(ann.submit(session, &second, &prompt("second"))).unwrap().problem.is_none());
    server.settled(session);
    let refused = refusal(&server.wait(ann.submit(session, &new_key(), &prompt("third"))).unwrap_err());
    assert_problem(&refused, "person_quota_reached");
    assert_eq!(refused["message"], "You sent 2 prompts today, and may send 2 a day.");
    assert!(refused["retry_after_s"].as_u64().unwrap() <= 86_400);
    assert_eq!(outcomes(&server.settled(session)).len(), 2);

    server.wait(ann.create_session(&new_key(), &session_body("sample", None))).unwrap();
    let third = server.wait(ann.create_session(&new_key(), &session_body("sample", None))).unwrap_err();
    assert_problem(&refusal(&third), "person_quota_reached");
    assert_eq!(refusal(&third)["message"], "You have 2 open sessions, and may have 2.");
    server.wait(ann.delete_session(session)).unwrap();
    server.wait(ann.create_session(&new_key(), &session_body("sample", None))).unwrap();

    let usage = server.json_as(&token, &["quota", "show"]);
    let of = |kind: &str| {
        usage["used"].as_array().unwrap().iter().find(|used| used["kind"] == kind).unwrap().clone()
    };
    assert_eq!((&of("prompts_per_day")["used"], &of("prompts_per_day")["limit"]), (&json!(2), &json!(2)));
    assert_eq!(of("sessions")["used"], 2);
    assert_eq!(of("cost_per_day")["limit"], Value::Null);
    // Nobody else is concerned, and a member sees their own only.
    server.create_session("sample", Some("by the admin")).unwrap();
    assert!(!server.cli_as(&token, &["quota", "show", "root"]).status.success());
    let set = server.wait(ann.set_quotas(None, &Default::default())).unwrap_err();
    assert_eq!(set.code(), ErrorCode::NotAllowed);
    server.cli(&["quota", "set", "--person", "ann", "--prompts-per-day", "default"]);
    let more = server.wait(ann.create_session(&new_key(), &session_body("sample", None))).unwrap_err();
    assert_eq!(more.code(), ErrorCode::PersonQuotaReached, "the other one stays");
}

#[test]
fn attached_files_and_sandboxes_count_for_their_person() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("done"));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let ann = server.client_as(&server.member("ann"));
    server.cli(&["quota", "set", "--stored-mib", "0.001", "--sandboxes", "1"]);
    let place = tempfile::tempdir().unwrap();
    let attach = |name: &str, bytes: usize| {
        let path = place.path().join(name);
        std::fs::write(&path, name.chars().cycle().take(bytes).collect::<String>()).unwrap();
        let file = std::fs::File::open(&path).unwrap().into();
        server.wait(ann.attach(None, name, file, bytes as u64))
    };
    attach("small.txt", 500).unwrap();
    let large = attach("large.txt", 900).unwrap_err();
    assert_problem(&refusal(&large), "person_quota_reached");

    // One sandbox: that of the session which nobody uses is ended for the next.
    for _ in 0..2 {
        let session =
            server.wait(ann.create_session(&new_key(), &session_body("sample", Some("go")))).unwrap();
        server.settled(session.id);
        let body = greenroom_wire::Exec { command: "true".to_owned(), timeout_ms: None };
        assert_eq!(server.wait(ann.exec(session.id, &body)).unwrap().exit_code, Some(0));
    }
    let usage = server.json(&["quota", "show", "ann"]);
    let sandboxes =
        usage["used"].as_array().unwrap().iter().find(|used| used["kind"] == "sandboxes").unwrap();
    assert_eq!(sandboxes["used"], 1, "{usage}");
}

#[test]
fn what_turns_cost_counts_for_their_author_and_no_further_one_begins_when_it_is_spent() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("done"));
    // One whose price is known.
    let named = ["model", "add", "priced", "--provider", "anthropic", "--model", "claude-haiku-5-5"];
    server.cli(&[&named[..], &["--base-url", &model.server.url(), "--no-key", "--default"]].concat());
    server.add_repository("sample", &[NO_STEPS]);
    server.cli(&["quota", "set", "--usd-per-day", "0.000001"]);
    let session = server.ask("sample", "first");
    server.settled(session);
    let spent = || {
        let usage = server.json(&["quota", "show"]);
        let used =
            usage["used"].as_array().unwrap().iter().find(|used| used["kind"] == "cost_per_day").unwrap();
        used["used"].as_u64().unwrap()
    };
    crate::support::until("it is counted", || (spent() > 1).then_some(()));
    let refused = server.create_session("sample", Some("second")).unwrap_err();
    assert_problem(&refusal(&refused), "person_quota_reached");
    assert!(refusal(&refused)["hint"].as_str().unwrap().contains("It begins anew in"));
    server.cli(&["quota", "set", "--usd-per-day", "default"]);
    server.create_session("sample", Some("second")).unwrap();
}
