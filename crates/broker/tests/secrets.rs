//! Secrets on their way out, over real TLS: the host gets them, the sandbox never.
#![allow(clippy::unwrap_used, reason = "tests say what went wrong by panicking")]

mod support;

use greenroom_broker::{
    AllowRule, DenyReason, Inject, Injection, InjectionTarget, SecretText, UpstreamProxy,
};
use std::sync::atomic::Ordering;
use support::tls::{Echo, echo};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRET: &str = "c4n4ry-5ecret-value";
const PLACEHOLDER: &str = "greenroom-placeholder-0011223344556677";
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// A world in which `api.corp` is the server and has a secret.
async fn world(how: Inject, extra: &'static str) -> (World, Echo) {
    let echo = echo(&["api.corp"], extra).await;
    let world = World::with(UpstreamProxy::default(), vec![echo.root.clone()]);
    world.name("api.corp", "127.0.0.1");
    world.allow(&[rule(&format!("api.corp:{}", echo.port)), rule(&format!("other.corp:{}", echo.port))]);
    world.inject(vec![injection(how, &format!("api.corp:{}", echo.port))]);
    (world, echo)
}

fn rule(text: &str) -> AllowRule {
    AllowRule::parse(text).unwrap().private()
}

fn injection(how: Inject, target: &str) -> Injection {
    let target = InjectionTarget::parse(target).unwrap();
    Injection::new("API_TOKEN", vec![target], how, PLACEHOLDER, SecretText::new(SECRET)).unwrap()
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.corp\r\n{more}Connection: close\r\n\r\n")
}

#[tokio::test]
async fn the_host_gets_the_secret_and_the_sandbox_sees_it_nowhere() {
    let (world, echo) = world(Inject::Bearer, "X-Base64: YzRuNHJ5LTVlY3JldC12YWx1ZQ==\r\n").await;
    let answer = world.ask_tls(echo.port, "api.corp", &get("/v1?a=b", "Range: bytes=5-9\r\n")).await;
    let seen = echo.seen.lock().unwrap().clone();
    assert!(seen.starts_with("GET /v1?a=b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_lowercase().contains(&format!("authorization: bearer {SECRET}")), "{seen}");
    assert!(seen.contains(&format!("api.corp:{}", echo.port)) && !seen.contains("bytes=5-9"), "{seen}");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(!answer.contains(SECRET) && !answer.contains("YzRuNHJ5LTVlY3JldC12YWx1ZQ"), "{answer}");
    assert_eq!(
        answer.matches(&"*".repeat(SECRET.len())).count(),
        3,
        "in both headers and the body: {answer}"
    );
}

#[tokio::test]
async fn a_kept_connection_is_kept_on_both_sides_and_asks_the_policy_each_time() {
    let (world, echo) = world(Inject::Bearer, "").await;
    let mut stream = world.tls(world.connect(echo.port), "api.corp").await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: api.corp\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") || answer.iter().filter(|b| **b == b'\n').count() < 8 {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    assert_eq!(echo.connections.load(Ordering::SeqCst), 1);
    world.inject(vec![]);
    stream.write_all(get("/", "").as_bytes()).await.unwrap();
    read_all(&mut stream).await;
    let seen = echo.seen.lock().unwrap().clone();
    assert_eq!((seen.matches("GET").count(), seen.matches(SECRET).count()), (4, 3), "{seen}");
}

#[tokio::test]
async fn a_placeholder_becomes_the_secret_in_headers() {
    let (world, echo) = world(Inject::Placeholder, "").await;
    let head = get("/", &format!("X-Api-Key: key={PLACEHOLDER}\r\n"));
    world.ask_tls(echo.port, "api.corp", &head).await;
    let seen = echo.seen.lock().unwrap().clone();
    assert!(seen.contains(&format!("key={SECRET}")) && !seen.contains(PLACEHOLDER), "{seen}");
}

#[tokio::test]
async fn a_request_inside_that_names_another_host_is_refused() {
    let (world, echo) = world(Inject::Bearer, "").await;
    let head = "GET / HTTP/1.1\r\nHost: other.corp\r\nConnection: close\r\n\r\n";
    let answer = world.ask_tls(echo.port, "api.corp", head).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(echo.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_secret_is_not_sent_to_another_name_port_or_in_plain_text() {
    let (world, echo) = world(Inject::Placeholder, "").await;
    world.name("other.corp", "127.0.0.1");
    // Another name: its TLS is not ended, so the client meets the server's own certificate.
    assert!(world.tls(world.connect(echo.port), "other.corp").await.is_err());
    // The same name on another port, in plain text.
    let (port, seen) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    world.policies.0.lock().unwrap().as_mut().unwrap().allow.push(rule(&format!("api.corp:{port}")));
    let head = format!(
        "GET http://api.corp:{port}/ HTTP/1.1\r\nHost: x\r\nX-Key: {PLACEHOLDER}\r\nConnection: close\r\n\r\n"
    );
    assert!(world.ask(3128, &head).await.starts_with("HTTP/1.1 200"));
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    assert!(seen.contains(PLACEHOLDER) && !seen.contains(SECRET), "{seen}");
}

#[tokio::test]
async fn a_tunnel_to_the_host_is_ended_too_and_may_not_name_another() {
    let (world, echo) = world(Inject::Bearer, "").await;
    let connect = format!("CONNECT api.corp:{} HTTP/1.1\r\n\r\n", echo.port);
    let tunnel = async || {
        let mut stream = world.connect(3128);
        stream.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"));
        stream
    };
    let mut stream = world.tls(tunnel().await, "api.corp").await.unwrap();
    stream.write_all(get("/", "").as_bytes()).await.unwrap();
    let answer = String::from_utf8_lossy(&read_all(&mut stream).await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(SECRET), "{answer}");
    assert!(echo.seen.lock().unwrap().contains(SECRET));
    assert!(world.tls(tunnel().await, "other.corp").await.is_err());
    assert_eq!(world.denials(), [("other.corp".to_owned(), echo.port, DenyReason::OtherName)]);
}

#[tokio::test]
async fn a_plain_address_stands_for_the_host() {
    let (world, echo) = world(Inject::Bearer, "").await;
    let head = "GET /v1/x HTTP/1.1\r\nHost: api-token.secret.greenroom.internal\r\nConnection: close\r\n\r\n";
    let answer = world.ask(80, head).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(SECRET), "{answer}");
    let seen = echo.seen.lock().unwrap().clone();
    assert!(seen.starts_with("GET /v1/x") && seen.contains(SECRET) && !seen.contains("internal"), "{seen}");
    let unknown = world.ask(80, &head.replace("api-token", "other")).await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_checked_is_not_passed_on() {
    let (world, echo) = world(Inject::Bearer, "Content-Encoding: gzip\r\n").await;
    let answer = world.ask_tls(echo.port, "api.corp", &get("/", "Accept-Encoding: gzip\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("compressed"), "{answer}");
    assert!(echo.seen.lock().unwrap().to_lowercase().contains("accept-encoding: identity"));
}

#[tokio::test]
async fn a_host_that_cannot_prove_its_name_gets_nothing() {
    let echo = echo(&["evil.org"], "").await;
    let world = World::with(UpstreamProxy::default(), vec![echo.root.clone()]);
    world.name("api.corp", "127.0.0.1");
    world.allow(&[rule(&format!("api.corp:{}", echo.port))]);
    world.inject(vec![injection(Inject::Bearer, &format!("api.corp:{}", echo.port))]);
    let answer = world.ask_tls(echo.port, "api.corp", &get("/", "")).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("TLS with api.corp"), "{answer}");
    assert!(echo.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_secrets_host_is_still_checked_against_rules_and_private_addresses() {
    let (world, echo) = world(Inject::Bearer, "").await;
    world.policies.0.lock().unwrap().as_mut().unwrap().allow = vec![];
    let mut stream = world.connect(echo.port);
    stream.write_all(&[22]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, ACCESS_DENIED);
    let public = AllowRule::parse(&format!("api.corp:{}", echo.port)).unwrap();
    world.policies.0.lock().unwrap().as_mut().unwrap().allow = vec![public];
    let answer = world.ask_tls(echo.port, "api.corp", &get("/", "")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not public"), "{answer}");
    assert!(echo.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_programs_work_with_the_installations_authority() {
    let (world, echo) = world(Inject::Basic { user: "ann".into() }, "").await;
    let near = world.listen(echo.port).await;
    let bundle = world.scratch.path().join("ca.pem");
    std::fs::write(&bundle, world.authority.certificate_pem()).unwrap();
    let url = format!("https://api.corp:{}/from-curl", echo.port);
    let to = format!("api.corp:{}:127.0.0.1:{}", echo.port, near.port());
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "60", "--noproxy", "*", "--connect-to", &to, &url])
        .env("CURL_CA_BUNDLE", &bundle)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("GET /from-curl"), "{said}");
    // ann:c4n4ry-5ecret-value
    let header = "YW5uOmM0bjRyeS01ZWNyZXQtdmFsdWU=";
    assert!(echo.seen.lock().unwrap().contains(header) && !said.contains(header), "{said}");
}
