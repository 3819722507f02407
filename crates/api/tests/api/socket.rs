//! The WebSocket of a session, over a real connection.

use crate::fake::{
    BEARER, OTHER_BEARER, PAST, TestServer, entry, limited, served, server, server_limited_by,
};
use futures::{SinkExt, StreamExt};
use greenroom_api::{RateLimits, TrustedProxies};
use greenroom_domain::ErrorCode;
use greenroom_wire::{Frame, Receipt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const HELLO: &str = r#"{"type":"hello","protocol":1,"after_seq":1}"#;
const PATIENCE: Duration = Duration::from_secs(20);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

fn handshake(server: &TestServer, id: &str, by: &str) -> tungstenite::handshake::client::Request {
    let url = format!("ws://{}/api/v1/sessions/{id}/socket", server.address);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", by.parse().unwrap());
    request
}

async fn connect(server: &TestServer) -> Client {
    connect_as(server, BEARER).await
}

async fn connect_as(server: &TestServer, by: &str) -> Client {
    let request = handshake(server, "ses_00000000010000000000000001", by);
    Client(tokio_tungstenite::connect_async(request).await.unwrap().0)
}

async fn greeted(server: &TestServer) -> Client {
    greeted_as(server, BEARER).await
}

async fn greeted_as(server: &TestServer, by: &str) -> Client {
    let mut client = connect_as(server, by).await;
    client.send(HELLO).await;
    while !matches!(client.frame().await, Frame::CaughtUp { .. }) {}
    client
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn message(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("a message in time")
    }

    async fn frame(&mut self) -> Frame {
        loop {
            match self.message().await.expect("open").expect("whole") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn error(&mut self) -> ErrorCode {
        match self.frame().await {
            Frame::Error { problem } => problem.code,
            other => panic!("{other:?}"),
        }
    }

    /// Reads to the end: code and reason.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("closed without a reason: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn after_hello_the_past_is_replayed_then_the_stream_is_live() {
    let server = server().await;
    let mut client = connect(&server).await;
    client.send(HELLO).await;
    assert!(matches!(client.frame().await, Frame::Hello { head_seq: PAST, .. }));
    assert_eq!(client.frame().await, entry(2));
    assert_eq!(client.frame().await, entry(3));
    assert_eq!(client.frame().await, Frame::CaughtUp { seq: PAST });
    server.fake.publish(&entry(4));
    assert_eq!(client.frame().await, entry(4));
}

fn long_entry(seq: u64) -> Frame {
    let title = "a title that comes again and again, ".repeat(3000);
    let event = greenroom_domain::Event::TitleChanged { title, by: None };
    Frame::Entry { entry: greenroom_domain::Entry { seq, at_ms: 1, epoch: 1, event } }
}

#[tokio::test]
async fn who_asks_gets_long_frames_compressed_in_their_place_and_nobody_else_does() {
    let server = server().await;
    let (mut plain, mut packed) = (greeted(&server).await, connect(&server).await);
    packed.send(r#"{"type":"hello","protocol":1,"after_seq":3,"compression":"deflate_raw"}"#).await;
    while !matches!(packed.frame().await, Frame::CaughtUp { .. }) {}
    for frame in [entry(4), long_entry(5), entry(6)] {
        server.fake.publish(&frame);
    }
    for frame in [entry(4), long_entry(5), entry(6)] {
        assert_eq!(plain.frame().await, frame);
    }
    assert_eq!(packed.frame().await, entry(4));
    let Some(Ok(Message::Binary(bytes))) = packed.message().await else { panic!("a binary message") };
    assert!(bytes.len() < 4000, "{}", bytes.len());
    let text = flate2::read::DeflateDecoder::new(&bytes[..]);
    assert_eq!(serde_json::from_reader::<_, Frame>(text).unwrap(), long_entry(5));
    assert_eq!(packed.frame().await, entry(6));
    // Until it says otherwise.
    packed.send(r#"{"type":"hello","protocol":1,"after_seq":3}"#).await;
    while !matches!(packed.frame().await, Frame::CaughtUp { .. }) {}
    server.fake.publish(&long_entry(4));
    assert_eq!(packed.frame().await, long_entry(4));
    packed.send(r#"{"type":"hello","protocol":1,"after_seq":3,"compression":"brotli"}"#).await;
    assert_eq!(packed.error().await, ErrorCode::InvalidFrame);
}

#[tokio::test]
async fn hello_again_on_the_same_connection_goes_on_from_there() {
    let server = server().await;
    let mut client = greeted(&server).await;
    client.send(r#"{"type":"hello","protocol":1,"after_seq":2}"#).await;
    assert!(matches!(client.frame().await, Frame::Hello { .. }));
    assert_eq!(client.frame().await, entry(3));
}

#[tokio::test]
async fn commands_are_answered_in_order_and_refusals_are_receipts() {
    let server = server().await;
    let mut client = greeted(&server).await;
    for key in ["a", "b"] {
        client
            .send(&format!(r#"{{"type":"command","key":"{key}","command":{{"type":"prompt","text":"x"}}}}"#))
            .await;
    }
    client.send(r#"{"type":"command","key":"c","command":{"type":"stop"}}"#).await;
    let mut receipts = vec![];
    while receipts.len() < 3 {
        match client.frame().await {
            Frame::Receipt(receipt) => receipts.push(receipt),
            other => panic!("{other:?}"),
        }
    }
    let keys: Vec<_> = receipts.iter().map(|receipt| (receipt.key.as_str(), receipt.seq)).collect();
    assert_eq!(keys, [("a", Some(4)), ("b", Some(5)), ("c", None)]);
    assert_eq!(receipts[2].problem.as_ref().unwrap().code, ErrorCode::NotRunning);
}

#[tokio::test]
async fn a_malformed_frame_is_named_and_the_connection_stays() {
    let server = server().await;
    let mut client = greeted(&server).await;
    for bad in
        ["{", r#"{"type":"dance"}"#, r#"{"type":"command","key":"a","command":{"type":"stop","now":1}}"#]
    {
        client.send(bad).await;
        assert_eq!(client.error().await, ErrorCode::InvalidFrame, "{bad}");
    }
    client.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(client.error().await, ErrorCode::InvalidFrame);
    server.fake.publish(&entry(4));
    assert_eq!(client.frame().await, entry(4));
}

#[tokio::test]
async fn twenty_malformed_frames_end_the_connection_with_the_reason() {
    let server = server().await;
    let mut client = greeted(&server).await;
    for _ in 0..20 {
        client.send("{").await;
    }
    assert_eq!(client.closed().await, (1008, "20 malformed frames".to_owned()));
}

#[tokio::test]
async fn a_frame_over_one_mebibyte_ends_the_connection_with_the_reason() {
    let server = server().await;
    for mebibytes in [1, 3] {
        let mut client = greeted(&server).await;
        client.send(&"x".repeat(mebibytes * 1024 * 1024 + 1)).await;
        assert_eq!(client.closed().await, (1009, "a frame has at most 1 MiB".to_owned()));
    }
}

#[tokio::test]
async fn a_frame_far_over_the_limit_is_not_even_read_and_who_listens_hears_why() {
    let server = server().await;
    let (mut sink, mut source) = greeted(&server).await.0.split();
    let writing = sink.send(Message::text("x".repeat(64 * 1024 * 1024)));
    let reading = async {
        loop {
            match timeout(PATIENCE, source.next()).await.expect("a message in time") {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("closed without a reason: {other:?}"),
            }
        }
    };
    tokio::select! {
        code = reading => assert_eq!(code, 1009),
        Err(error) = writing => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_command_before_hello_is_refused_and_another_protocol_ends_the_connection() {
    let server = server().await;
    let mut client = connect(&server).await;
    client.send(r#"{"type":"command","key":"a","command":{"type":"stop"}}"#).await;
    assert_eq!(client.error().await, ErrorCode::InvalidFrame);
    client.send(r#"{"type":"hello","protocol":2}"#).await;
    assert_eq!(client.error().await, ErrorCode::InvalidFrame);
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test]
async fn a_client_that_never_says_hello_is_sent_away() {
    let server = server().await;
    let mut client = connect(&server).await;
    assert_eq!(client.closed().await, (1008, "no hello within 10 seconds".to_owned()));
}

#[tokio::test]
async fn a_session_that_cannot_be_followed_any_more_says_why_and_closes() {
    let server = server().await;
    let mut client = greeted(&server).await;
    server.fake.publish(&Frame::Error { problem: crate::fake::problem(ErrorCode::DiskFull) });
    assert_eq!(client.error().await, ErrorCode::DiskFull);
    assert_eq!(client.closed().await.0, 1011);
}

#[tokio::test]
async fn a_stopping_server_says_so() {
    let server = server().await;
    let mut client = greeted(&server).await;
    server.shutdown.cancel();
    assert_eq!(client.closed().await, (1001, "the server is stopping".to_owned()));
}

#[tokio::test]
async fn an_unknown_session_is_refused_before_the_upgrade() {
    let server = server().await;
    let request = handshake(&server, "ses_00000000010000000000000002", BEARER);
    match tokio_tungstenite::connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{other:?}"),
    }
}

/// Frames far beyond what sockets and queue hold: the client is told where to go on, and gets everything after that.
#[tokio::test]
async fn a_client_that_does_not_read_is_told_to_resume_and_loses_nothing() {
    let server = server().await;
    let mut client = greeted(&server).await;
    let text = "x".repeat(60 * 1024);
    for seq in PAST + 1..PAST + 1001 {
        let event = greenroom_domain::Event::TitleChanged { title: text.clone(), by: None };
        let entry = greenroom_domain::Entry { seq, at_ms: 1, epoch: 1, event };
        server.fake.publish(&Frame::Entry { entry });
    }
    let mut last = PAST;
    let resumes_after = loop {
        match client.frame().await {
            Frame::Entry { entry } => {
                assert_eq!(entry.seq, last + 1, "no gap");
                last = entry.seq;
            }
            Frame::Resume { after_seq, reason } => {
                assert_eq!(reason, greenroom_wire::ResumeReason::TooSlow);
                break after_seq;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resumes_after, last);
    assert!(last < PAST + 1000, "the queue was bounded");
    client.send(HELLO).await;
    assert!(matches!(client.frame().await, Frame::Hello { .. }));
}

/// A server that takes so many requests and frames of one person in a minute.
async fn slow(person_per_minute: u32) -> TestServer {
    let rates = RateLimits { person_per_minute, ..RateLimits::NONE };
    served(limited(rates, TrustedProxies::default())).await
}

impl Client {
    async fn command(&mut self, key: &str) {
        let command = r#"{"type":"prompt","text":"x"}"#;
        self.send(&format!(r#"{{"type":"command","key":"{key}","command":{command}}}"#)).await;
    }

    async fn receipt(&mut self) -> Receipt {
        match self.frame().await {
            Frame::Receipt(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_floods_a_socket_is_refused_by_receipt_and_others_go_on() {
    // Three at once: the handshake, the hello and one command; then one every five seconds.
    let server = slow(12).await;
    let (mut flood, mut other) = (greeted(&server).await, greeted_as(&server, OTHER_BEARER).await);
    for n in 0..60 {
        flood.command(&format!("flood-{n}")).await;
    }
    let mut accepted = 0;
    for _ in 0..60 {
        let Some(problem) = flood.receipt().await.problem else {
            accepted += 1;
            continue;
        };
        assert_eq!(problem.code, ErrorCode::TooManyRequests);
        assert!(problem.retry_after_s.is_some_and(|wait| wait >= 1), "{problem:?}");
        assert!(problem.hint.is_some_and(|hint| hint.starts_with("Try again in")));
    }
    assert!((1..30).contains(&accepted), "{accepted} of 60");
    let carried_out = || server.fake.commands.load(Ordering::Relaxed);
    assert_eq!(carried_out(), accepted, "what is refused is not done");
    other.command("other").await;
    assert_eq!(other.receipt().await.problem, None, "another person is not concerned");
    // The socket that flooded stays, and is told what happens.
    server.fake.publish(&entry(4));
    assert_eq!(flood.frame().await, entry(4));
}

#[tokio::test]
async fn frames_that_are_no_commands_count_too_and_a_hello_that_comes_too_fast_ends_the_socket() {
    let server = slow(12).await;
    let mut client = greeted(&server).await;
    for seq in 0..60 {
        client.send(&format!(r#"{{"type":"read","seq":{seq}}}"#)).await;
    }
    assert_eq!(client.error().await, ErrorCode::TooManyRequests);
    // The handshake was this minute's.
    let server = slow(1).await;
    let mut client = connect(&server).await;
    client.send(HELLO).await;
    assert_eq!(client.error().await, ErrorCode::TooManyRequests);
    assert_eq!(client.closed().await, (1008, "too many requests".to_owned()));
}

#[tokio::test]
async fn typing_reads_and_drafts_are_carried_out_and_of_many_only_the_newest() {
    let server = server().await;
    let mut client = connect(&server).await;
    client.send(r#"{"type":"hello","protocol":1,"after_seq":3,"client":"vscode"}"#).await;
    while !matches!(client.frame().await, Frame::CaughtUp { .. }) {}
    client.send(r#"{"type":"typing","is_typing":true}"#).await;
    for seq in 1..=50 {
        client.send(&format!(r#"{{"type":"read","seq":{seq}}}"#)).await;
    }
    client.send(r#"{"type":"draft","text":"half a","revision":7}"#).await;
    match client.frame().await {
        Frame::Draft(answer) => assert_eq!((answer.draft.revision, answer.is_refused), (8, false)),
        other => panic!("{other:?}"),
    }
    client.send(r#"{"type":"draft","text":"too late","revision":3}"#).await;
    match client.frame().await {
        Frame::Draft(answer) => assert_eq!((answer.draft.text.as_str(), answer.is_refused), ("kept", true)),
        other => panic!("{other:?}"),
    }
    let said = || server.fake.said.lock().unwrap().clone();
    let all_read = async {
        while !said().contains(&"read to 50".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all_read).await.expect("the newest is carried out");
    let reads = said().iter().filter(|said| said.starts_with("read")).count();
    assert!(reads < 10, "{reads} of 50");
    assert!(said().contains(&"vscode types: true".to_owned()), "{:?}", said());
}

#[tokio::test]
async fn what_is_said_before_hello_or_badly_is_refused() {
    let server = server().await;
    let mut client = connect(&server).await;
    client.send(r#"{"type":"typing","is_typing":true}"#).await;
    assert_eq!(client.error().await, ErrorCode::InvalidFrame);
    client.send(HELLO).await;
    while !matches!(client.frame().await, Frame::CaughtUp { .. }) {}
    for bad in [
        r#"{"type":"read"}"#,
        r#"{"type":"read","seq":-1}"#,
        r#"{"type":"draft","text":"x"}"#,
        r#"{"type":"typing","is_typing":true,"for":"ben"}"#,
        r#"{"type":"hello","protocol":1,"client":"toaster"}"#,
    ] {
        client.send(bad).await;
        assert_eq!(client.error().await, ErrorCode::InvalidFrame, "{bad}");
    }
    assert_eq!(*server.fake.said.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn who_is_signed_out_or_removed_is_told_why_and_leaves_at_once() {
    let server = server().await;
    let (mut removed, mut other) = (greeted(&server).await, greeted(&server).await);
    server.fake.change_a_strangers_rights();
    server.fake.publish(&entry(4));
    assert_eq!(removed.frame().await, entry(4), "another's rights concern nobody here");
    assert_eq!(other.frame().await, entry(4));
    server.fake.sign_everyone_out();
    for client in [&mut removed, &mut other] {
        assert_eq!(client.error().await, ErrorCode::NotSignedIn);
        assert_eq!(client.closed().await, (1008, "signed out".to_owned()));
    }
}

#[tokio::test]
async fn who_may_not_see_the_session_any_more_is_told_why_and_leaves_at_once() {
    let server = server().await;
    let mut client = greeted(&server).await;
    server.fake.shut_the_session();
    assert_eq!(client.error().await, ErrorCode::NotAllowed);
    assert_eq!(client.closed().await, (1008, "not allowed any more".to_owned()));
}

#[tokio::test]
async fn a_role_that_was_taken_away_counts_on_open_connections() {
    let server = server().await;
    let mut client = greeted(&server).await;
    let command =
        |key: &str| format!(r#"{{"type":"command","key":"{key}","command":{{"type":"prompt","text":"x"}}}}"#);
    client.send(&command("a")).await;
    assert!(matches!(client.frame().await, Frame::Receipt(receipt) if receipt.problem.is_none()));
    server.fake.demote();
    let refused = async {
        for key in 0.. {
            client.send(&command(&format!("b{key}"))).await;
            if let Frame::Receipt(receipt) = client.frame().await
                && let Some(problem) = receipt.problem
            {
                return problem.code;
            }
        }
        unreachable!()
    };
    assert_eq!(timeout(PATIENCE, refused).await.unwrap(), ErrorCode::NotAllowed);
    server.fake.publish(&entry(4));
    assert_eq!(client.frame().await, entry(4), "who may look goes on looking");
}

/// The command is carried out once, and its receipt is there for whoever asks again.
#[tokio::test]
async fn a_command_over_a_socket_that_drops_is_carried_out() {
    let server = server().await;
    let mut client = greeted(&server).await;
    client.send(r#"{"type":"command","key":"a","command":{"type":"prompt","text":"x"}}"#).await;
    drop(client);
    let done = async {
        while server.fake.commands.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, done).await.expect("it is carried out");
}

#[tokio::test]
async fn a_window_that_is_asked_for_in_hello_is_what_the_session_is_read_by() {
    let server = server().await;
    let mut client = connect(&server).await;
    client.send(r#"{"type":"hello","protocol":1,"after_seq":0,"window":1}"#).await;
    assert!(matches!(client.frame().await, Frame::Hello { .. }));
    assert_eq!(client.frame().await, entry(PAST));
}

/// Every one of its frames is refused, and no refusal is taken: what it sends waits in the end where it is.
#[tokio::test]
async fn a_client_that_sends_and_does_not_read_is_read_no_further() {
    const FRAMES: u64 = 100_000;
    let rates = greenroom_api::RateLimits { person_per_minute: 60, address_per_minute: 0 };
    let server = server_limited_by(rates).await;
    let client = greeted(&server).await;
    let (mut sink, mut source) = client.0.split();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let text = "x".repeat(2048);
    let sending = tokio::spawn(async move {
        for at in 0..FRAMES {
            let command =
                format!(r#"{{"type":"command","key":"{at}","command":{{"type":"prompt","text":"{text}"}}}}"#);
            if sink.send(Message::text(command)).await.is_err() {
                return;
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut before = 0;
    // As many in a row without one more: it waits for the server.
    let mut quiet = 0;
    while quiet < 20 && !sending.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = sent.load(Ordering::Relaxed);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    assert!(before < FRAMES, "the server took all of it");
    // Nothing is lost: who begins to read gets the answers.
    for _ in 0..200 {
        let message = timeout(PATIENCE, source.next()).await.expect("a message in time").unwrap().unwrap();
        let frame: Frame = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert!(matches!(frame, Frame::Receipt(_)), "{frame:?}");
    }
    sending.abort();
}
