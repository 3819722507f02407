//! Git's smart HTTP, with the bytes that git sends.

use crate::fake::{app, body_of, request};
use async_compression::tokio::write::GzipEncoder;
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use tokio::io::AsyncWriteExt;

fn by_git(method: &str, path: &str) -> http::request::Builder {
    request(method, path).header("authorization", format!("Basic {}", BASE64_STANDARD.encode("ada:grt_good")))
}

#[tokio::test]
async fn git_is_asked_for_a_token_and_told_how_to_get_one() {
    let app = app();
    for path in ["/git/sample.git/info/refs?service=git-upload-pack", "/git/sample/info/refs"] {
        let response = app.send(request("GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        let words = String::from_utf8(body_of(response).await).unwrap();
        assert!(words.contains("greenroom token create"), "{words}");
    }
}

#[tokio::test]
async fn a_cookie_does_not_speak_for_git() {
    let path = "/git/sample.git/info/refs?service=git-upload-pack";
    let built = request("GET", path).header("cookie", crate::fake::COOKIE);
    assert_eq!(app().send(built.body(Body::empty()).unwrap()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn references_are_advertised_with_the_protocol_that_git_asked_for() {
    let app = app();
    let path = "/git/sample.git/info/refs?service=git-upload-pack";
    let asked = by_git("GET", path).header("git-protocol", "version=2").body(Body::empty()).unwrap();
    let response = app.send(asked).await;
    assert_eq!(response.headers()["content-type"], "application/x-git-upload-pack-advertisement");
    assert_eq!(body_of(response).await, b"refs of sample, version=2");
    let dumb = by_git("GET", "/git/sample.git/info/refs").body(Body::empty()).unwrap();
    assert_eq!(app.send(dumb).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_exchange_is_streamed_both_ways_plain_and_gzipped() {
    let app = app();
    let sent = b"0032want something ".repeat(50_000);
    let mut encoder = GzipEncoder::new(vec![]);
    encoder.write_all(&sent).await.unwrap();
    encoder.shutdown().await.unwrap();
    for (encoding, body) in [("identity", sent.clone()), ("gzip", encoder.into_inner())] {
        let built = by_git("POST", "/git/sample.git/git-upload-pack").header("content-encoding", encoding);
        let response = app.send(built.body(Body::from(body)).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "application/x-git-upload-pack-result");
        assert!(body_of(response).await == sent, "{encoding}");
    }
}

#[tokio::test]
async fn what_a_gzipped_request_may_become_is_bounded() {
    let app = app();
    let mut encoder = GzipEncoder::new(vec![]);
    for _ in 0..65 {
        encoder.write_all(&vec![0; 1024 * 1024]).await.unwrap();
    }
    encoder.shutdown().await.unwrap();
    let built = by_git("POST", "/git/sample.git/git-upload-pack").header("content-encoding", "gzip");
    let answered = body_of(app.send(built.body(Body::from(encoder.into_inner())).unwrap()).await).await;
    assert_eq!(answered.len(), 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_refusal_before_the_first_byte_is_said_in_words() {
    let built = by_git("POST", "/git/locked.git/git-receive-pack").body(Body::empty()).unwrap();
    let response = app().send(built).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(body_of(response).await, b"The fake says no.\n");
}
