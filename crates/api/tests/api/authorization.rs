//! Every route is either public by decision or closed to strangers and to foreign pages.

use crate::fake::{BEARER, COOKIE, OWN_ORIGIN, app, error_of, request};
use axum::body::Body;
use greenroom_api::openapi;
use greenroom_domain::ErrorCode;
use http::StatusCode;

const PUBLIC: [&str; 5] = [
    "GET /api/v1/health",
    "POST /api/v1/hooks/sample",
    "GET /api/v1/openapi.json",
    "POST /api/v1/sign-in",
    "POST /api/v1/sign-in/link",
];

/// Method and path of each route in the document, and whether it says that it is public.
fn routes() -> Vec<(String, String, bool)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut routes = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path
                .replace("{name}", "sample")
                .replace("{id}", "any")
                .replace("{digest}", "any")
                .replace("{link}", "any")
                .replace("{login}", "ada");
            routes.push((method.to_uppercase(), path, !operation["security"].is_null()));
        }
    }
    assert!(routes.len() > 30, "{}", routes.len());
    routes
}

fn private() -> impl Iterator<Item = (String, String)> {
    routes().into_iter().filter(|route| !route.2).map(|(method, path, _)| (method, path))
}

#[test]
fn the_public_routes_are_the_listed_ones() {
    let public =
        routes().into_iter().filter(|route| route.2).map(|(method, path, _)| format!("{method} {path}"));
    assert_eq!(public.collect::<Vec<_>>(), PUBLIC);
}

#[tokio::test]
async fn every_other_route_answers_401_without_credentials() {
    let app = app();
    for (method, path) in private() {
        let (status, error) =
            error_of(app.send(request(&method, &path).body(Body::empty()).unwrap()).await).await;
        assert_eq!(
            (status, error.code),
            (StatusCode::UNAUTHORIZED, ErrorCode::NotSignedIn),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn every_other_route_answers_401_to_an_unknown_token_or_cookie() {
    let app = app();
    for (method, path) in private() {
        for (header, value) in [("authorization", "Bearer grt_bad"), ("cookie", "greenroom_session=bad")] {
            let built = request(&method, &path).header("origin", OWN_ORIGIN).header("x-greenroom", "1");
            let response = app.send(built.header(header, value).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{method} {path} {header}");
        }
    }
}

#[tokio::test]
async fn every_other_route_answers_403_to_a_foreign_page_with_the_cookie() {
    let app = app();
    for (method, path) in private() {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:4401"] {
            let built = request(&method, &path).header("cookie", COOKIE).header("x-greenroom", "1");
            let response = app.send(built.header("origin", origin).body(Body::empty()).unwrap()).await;
            let (status, error) = error_of(response).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {origin}");
            assert_eq!(error.code, ErrorCode::OriginRefused);
        }
    }
}

#[tokio::test]
async fn by_cookie_what_changes_something_needs_an_origin_and_our_header() {
    let app = app();
    for (method, path) in private().filter(|(method, _)| method != "GET") {
        let no_origin = request(&method, &path).header("cookie", COOKIE).header("x-greenroom", "1");
        let no_header = request(&method, &path).header("cookie", COOKIE).header("origin", OWN_ORIGIN);
        for built in [no_origin, no_header] {
            let (status, error) = error_of(app.send(built.body(Body::empty()).unwrap()).await).await;
            assert_eq!(
                (status, error.code),
                (StatusCode::FORBIDDEN, ErrorCode::OriginRefused),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_page_of_ours_and_a_program_get_in() {
    let app = app();
    let page = request("POST", "/api/v1/sign-out").header("cookie", COOKIE);
    let page = page.header("origin", OWN_ORIGIN).header("x-greenroom", "1").body(Body::empty()).unwrap();
    let program = request("GET", "/api/v1/me").header("authorization", BEARER).body(Body::empty()).unwrap();
    assert_eq!(app.send(program).await.status(), StatusCode::OK);
    let signed_out = app.send(page).await;
    assert_eq!(signed_out.status(), StatusCode::NO_CONTENT);
    let cookie = signed_out.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("greenroom_session=; ") && cookie.contains("Max-Age=0"), "{cookie}");
}

#[tokio::test]
async fn a_web_socket_by_cookie_from_a_foreign_page_is_refused() {
    let app = app();
    let path = "/api/v1/sessions/ses_00000000010000000000000001/socket";
    let handshake = request("GET", path).header("cookie", COOKIE).header("upgrade", "websocket");
    let response = app.send(handshake.body(Body::empty()).unwrap()).await;
    assert_eq!(
        error_of(response).await.1.code,
        ErrorCode::OriginRefused,
        "an absent origin is no origin of ours"
    );
}

#[tokio::test]
async fn a_foreign_page_cannot_sign_its_visitor_in() {
    let app = app();
    let foreign = request("POST", "/api/v1/sign-in").header("origin", "https://evil.example");
    let body = Body::from(r#"{"login":"ada","password":"right"}"#);
    let response = app.send(foreign.header("content-type", "application/json").body(body).unwrap()).await;
    assert_eq!(error_of(response).await.1.code, ErrorCode::OriginRefused);
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused_on_every_kind_of_address() {
    let app = app();
    for path in ["/", "/api/v1/health", "/assets/x.js", "/git/sample.git/info/refs"] {
        let rebound = http::Request::get(path).header("host", "rebound.example:4400");
        let response = app.send(rebound.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn signing_in_sets_a_cookie_that_scripts_cannot_read() {
    let app = app();
    let body = Body::from(r#"{"login":"ada","password":"right"}"#);
    let sign_in = request("POST", "/api/v1/sign-in").header("content-type", "application/json");
    let response = app.send(sign_in.body(body).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert_eq!(cookie, "greenroom_session=good-cookie; Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
}
