//! What bad requests get: the shape of `ErrorBody`, a stable code, a sentence.

use crate::fake::{TestApp, app, by_token, error_of, request, server};
use axum::body::Body;
use greenroom_domain::ErrorCode;
use greenroom_wire::ErrorView;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SIGN_IN: &str = "/api/v1/sign-in";
const COMMANDS: &str = "/api/v1/sessions/ses_00000000010000000000000001/commands";

async fn sign_in(app: &TestApp, kind: &str, body: &str) -> (StatusCode, ErrorView) {
    let built = request("POST", SIGN_IN).header("content-type", kind);
    error_of(app.send(built.body(Body::from(body.to_owned())).unwrap()).await).await
}

#[tokio::test]
async fn bodies_that_are_not_what_the_route_takes_are_refused_with_the_reason() {
    let app = app();
    for (kind, body, reason) in [
        ("application/json", "", "EOF"),
        ("application/json", "{", "EOF"),
        ("application/json", r#"{"login":"ada"}"#, "missing field `password`"),
        ("application/json", r#"{"login":"ada","password":"x","admin":true}"#, "unknown field `admin`"),
        ("application/json", r#"{"login":"../ada","password":"x"}"#, "is not a valid login"),
        ("application/json", r#"{"login":"ada","password":"x"} {}"#, "trailing characters"),
        ("text/plain", r#"{"login":"ada","password":"x"}"#, "not declared as JSON"),
        ("application/jsonx", r#"{"login":"ada","password":"x"}"#, "not declared as JSON"),
    ] {
        let (status, error) = sign_in(&app, kind, body).await;
        assert_eq!((status, error.code), (StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest), "{body}");
        assert!(error.message.contains(reason), "{body}: {}", error.message);
    }
}

#[tokio::test]
async fn a_refusal_of_the_application_keeps_its_code() {
    let (status, error) = sign_in(&app(), "application/json", r#"{"login":"ada","password":"wrong"}"#).await;
    assert_eq!((status, error.code), (StatusCode::UNAUTHORIZED, ErrorCode::WrongCredentials));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let app = app();
    let (status, error) = sign_in(&app, "application/json", r#"{"login":"ada","password":"panic"}"#).await;
    assert_eq!((status, error.code), (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal));
    let again = app.send(request("GET", "/api/v1/health").body(Body::empty()).unwrap()).await;
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_named() {
    let app = app();
    for path in ["/api/v1/nothing", "/api", "/git/sample.git", "/api/v2/health"] {
        let response = app.send(by_token("GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        if path.starts_with("/api") {
            assert_eq!(error_of(response).await.1.code, ErrorCode::NotFound);
        }
    }
    let response = app.send(by_token("PUT", "/api/v1/people").body(Body::empty()).unwrap()).await;
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(error_of(response).await.1.code, ErrorCode::MethodNotAllowed);
    let response = app.send(request("POST", "/sessions").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn commands_to_the_queue_are_taken_in_their_exact_shape_only() {
    let app = app();
    let prompt = "pmt_00000000010000000000000001";
    let send = async |command: String| {
        let body = format!(r#"{{"key":"k","command":{command}}}"#);
        let built = by_token("POST", COMMANDS).header("content-type", "application/json");
        app.send(built.body(Body::from(body)).unwrap()).await
    };
    for command in [
        format!(r#"{{"type":"move_prompt","prompt":"{prompt}","before":"{prompt}"}}"#),
        format!(r#"{{"type":"move_prompt","prompt":"{prompt}"}}"#),
        format!(r#"{{"type":"set_delivery","prompt":"{prompt}","delivery":"insert"}}"#),
        r#"{"type":"stop","hold_queue":true}"#.to_owned(),
        r#"{"type":"release_queue"}"#.to_owned(),
        r#"{"type":"rename","title":"x"}"#.to_owned(),
    ] {
        assert_eq!(send(command.clone()).await.status(), StatusCode::OK, "{command}");
    }
    for command in [
        format!(r#"{{"type":"move_prompt","prompt":"{prompt}","before":"ses_00000000010000000000000001"}}"#),
        format!(r#"{{"type":"move_prompt","prompt":"{prompt}","after":"{prompt}"}}"#),
        format!(r#"{{"type":"set_delivery","prompt":"{prompt}","delivery":"soon"}}"#),
        r#"{"type":"stop","hold_queue":"yes"}"#.to_owned(),
        r#"{"type":"release_queue","prompt":"all"}"#.to_owned(),
        r#"{"type":"rename"}"#.to_owned(),
    ] {
        let (status, error) = error_of(send(command.clone()).await).await;
        assert_eq!((status, error.code), (StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest), "{command}");
    }
}

#[tokio::test]
async fn ids_and_queries_that_cannot_be_are_refused_with_the_reason() {
    let app = app();
    for (path, reason) in [
        ("/api/v1/sessions/7", "is not a session id"),
        ("/api/v1/sessions/per_00000000010000000000000001", "is not a session id"),
        ("/api/v1/repositories/..%2Fx", "is not a valid repository name"),
        ("/api/v1/sessions?limit=many", "invalid digit"),
        ("/api/v1/sessions?unknown=1", "unknown field `unknown`"),
    ] {
        let (status, error) =
            error_of(app.send(by_token("GET", path).body(Body::empty()).unwrap()).await).await;
        assert_eq!((status, error.code), (StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest), "{path}");
        assert!(error.message.contains(reason), "{path}: {}", error.message);
    }
}

#[tokio::test]
async fn creating_a_session_needs_an_idempotency_key() {
    let app = app();
    let with = |key: Option<&str>| {
        let built = by_token("POST", "/api/v1/sessions").header("content-type", "application/json");
        let built = match key {
            Some(key) => built.header("idempotency-key", key),
            None => built,
        };
        app.send(built.body(Body::from(r#"{"repository":"sample"}"#)).unwrap())
    };
    assert_eq!(error_of(with(None).await).await.1.code, ErrorCode::InvalidRequest);
    assert_eq!(error_of(with(Some("two words")).await).await.1.code, ErrorCode::InvalidRequest);
    assert_eq!(with(Some("k1")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_prompt_over_half_a_megabyte_is_too_large_and_one_below_is_taken() {
    let app = app();
    let prompt = |length: usize| {
        let text = "x".repeat(length);
        let body = format!(r#"{{"key":"k","command":{{"type":"prompt","text":"{text}"}}}}"#);
        let built = by_token("POST", COMMANDS).header("content-type", "application/json");
        app.send(built.body(Body::from(body)).unwrap())
    };
    assert_eq!(prompt(500 * 1024).await.status(), StatusCode::OK);
    let (status, error) = error_of(prompt(2 * 1024 * 1024).await).await;
    assert_eq!((status, error.code), (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge));
}

#[tokio::test]
async fn a_client_that_sends_two_megabytes_reads_the_answer_instead_of_a_reset() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = vec![b'x'; 2 * 1024 * 1024];
    let head = format!(
        "POST {COMMANDS} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer grt_good\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(r#""code":"too_large""#), "{answer}");
}

#[tokio::test]
async fn other_bodies_are_held_to_64_kib() {
    let long = format!(r#"{{"login":"ada","password":"{}"}}"#, "x".repeat(70 * 1024));
    let (status, error) = sign_in(&app(), "application/json", &long).await;
    assert_eq!((status, error.code), (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge));
}
