//! Who may read the metrics, and that requests are counted by their route's template.

use crate::fake::{app, body_of, by_token, error_of, request};
use axum::body::Body;
use greenroom_domain::{ErrorCode, RequestId};
use http::StatusCode;

async fn text_of(app: &crate::fake::TestApp) -> String {
    let asked = request("GET", "/metrics").header("authorization", "Bearer grt_admin");
    let response = app.send(asked.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    String::from_utf8(body_of(response).await).unwrap()
}

#[tokio::test]
async fn only_an_admin_reads_metrics_at_the_servers_own_address() {
    let app = app();
    let nobody = app.send(request("GET", "/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(error_of(nobody).await.1.code, ErrorCode::NotSignedIn);
    let member = app.send(by_token("GET", "/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(error_of(member).await.1.code, ErrorCode::NotAllowed);
    assert!(text_of(&app).await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_listener_for_metrics_answers_them_and_nothing_else() {
    use tower::ServiceExt;
    let app = app();
    let get = |path: &str| app.metrics.clone().oneshot(http::Request::get(path).body(Body::empty()).unwrap());
    let metrics = get("/metrics").await.unwrap();
    assert_eq!(metrics.status(), StatusCode::OK);
    assert!(String::from_utf8(body_of(metrics).await).unwrap().contains("greenroom_streams 0\n"));
    for path in ["/", "/api/v1/health", "/api/v1/me", "/index.html"] {
        assert_eq!(error_of(get(path).await.unwrap()).await.1.code, ErrorCode::NotFound, "{path}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_template_and_errors_by_code() {
    let app = app();
    for session in ["ses_00000000010000000000000001", "ses_00000000010000000000000002"] {
        let path = format!("/api/v1/sessions/{session}");
        app.send(by_token("GET", &path).body(Body::empty()).unwrap()).await;
    }
    app.send(request("GET", "/api/v1/me").body(Body::empty()).unwrap()).await;
    let text = text_of(&app).await;
    let counted = |line: &str| text.lines().any(|found| found == line);
    let template =
        r#"greenroom_http_request_seconds_count{route="/api/v1/sessions/{id}",method="GET",status="#;
    let of_sessions: u64 = text
        .lines()
        .filter_map(|line| line.strip_prefix(template)?.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum();
    assert_eq!(of_sessions, 2, "{text}");
    assert!(counted(r#"greenroom_refusals_total{code="not_signed_in"} 1"#), "{text}");
    assert!(!text.contains("ses_"), "an id became a label:\n{text}");
}

#[tokio::test]
async fn a_programs_request_id_is_taken_only_in_our_own_form() {
    let app = app();
    let own = RequestId::from_parts(1_700_000_000_000, 7).to_string();
    let asked =
        |id: &str| by_token("GET", "/api/v1/nothing").header("x-request-id", id).body(Body::empty()).unwrap();
    let (_, error) = error_of(app.send(asked(&own)).await).await;
    assert_eq!(error.request_id, own);
    let longer = format!("{own}0");
    for other in
        ["", "1", "trn_00000000010000000000000001", "req_\u{e9}", "req_ forged line", longer.as_str()]
    {
        let (_, error) = error_of(app.send(asked(other)).await).await;
        assert_ne!(error.request_id, other);
        assert!(error.request_id.parse::<RequestId>().is_ok());
    }
}
