//! The embedded page, built or not.

use crate::fake::{app, body_of, by_token, request};
use axum::body::Body;
use http::StatusCode;

#[tokio::test]
async fn every_page_address_answers_a_page_and_files_that_are_missing_do_not() {
    let app = app();
    for page in ["/", "/sessions/ses_1", "/changes/chg_1", "/sign-in/link?token=x", "/index.html"] {
        let response = app.send(request("GET", page).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{page}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{page}");
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(body_of(response).await.starts_with(b"<!doctype html>"), "{page}");
    }
    for missing in ["/assets/gone.js", "/favicon.ico", "/assets/gone"] {
        let response = app.send(request("GET", missing).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test]
async fn every_answer_carries_a_request_id_and_the_security_headers() {
    let app = app();
    for path in ["/", "/api/v1/me", "/api/v1/nothing", "/git/sample.git/info/refs"] {
        let response = app.send(by_token("GET", path).body(Body::empty()).unwrap()).await;
        let headers = response.headers();
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert!(headers.contains_key("content-security-policy"), "{path}");
        if path.starts_with("/api") {
            assert_eq!(headers["cache-control"], "no-store", "{path}");
        }
    }
}

/// Only where the page was built: a known page is not sent again.
#[tokio::test]
async fn a_known_page_is_not_sent_again() {
    let app = app();
    let first =
        app.send(request("GET", "/").header("accept-encoding", "br").body(Body::empty()).unwrap()).await;
    let Some(etag) = first.headers().get("etag").cloned() else { return };
    assert_eq!(first.headers()["cache-control"], "no-cache");
    let again = request("GET", "/").header("accept-encoding", "br").header("if-none-match", etag);
    let again = app.send(again.body(Body::empty()).unwrap()).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(body_of(again).await.is_empty());
}
