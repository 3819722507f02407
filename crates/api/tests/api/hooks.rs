//! The push hook's route: for callers who have no credentials but their signature.

use crate::fake::{app, error_of, request};
use axum::body::Body;
use greenroom_domain::ErrorCode;
use http::StatusCode;
use tower::ServiceExt;

fn call(signature: Option<&str>, body: impl Into<Body>) -> http::Request<Body> {
    let built = request("POST", "/api/v1/hooks/sample");
    let built = match signature {
        Some(signature) => built.header("x-hub-signature-256", signature),
        None => built,
    };
    built.body(body.into()).unwrap()
}

#[tokio::test]
async fn a_signed_call_is_taken_without_credentials_and_any_other_is_refused() {
    let app = app();
    assert_eq!(app.send(call(Some("sha256=good"), "{}")).await.status(), StatusCode::ACCEPTED);
    for refused in [call(None, "{}"), call(Some("sha256=bad"), "{}"), call(Some("sha256=good"), "[]")] {
        let (status, error) = error_of(app.send(refused).await).await;
        assert_eq!((status, error.code), (StatusCode::UNAUTHORIZED, ErrorCode::HookRefused));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_in_words() {
    let app = app();
    let body = vec![b' '; 4 * 1024 * 1024 + 1];
    let (status, error) = error_of(app.send(call(Some("sha256=good"), body)).await).await;
    assert_eq!((status, error.code), (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge));
    assert!(error.hint.unwrap().contains("schedule"));
}

#[tokio::test]
async fn only_so_many_calls_are_read_at_the_same_time() {
    let app = app();
    let (mut senders, mut calls) = (vec![], tokio::task::JoinSet::new());
    // Bodies that do not come hold their places.
    for _ in 0..17 {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
        senders.push(sender);
        let body = Body::from_stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context)));
        let answer = app.router.clone().oneshot(call(Some("sha256=good"), body));
        calls.spawn(async move { answer.await.unwrap().status() });
    }
    let first = calls.join_next().await.unwrap().unwrap();
    assert_eq!(first, StatusCode::TOO_MANY_REQUESTS);
    for sender in &senders {
        let _ = sender.send(Ok("{}".to_owned())).await;
    }
    drop(senders);
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::ACCEPTED);
    }
}
