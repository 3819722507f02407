//! Presence, typing, read positions and drafts for clients without a WebSocket.

use crate::fake::{app, body_of, by_token, error_of};
use axum::body::Body;
use greenroom_domain::ErrorCode;
use http::StatusCode;
use serde_json::{Value, json};

const SESSION: &str = "/api/v1/sessions/ses_00000000010000000000000001";

async fn asked(method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let request = by_token(method, path).header("content-type", "application/json");
    let response = app().send(request.body(Body::from(body.to_string())).unwrap()).await;
    let status = response.status();
    (status, serde_json::from_slice(&body_of(response).await).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_plain_client_reads_and_writes_what_is_live() {
    let (status, presence) = asked("GET", &format!("{SESSION}/presence"), json!({})).await;
    assert_eq!((status, presence), (StatusCode::OK, json!({"people": [], "more": 0})));
    let body = json!({"is_typing": true, "client": "slack"});
    assert_eq!(asked("POST", &format!("{SESSION}/typing"), body).await.0, StatusCode::NO_CONTENT);
    let (_, read) = asked("PUT", &format!("{SESSION}/read"), json!({"seq": 99})).await;
    assert_eq!(read["seq"], 3);
    let (_, reads) = asked("GET", "/api/v1/reads", json!({})).await;
    assert_eq!(reads[0]["seq"], 1);
    for path in [format!("{SESSION}/draft"), "/api/v1/draft?repository=sample".into()] {
        let (_, draft) = asked("GET", &path, json!({})).await;
        assert_eq!((&draft["text"], &draft["revision"]), (&json!("kept"), &json!(7)), "{path}");
        let (_, answer) = asked("PUT", &path, json!({"text": "more", "revision": 7})).await;
        assert_eq!((&answer["draft"]["text"], &answer["is_refused"]), (&json!("more"), &json!(false)));
        let (_, answer) = asked("PUT", &path, json!({"text": "other", "revision": 1})).await;
        assert_eq!((&answer["draft"]["text"], &answer["is_refused"]), (&json!("kept"), &json!(true)));
    }
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    for (method, path, body) in [
        ("PUT", format!("{SESSION}/draft"), json!({"text": "x"})),
        ("PUT", format!("{SESSION}/read"), json!({"seq": -1})),
        ("POST", format!("{SESSION}/typing"), json!({"is_typing": true, "client": "toaster"})),
        ("PUT", "/api/v1/draft?place=here".into(), json!({"text": "x", "revision": 1})),
    ] {
        let request = by_token(method, &path).header("content-type", "application/json");
        let response = app().send(request.body(Body::from(body.to_string())).unwrap()).await;
        assert_eq!(error_of(response).await.1.code, ErrorCode::InvalidRequest, "{path}");
    }
}
