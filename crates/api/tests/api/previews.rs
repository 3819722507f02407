//! Previews over real connections: a web server behind the fake application's byte stream, browsers in front.

use crate::fake::{BEARER, COOKIE, OWN_ORIGIN, TestServer, body_of, server, server_limited_by};
use axum::body::Body;
use futures::{FutureExt, SinkExt, StreamExt};
use greenroom_api::RateLimits;
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

const SESSION: &str = "ses_00000000010000000000000001";
const PATIENCE: Duration = Duration::from_secs(20);

fn preview_host(server: &TestServer, port: u16) -> String {
    format!("{port}--00000000010000000000000001.localhost:{}", server.address.port())
}

async fn send(server: &TestServer, request: Request<Body>) -> Response<Body> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap();
    answer.map(Body::new)
}

/// To the product: asks for a preview; answers where it leads.
async fn opened(server: &TestServer, port: u16, query: &str) -> Response<Body> {
    let path = format!("/api/v1/sessions/{SESSION}/previews/{port}{query}");
    let asked = Request::get(path).header("host", server.address.to_string()).header("cookie", COOKIE);
    send(server, asked.body(Body::empty()).unwrap()).await
}

/// Path and query of the ticket's address.
async fn ticket(server: &TestServer, port: u16) -> String {
    let response = opened(server, port, "").await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let origin = format!("http://{}", preview_host(server, port));
    location.strip_prefix(&origin).unwrap_or_else(|| panic!("{location}")).to_owned()
}

fn at(server: &TestServer, port: u16, method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", preview_host(server, port))
}

/// Signs in at the preview; answers the cookie as a browser sends it.
async fn signed_in(server: &TestServer, port: u16) -> String {
    let path = ticket(server, port).await;
    let response = send(server, at(server, port, "GET", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()["location"], "/");
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    assert!(!cookie.to_lowercase().contains("domain"), "host-only: {cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

async fn got(server: &TestServer, port: u16, cookie: &str, path: &str) -> Response<Body> {
    send(server, at(server, port, "GET", path).header("cookie", cookie).body(Body::empty()).unwrap()).await
}

async fn text_of(response: Response<Body>) -> String {
    String::from_utf8(body_of(response).await).unwrap()
}

#[tokio::test]
async fn a_ticket_leads_to_the_page_of_a_program_inside() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let response = got(&server, 3000, &cookie, "/hello?x=1").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["set-cookie"], "inside=1; Path=/");
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert_eq!(policy, format!("frame-ancestors http://{}", server.address));
    assert_eq!(text_of(response).await, "hello from inside, /hello?x=1");
}

#[tokio::test]
async fn a_body_goes_in_and_comes_back_as_it_is() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let body = vec![7; 300_000];
    let post = at(&server, 3000, "POST", "/echo").header("cookie", &cookie);
    let post = post.header("origin", format!("http://{}", preview_host(&server, 3000)));
    let response = send(&server, post.body(Body::from(body.clone())).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body_of(response).await, body);
}

#[tokio::test]
async fn events_arrive_one_by_one_while_the_answer_goes_on() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let response = got(&server, 3000, &cookie, "/events").await;
    let mut chunks = response.into_body().into_data_stream();
    let first = timeout(PATIENCE, chunks.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(&first[..], b"data: 1\n\n", "the stream inside never ends");
    server.shutdown.cancel();
    while timeout(PATIENCE, chunks.next()).await.expect("it ends with the server").is_some() {}
}

#[tokio::test]
async fn a_web_socket_reaches_the_program_and_echoes() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let host = preview_host(&server, 3000);
    let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request.headers_mut().insert("origin", format!("http://{host}").parse().unwrap());
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        let answer = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Message::text(format!("echo {text}")));
    }
    server.shutdown.cancel();
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("it ends with the server") {}
}

type Handshake = tungstenite::Result<(
    tokio_tungstenite::WebSocketStream<TcpStream>,
    tungstenite::handshake::client::Response,
)>;

/// A WebSocket of the page itself, to a program that has not answered yet.
async fn waiting(server: &TestServer) -> tokio::task::JoinHandle<Handshake> {
    let cookie = signed_in(server, 3000).await;
    let host = preview_host(server, 3000);
    let mut request = format!("ws://{host}/late").into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request.headers_mut().insert("origin", format!("http://{host}").parse().unwrap());
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake =
        tokio::spawn(tokio_tungstenite::client_async(request, stream).map(|made| made.map_err(Into::into)));
    timeout(PATIENCE, server.fake.inside.asked.acquire()).await.unwrap().unwrap().forget();
    handshake
}

#[tokio::test]
async fn what_waits_for_its_answer_ends_with_the_right_to_it() {
    let server = server().await;
    let handshake = waiting(&server).await;
    server.fake.shut_the_session();
    match timeout(PATIENCE, handshake).await.expect("it ends while the program is silent").unwrap() {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tunnel_that_is_made_after_the_right_was_withdrawn_ends() {
    let server = server().await;
    let handshake = waiting(&server).await;
    server.fake.shut_the_session();
    server.fake.inside.may_answer.add_permits(1);
    match timeout(PATIENCE, handshake).await.unwrap().unwrap() {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403),
        Ok((mut socket, _)) => {
            while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("it ends") {}
        }
        other => panic!("{other:?}"),
    }
}

/// An event stream of which the first event was read.
async fn stream_of_events(server: &TestServer) -> axum::body::BodyDataStream {
    let cookie = signed_in(server, 3000).await;
    let mut chunks = got(server, 3000, &cookie, "/events").await.into_body().into_data_stream();
    timeout(PATIENCE, chunks.next()).await.unwrap().unwrap().unwrap();
    chunks
}

#[tokio::test]
async fn a_question_that_was_not_answered_in_time_is_asked_again_and_ends_the_stream() {
    let server = server().await;
    let mut chunks = stream_of_events(&server).await;
    server.fake.unanswered.store(1, Ordering::Relaxed);
    server.fake.shut_the_session();
    while timeout(PATIENCE, chunks.next()).await.expect("it ends").is_some() {}
    assert_eq!(server.fake.unanswered.load(Ordering::Relaxed), 0, "the first question had no answer");
}

#[tokio::test]
async fn a_stream_asks_now_and_then_even_when_nobody_told_it() {
    let server = server().await;
    let mut chunks = stream_of_events(&server).await;
    server.fake.shut_the_session_silently();
    tokio::time::pause();
    while timeout(Duration::from_secs(600), chunks.next()).await.expect("it ends").is_some() {}
}

#[tokio::test]
async fn whoever_may_only_look_gets_pages_and_sends_nothing() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    server.fake.demote();
    assert_eq!(got(&server, 3000, &cookie, "/hello").await.status(), StatusCode::OK);
    let origin = format!("http://{}", preview_host(&server, 3000));
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        let sent = at(&server, 3000, method, "/echo").header("cookie", &cookie).header("origin", &origin);
        let response = send(&server, sent.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method}");
        assert!(text_of(response).await.contains("\"not_allowed\""), "{method}");
    }
    let socket = at(&server, 3000, "GET", "/socket").header("cookie", &cookie).header("origin", &origin);
    let socket = socket.header("connection", "upgrade").header("upgrade", "WebSocket");
    let response = send(&server, socket.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_tunnel_of_somebody_who_may_only_look_from_now_on_ends() {
    let server = server().await;
    let handshake = waiting(&server).await;
    server.fake.inside.may_answer.add_permits(1);
    let (mut socket, _) = timeout(PATIENCE, handshake).await.unwrap().unwrap().unwrap();
    server.fake.demote();
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("it ends") {}
}

/// Previews have five times the rate, a quarter of it at once.
#[tokio::test]
async fn a_person_and_an_address_ask_previews_so_often_and_no_oftener() {
    let person = RateLimits { person_per_minute: 4, ..RateLimits::NONE };
    let address = RateLimits { address_per_minute: 4, ..RateLimits::NONE };
    // The address has asked once to sign in.
    for (rates, at_once) in [(person, 5), (address, 4)] {
        let server = server_limited_by(rates).await;
        let cookie = signed_in(&server, 3000).await;
        for _ in 0..at_once {
            assert_eq!(got(&server, 3000, &cookie, "/hello").await.status(), StatusCode::OK);
        }
        let refused = got(&server, 3000, &cookie, "/hello").await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{rates:?}");
        assert!(refused.headers().contains_key("retry-after"));
        assert!(text_of(refused).await.contains("\"too_many_requests\""));
    }
}

#[tokio::test]
async fn a_web_socket_from_a_page_of_another_origin_or_without_cookie_is_refused() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let host = preview_host(&server, 3000);
    let other = host.replace("01.localhost", "02.localhost");
    for (cookie, origin, status) in [
        (cookie.as_str(), "http://evil.example", 403),
        (&cookie, &format!("http://{other}"), 403),
        (&cookie, OWN_ORIGIN, 403),
        (&cookie, "null", 403),
        ("a=b", &format!("http://{host}"), 401),
    ] {
        let mut request = format!("ws://{host}/socket").into_client_request().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let stream = TcpStream::connect(server.address).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), status, "{origin}"),
            other => panic!("{origin}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_of_ours_reaches_the_program() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let asked = at(&server, 3000, "GET", "/headers")
        .header("cookie", format!("theme=dark; {cookie}; {COOKIE}"))
        .header("authorization", BEARER)
        .header("x-greenroom", "1");
    let seen = text_of(send(&server, asked.body(Body::empty()).unwrap()).await).await;
    assert!(seen.contains("cookie: theme=dark\n"), "{seen}");
    let secret = cookie.split_once('=').unwrap().1;
    for ours in ["greenroom", "grt_", "good-cookie", secret] {
        assert!(!seen.contains(ours), "{ours} in {seen}");
    }
    assert!(seen.contains(&format!("host: {}\n", preview_host(&server, 3000))), "{seen}");
}

#[tokio::test]
async fn a_ticket_that_is_wrong_used_or_for_another_port_opens_nothing() {
    let server = server().await;
    let used = ticket(&server, 3000).await;
    for (port, path, status) in [
        (3000, "/.greenroom/open?ticket=guessed", StatusCode::UNAUTHORIZED),
        (3000, "/.greenroom/open", StatusCode::UNAUTHORIZED),
        (3001, used.as_str(), StatusCode::UNAUTHORIZED),
        (3000, &used, StatusCode::UNAUTHORIZED),
        (3000, "/.greenroom/other", StatusCode::NOT_FOUND),
    ] {
        let response = send(&server, at(&server, port, "GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{port} {path}");
        assert!(!response.headers().contains_key("set-cookie"), "{path}");
    }
}

#[tokio::test]
async fn a_cookie_of_one_port_or_of_the_product_opens_no_other() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    for (port, cookie) in
        [(3001, cookie.as_str()), (3000, COOKIE), (3000, "greenroom_preview=guessed"), (3000, "")]
    {
        let response = got(&server, port, cookie, "/hello").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{port} {cookie}");
    }
    let by_token = at(&server, 3000, "GET", "/hello").header("authorization", BEARER);
    let response = send(&server, by_token.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_right_cookie_beside_a_forged_one_still_opens_the_preview() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let response = got(&server, 3000, &format!("greenroom_preview=forged; {cookie}"), "/hello").await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_was_signed_out_sees_the_preview_no_more() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let unused = ticket(&server, 3000).await;
    server.fake.sign_everyone_out();
    let response = got(&server, 3000, &cookie, "/hello").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let response = send(&server, at(&server, 3000, "GET", &unused).body(Body::empty()).unwrap()).await;
    let cookie = response.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    let cookie = cookie.unwrap_or_default();
    let response = got(&server, 3000, cookie.split(';').next().unwrap_or_default(), "/hello").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "a ticket lives no longer than what bought it");
}

#[tokio::test]
async fn a_closed_port_says_so_on_a_page_and_as_json() {
    let server = server().await;
    let cookie = signed_in(&server, 1).await;
    let page = at(&server, 1, "GET", "/").header("cookie", &cookie).header("accept", "text/html,*/*");
    let response = send(&server, page.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let page = text_of(response).await;
    assert!(page.contains("Nothing listens on port 1 yet") && page.contains(SESSION), "{page}");
    let json = text_of(got(&server, 1, &cookie, "/").await).await;
    assert!(json.contains("\"port_closed\""), "{json}");
}

#[tokio::test]
async fn a_program_that_speaks_no_http_is_told_apart() {
    let server = server().await;
    let cookie = signed_in(&server, 9).await;
    let json = text_of(got(&server, 9, &cookie, "/").await).await;
    assert!(json.contains("\"service_failed\""), "{json}");
}

#[tokio::test]
async fn a_host_that_is_said_twice_or_in_two_ways_reaches_neither_preview_nor_product() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let host = preview_host(&server, 3000);
    let own = server.address.to_string();
    let twice = at(&server, 3000, "GET", "/hello").header("host", &own).header("cookie", &cookie);
    let absolute =
        Request::get(format!("http://{own}/hello")).header("host", &host).header("cookie", &cookie);
    let other_way =
        Request::get(format!("http://{host}/hello")).header("host", &own).header("cookie", &cookie);
    for request in [twice, absolute, other_way] {
        let response = send(&server, request.body(Body::empty()).unwrap()).await;
        assert!(matches!(response.status().as_u16(), 400 | 403), "{}", response.status());
        assert!(!text_of(response).await.contains("hello from inside"));
    }
}

#[tokio::test]
async fn a_previews_origin_has_none_of_the_products_routes() {
    let server = server().await;
    for path in ["/api/v1/me", "/api/v1/health", "/git/sample.git/info/refs", "/", "/api/v1/openapi.json"] {
        let asked = at(&server, 3000, "GET", path).header("cookie", COOKIE).header("authorization", BEARER);
        let response = send(&server, asked.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(!response.headers().contains_key("x-request-id"), "{path} was answered by the product");
    }
}

#[tokio::test]
async fn a_page_of_a_preview_cannot_use_the_products_api() {
    let server = server().await;
    let origin = format!("http://{}", preview_host(&server, 3000));
    for (method, path) in [("GET", "/api/v1/me"), ("POST", "/api/v1/sign-out"), ("OPTIONS", "/api/v1/me")] {
        let asked = Request::builder().method(method).uri(path).header("host", server.address.to_string());
        let asked = asked.header("origin", &origin).header("cookie", COOKIE).header("x-greenroom", "1");
        let response = send(&server, asked.body(Body::empty()).unwrap()).await;
        assert!(response.status().is_client_error(), "{method} {path}: {}", response.status());
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{path}");
    }
}

#[tokio::test]
async fn the_way_to_a_preview_refuses_addresses_elsewhere_and_unknown_sessions() {
    let server = server().await;
    let response = opened(&server, 3000, "?to=/deep%3Fa=b").await;
    assert!(response.headers()["location"].to_str().unwrap().ends_with("&to=%2Fdeep%3Fa%3Db"));
    for (port, query) in [(3000, "?to=//evil.example"), (3000, "?to=https://evil.example"), (0, "")] {
        assert_eq!(opened(&server, port, query).await.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    let unknown = Request::get("/api/v1/sessions/ses_00000000010000000000000002/previews/3000");
    let unknown = unknown.header("host", server.address.to_string()).header("cookie", COOKIE);
    let response = send(&server, unknown.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_method_that_would_show_what_was_sent_or_make_a_tunnel_is_refused() {
    let server = server().await;
    let cookie = signed_in(&server, 3000).await;
    let trace = at(&server, 3000, "TRACE", "/hello").header("cookie", &cookie).body(Body::empty()).unwrap();
    assert_eq!(send(&server, trace).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}
