//! Files by HTTP: what an upload answers, and that no file is a page of ours.

use crate::fake::{PAGE, app, body_of, by_token, error_of, session_id};
use axum::body::Body;
use greenroom_domain::{Attachment, ErrorCode};
use http::StatusCode;

#[tokio::test]
async fn an_upload_answers_the_file_under_a_bare_name() {
    let app = app();
    for path in ["/api/v1/attachments".to_owned(), format!("/api/v1/sessions/{}/attachments", session_id())] {
        let asked = by_token("POST", &format!("{path}?name=..%2F..%2Fnotes.md"));
        let response = app.send(asked.body(Body::from("hello")).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let file: Attachment = serde_json::from_slice(&body_of(response).await).unwrap();
        assert_eq!((file.name.as_str(), file.bytes), ("notes.md", 5));
    }
}

#[tokio::test]
async fn a_refused_upload_says_why() {
    let app = app();
    let asked = by_token("POST", "/api/v1/attachments");
    let (status, error) = error_of(app.send(asked.body(Body::from("too much")).unwrap()).await).await;
    assert_eq!((status, error.code), (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::QuotaReached));
}

#[tokio::test]
async fn a_file_never_runs_as_a_page() {
    let app = app();
    for (digest, kind, disposition) in
        [("1", "image/png", "inline"), ("2", "text/plain; charset=utf-8", "attachment")]
    {
        let path = format!("/api/v1/sessions/{}/blobs/{}?name=x.html", session_id(), digest.repeat(64));
        let response = app.send(by_token("GET", &path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), kind);
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(header("content-disposition").starts_with(disposition));
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(header("content-length"), PAGE.len().to_string());
        assert_eq!(body_of(response).await, PAGE.as_bytes());
    }
}

#[tokio::test]
async fn a_browser_keeps_a_file_and_asks_each_time_whether_it_may_show_it() {
    let app = app();
    let path = format!("/api/v1/sessions/{}/blobs/{}", session_id(), "1".repeat(64));
    let response = app.send(by_token("GET", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    let again = async |known: &str| {
        app.send(by_token("GET", &path).header("if-none-match", known).body(Body::empty()).unwrap()).await
    };
    for known in [etag.clone(), format!("\"other\", W/{etag}")] {
        let response = again(&known).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(response.headers()["etag"], etag);
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
        assert!(body_of(response).await.is_empty());
    }
    assert_eq!(again("\"other\"").await.status(), StatusCode::OK);
    app.fake.shut_the_session();
    assert_eq!(error_of(again(&etag).await).await.1.code, ErrorCode::NotAllowed);
}

#[tokio::test]
async fn a_digest_is_a_digest_or_nothing_is_read() {
    let app = app();
    for digest in ["..%2F..%2Fsession.db", "x", &"A".repeat(64), &"3".repeat(63)] {
        let path = format!("/api/v1/sessions/{}/blobs/{digest}", session_id());
        let response = app.send(by_token("GET", &path).body(Body::empty()).unwrap()).await;
        assert_eq!(error_of(response).await.1.code, ErrorCode::InvalidRequest, "{digest}");
    }
    let path = format!("/api/v1/sessions/{}/blobs/{}", session_id(), "3".repeat(64));
    let response = app.send(by_token("GET", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(error_of(response).await.1.code, ErrorCode::AttachmentUnknown);
}
