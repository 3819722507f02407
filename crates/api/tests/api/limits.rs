//! Waits of who guesses: an address that follows share links which do not work.

use crate::fake::{TestApp, by_token, error_of, limited};
use axum::body::Body;
use greenroom_api::{RateLimits, TrustedProxies};
use http::{Response, StatusCode};

/// Behind a proxy, which says from where each request comes.
fn proxied() -> TestApp {
    limited(RateLimits::NONE, TrustedProxies::new(vec!["0.0.0.0/32".parse().unwrap()]))
}

async fn follow(app: &TestApp, address: &str, secret: &str) -> Response<Body> {
    let request = by_token("POST", "/api/v1/share-links/use")
        .header("x-forwarded-for", address)
        .header("content-type", "application/json")
        .body(Body::from(format!(r#"{{"secret":"{secret}"}}"#)));
    app.send(request.unwrap()).await
}

#[tokio::test]
async fn guessing_share_links_costs_an_address_more_and_more_time() {
    let app = proxied();
    let mut unknown = 0;
    let refused = loop {
        let response = follow(&app, "203.0.113.9", &format!("guess-{unknown}")).await;
        match response.status() {
            StatusCode::NOT_FOUND => unknown += 1,
            _ => break response,
        }
        assert!(unknown < 60, "nothing was refused");
    };
    assert!(unknown > 30, "a few that do not work cost nothing: {unknown}");
    let seconds: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let (status, error) = error_of(refused).await;
    assert_eq!((status.as_u16(), error.code.as_str()), (429, "too_many_requests"));
    assert_eq!(error.retry_after_s, Some(seconds));
    assert!(error.hint.unwrap().starts_with("Try again in"));
    // Of the guesses one could be right: none is tried while the address waits.
    assert_eq!(follow(&app, "203.0.113.9", "good").await.status(), 429);
    assert_eq!(follow(&app, "203.0.113.10", "good").await.status(), 200);
}

#[tokio::test]
async fn links_that_work_are_followed_as_often_as_one_likes() {
    let app = proxied();
    for _ in 0..100 {
        assert_eq!(follow(&app, "203.0.113.9", "good").await.status(), 200);
        assert_eq!(error_of(follow(&app, "203.0.113.9", "full").await).await.1.code.as_str(), "disk_full");
    }
}
