//! Server-sent events.

use crate::fake::{PAST, TestApp, app, body_of, by_token, entry, error_of};
use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use greenroom_domain::ErrorCode;
use greenroom_wire::SessionsFrame;
use http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

const SESSION: &str = "ses_00000000010000000000000001";
const STREAM: &str = "/api/v1/sessions/ses_00000000010000000000000001/stream";

const LIST: &str = "/api/v1/sessions/stream";

async fn open(app: &TestApp, query: &str, last_event: Option<&str>) -> BodyDataStream {
    let built = by_token("GET", &format!("{STREAM}{query}"));
    let built = match last_event {
        Some(id) => built.header("last-event-id", id),
        None => built,
    };
    let response = app.send(built.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body().into_data_stream()
}

/// Reads until the text has been seen.
async fn read_until(events: &mut BodyDataStream, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let chunk =
            timeout(Duration::from_secs(5), events.next()).await.expect(wanted).expect("more").unwrap();
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    seen
}

fn ids(events: &str) -> Vec<&str> {
    events.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn the_past_is_replayed_and_then_the_stream_is_live() {
    let app = app();
    let mut events = open(&app, "", None).await;
    let past = read_until(&mut events, "caught_up").await;
    assert!(past.starts_with("event: hello\n"), "{past}");
    assert_eq!(ids(&past), ["1", "2", "3"]);
    app.fake.publish(&entry(PAST + 1));
    assert_eq!(ids(&read_until(&mut events, "title 4").await), ["4"]);
}

#[tokio::test]
async fn compressed_events_can_be_read_as_they_come() {
    let app = app();
    let request = by_token("GET", STREAM).header("accept-encoding", "gzip, br");
    let response = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut pieces = response.into_body().into_data_stream();
    // A gzip member: ten bytes, then deflate.
    let mut inflate = flate2::Decompress::new(false);
    let mut header = 10;
    let mut seen = String::new();
    for (seq, title) in [(4, "title 4".to_owned()), (5, "long ".repeat(10_000))] {
        let event = greenroom_domain::Event::TitleChanged { title: title.clone(), by: None };
        let entry = greenroom_domain::Entry { seq, at_ms: 1, epoch: 1, event };
        app.fake.publish(&greenroom_wire::Frame::Entry { entry });
        while !seen.ends_with("\n\n") || !seen.contains(&title) {
            let piece =
                timeout(Duration::from_secs(5), pieces.next()).await.expect("at once").unwrap().unwrap();
            let piece = &piece[std::mem::take(&mut header).min(piece.len())..];
            let mut text = Vec::with_capacity(100_000);
            inflate.decompress_vec(piece, &mut text, flate2::FlushDecompress::Sync).unwrap();
            seen.push_str(std::str::from_utf8(&text).unwrap());
        }
    }
    assert_eq!(ids(&seen), ["1", "2", "3", "4", "5"]);
    assert!(inflate.total_in() < inflate.total_out() / 10);
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_accept_it() {
    const DOCUMENT: &str = "/api/v1/openapi.json";
    let app = app();
    let ask = async |path: &str, accepts: Option<&str>| {
        let request = by_token("GET", path);
        let request = match accepts {
            Some(accepts) => request.header("accept-encoding", accepts),
            None => request,
        };
        let response = app.send(request.body(Body::empty()).unwrap()).await;
        let encoding = response.headers().get("content-encoding").cloned();
        (encoding, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap())
    };
    let (encoding, plain) = ask(DOCUMENT, None).await;
    assert_eq!(encoding, None);
    let (encoding, packed) = ask(DOCUMENT, Some("br, gzip")).await;
    assert_eq!(encoding.unwrap(), "gzip");
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(&packed[..])).unwrap();
    assert!(text.as_bytes() == plain && packed.len() < plain.len() / 4, "{}", packed.len());
    for path in ["/api/v1/machine", "/api/v1/nowhere"] {
        assert_eq!(ask(path, Some("gzip")).await.0, None, "{path} is short");
    }
}

#[tokio::test]
async fn a_client_goes_on_after_the_entry_it_names() {
    let app = app();
    for (query, header) in [("?after=2", None), ("", Some("2")), ("?after=0", Some("2"))] {
        let past = read_until(&mut open(&app, query, header).await, "caught_up").await;
        assert_eq!(ids(&past), ["3"], "{query} {header:?}");
    }
    let bad = by_token("GET", STREAM).header("last-event-id", "latest").body(Body::empty()).unwrap();
    assert_eq!(error_of(app.send(bad).await).await.1.code, ErrorCode::InvalidRequest);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_and_ends_soon_after_its_caller_signed_out() {
    let app = app();
    let mut events = open(&app, "", None).await;
    read_until(&mut events, "caught_up").await;
    let chunk = events.next().await.unwrap().unwrap();
    assert!(chunk.starts_with(b":"), "{chunk:?}");
    app.fake.sign_everyone_out();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops_and_none_begins_after() {
    let app = app();
    let mut events = open(&app, "", None).await;
    read_until(&mut events, "caught_up").await;
    app.shutdown.cancel();
    assert!(timeout(Duration::from_secs(5), events.next()).await.unwrap().is_none());
    let late = app.send(by_token("GET", STREAM).body(Body::empty()).unwrap()).await;
    assert_eq!(error_of(late).await.1.code, ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn one_person_may_have_many_streams_but_not_any_number() {
    let app = app();
    let mut open_streams = vec![];
    for _ in 0..256 {
        open_streams.push(open(&app, "", None).await);
    }
    let response = app.send(by_token("GET", STREAM).body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(error_of(response).await.1.code, ErrorCode::TooManyRequests);
    open_streams.pop();
    drop(open(&app, "", None).await);
}

#[tokio::test]
async fn a_builds_log_ends_with_the_build() {
    let app = app();
    let path = "/api/v1/images/img_00000000010000000000000001/log";
    let body = body_of(app.send(by_token("GET", path).body(Body::empty()).unwrap()).await).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(text, "event: output\ndata: {\"type\":\"output\",\"text\":\"one\\ntwo\\n\"}\n\n");
}

#[tokio::test]
async fn the_list_of_sessions_is_told_whole_and_then_as_it_changes() {
    let app = app();
    let response = app.send(by_token("GET", LIST).body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let first = read_until(&mut events, "\n\n").await;
    assert!(first.starts_with("event: snapshot\n") && first.contains("\"sessions\":[{"), "{first}");
    app.fake.publish_line(&SessionsFrame::Removed { session: SESSION.parse().unwrap() });
    let next = read_until(&mut events, "\n\n").await;
    assert_eq!(next, format!("event: removed\ndata: {{\"type\":\"removed\",\"session\":\"{SESSION}\"}}\n\n"));
}

#[tokio::test]
async fn a_list_of_a_repository_that_is_not_there_is_refused_in_words() {
    let app = app();
    let asked = by_token("GET", &format!("{LIST}?repository=other")).body(Body::empty()).unwrap();
    assert_eq!(error_of(app.send(asked).await).await.1.code, ErrorCode::RepositoryUnknown);
    let asked = by_token("GET", &format!("{LIST}?since=1")).body(Body::empty()).unwrap();
    assert_eq!(error_of(app.send(asked).await).await.1.code, ErrorCode::InvalidRequest);
}

#[tokio::test(start_paused = true)]
async fn the_list_ends_for_who_was_signed_out() {
    let app = app();
    let response = app.send(by_token("GET", LIST).body(Body::empty()).unwrap()).await;
    let mut events = response.into_body().into_data_stream();
    read_until(&mut events, "snapshot").await;
    app.fake.sign_everyone_out();
    // Keep-alive comments until it is asked again whether they may look.
    while timeout(Duration::from_secs(120), events.next()).await.expect("it ends").is_some() {}
}

#[tokio::test]
async fn a_stream_can_begin_with_a_window_and_pages_lead_back() {
    let app = app();
    let mut events = open(&app, "?window=1", None).await;
    let seen = read_until(&mut events, "caught_up").await;
    assert_eq!(ids(&seen), [PAST.to_string()]);
    let page = |query: &str| by_token("GET", &format!("/api/v1/sessions/{SESSION}/entries{query}"));
    let response = app.send(page("?before=2&limit=5").body(Body::empty()).unwrap()).await;
    // The fake says which were asked for.
    let body: serde_json::Value = serde_json::from_slice(&body_of(response).await).unwrap();
    assert_eq!(body["head_seq"], 2);
    let both = app.send(page("?before=2&after=1").body(Body::empty()).unwrap()).await;
    assert_eq!(both.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn streams_end_at_once_with_the_reason_when_rights_are_taken_away() {
    for path in [STREAM, LIST] {
        let app = app();
        let response = app.send(by_token("GET", path).body(Body::empty()).unwrap()).await;
        let mut events = response.into_body().into_data_stream();
        read_until(&mut events, "\n\n").await;
        app.fake.change_a_strangers_rights();
        app.fake.sign_everyone_out();
        let last = read_until(&mut events, "not_signed_in").await;
        assert!(last.contains("event: error\n"), "{last}");
        assert!(timeout(Duration::from_secs(5), events.next()).await.unwrap().is_none(), "{path}");
    }
    let app = app();
    let mut events = open(&app, "", None).await;
    read_until(&mut events, "caught_up").await;
    app.fake.shut_the_session();
    read_until(&mut events, "not_allowed").await;
    assert!(timeout(Duration::from_secs(5), events.next()).await.unwrap().is_none());
}
