//! The client against a server that answers byte for byte what each test scripts, one connection after the other.

#![allow(clippy::unwrap_used)]

use futures::StreamExt;
use greenroom_client::{Address, Client, Credential, Error, Patience, TokenSource};
use greenroom_domain::{Entry, ErrorCode, Event, SessionId};
use greenroom_wire::Frame;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// Serves one answer per connection, then stops listening. Gives the heads of the requests.
async fn scripted(answers: Vec<String>) -> (Client, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (heads, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            heads.send(read_head(&mut connection).await).unwrap();
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (Client::new(address, Credential::Token("grt_secret".to_owned())).unwrap(), seen)
}

async fn read_head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn entry(seq: u64) -> String {
    let event = Event::TitleChanged { title: format!("title {seq}"), by: None };
    let frame = Frame::Entry { entry: Entry { seq, at_ms: 1, epoch: 1, event } };
    format!("event: entry\nid: {seq}\ndata: {}\n\n", serde_json::to_string(&frame).unwrap())
}

fn refusal(status: &str, code: &str) -> String {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"No.","request_id":"req_1"}}}}"#);
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn session() -> SessionId {
    SessionId::from_parts(1, 1)
}

fn quick() -> Patience {
    let ms = Duration::from_millis;
    Patience { first_pause: ms(1), longest_pause: ms(5), give_up_after: ms(300) }
}

fn seqs(frames: &[Result<Frame, Error>]) -> Vec<u64> {
    let seq = |frame: &Result<Frame, Error>| match frame {
        Ok(Frame::Entry { entry }) => Some(entry.seq),
        _ => None,
    };
    frames.iter().filter_map(seq).collect()
}

#[tokio::test]
async fn a_broken_stream_goes_on_after_the_last_entry_without_loss_or_repetition() {
    let cut = format!("{STREAM}{}{}: keep-alive\n\ndata: {{\"type\":\"ent", entry(1), entry(2));
    let overlapping = format!("{STREAM}{}{}", entry(2), entry(3));
    let with_gap = format!("{STREAM}{}", entry(5));
    let rest = format!("{STREAM}{}{}", entry(4), entry(5));
    let gone = refusal("404 Not Found", "session_unknown");
    let (client, mut heads) = scripted(vec![cut, overlapping, with_gap, rest, gone]).await;

    let frames: Vec<_> = client.follow_with(session(), 0, quick()).collect().await;

    assert_eq!(seqs(&frames), [1, 2, 3, 4, 5]);
    let Some(Err(Error::Problem(view))) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(view.code, ErrorCode::SessionUnknown);
    for after in [0, 2, 3, 3, 5] {
        let head = heads.recv().await.unwrap();
        assert!(head.contains(&format!("stream?after={after}&")), "{head}");
        assert!(head.contains("authorization: Bearer grt_secret"), "{head}");
    }
}

#[tokio::test]
async fn a_stream_that_worked_gives_up_with_the_reason_when_the_server_stays_away() {
    let (client, _heads) = scripted(vec![format!("{STREAM}{}", entry(1))]).await;
    let frames: Vec<_> = client.follow_with(session(), 0, quick()).collect().await;
    assert_eq!(seqs(&frames), [1]);
    let Some(Err(error)) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(error.to_string().split(": ").last(), Some("nothing listens there."), "{error}");
}

#[tokio::test]
async fn a_server_that_was_never_there_is_said_at_once() {
    let (client, _heads) = scripted(vec![]).await;
    tokio::task::yield_now().await;
    let frames: Vec<_> = client.follow(session(), 0).collect().await;
    assert!(matches!(frames.as_slice(), [Err(Error::Unreachable { .. })]), "{frames:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_a_protocol_error() {
    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>".to_owned();
    let (client, _heads) = scripted(vec![page]).await;
    let error = client.sessions().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    assert!(error.into_view().hint.unwrap().contains("version"));
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_words_and_request_id() {
    let (client, _heads) = scripted(vec![refusal("403 Forbidden", "self_approval")]).await;
    let view = client.me().await.unwrap_err().into_view();
    assert_eq!((view.code, view.message.as_str()), (ErrorCode::SelfApproval, "No."));
    assert_eq!(view.request_id, "req_1");
}

async fn after_a_refused_renewal(source: TokenSource) -> (Vec<Result<Frame, Error>>, Vec<String>) {
    let answers = vec![
        format!("{STREAM}{}", entry(1)),
        refusal("401 Unauthorized", "not_signed_in"),
        format!("{STREAM}{}", entry(2)),
    ];
    let (client, mut seen) = scripted(answers).await;
    let client = client.with_credential(Credential::Renewed(source));
    let frames: Vec<_> = client.follow_with(session(), 0, quick()).take(2).collect().await;
    let mut heads = vec![];
    while let Ok(head) = seen.try_recv() {
        heads.push(head);
    }
    (frames, heads)
}

#[tokio::test]
async fn a_token_that_was_made_anew_meanwhile_is_tried_and_the_same_one_is_not() {
    let made = AtomicU32::new(0);
    let anew = TokenSource::new(move || Some(format!("grt_{}", made.fetch_add(1, Ordering::Relaxed))));
    let (frames, heads) = after_a_refused_renewal(anew).await;
    assert_eq!(seqs(&frames), [1, 2]);
    assert_eq!(heads.len(), 3);
    let same = TokenSource::new(|| Some("grt_same".to_owned()));
    let (frames, heads) = after_a_refused_renewal(same).await;
    assert!(matches!(&frames[1], Err(Error::Problem(view)) if view.code == ErrorCode::NotSignedIn));
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|head| head.contains("authorization: Bearer grt_same")));
}
