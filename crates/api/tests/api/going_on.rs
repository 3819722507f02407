//! What goes on when its client has left: it counts as in flight, and a server that stops waits for it.

use crate::fake::{Fake, app, by_token, error_of, server_of};
use axum::body::Body;
use futures::poll;
use greenroom_domain::ErrorCode;
use http::{Request, StatusCode};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const COMMANDS: &str = "/api/v1/sessions/ses_00000000010000000000000001/commands";
const COMMAND: &str = r#"{"key":"a","command":{"type":"prompt","text":"x"}}"#;
const PATIENCE: Duration = Duration::from_secs(20);

fn command() -> Request<Body> {
    by_token("POST", COMMANDS).header("content-type", "application/json").body(Body::from(COMMAND)).unwrap()
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let waited = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect(what);
}

fn begun(fake: &Fake) -> u64 {
    fake.begun.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_goes_on_without_its_client_is_still_in_flight() {
    let app = app();
    app.fake.is_held.send_replace(true);
    for at in 1..=64 {
        {
            let mut sending = pin!(app.send(command()));
            assert!(poll!(&mut sending).is_pending());
        }
        until("it goes on without its client", || begun(&app.fake) == at).await;
    }
    let refused = tokio::time::timeout(PATIENCE, app.send(command())).await.expect("it is refused at once");
    let (status, error) = error_of(refused).await;
    assert_eq!((status, error.code), (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests));
    app.fake.is_held.send_replace(false);
    until("they are carried out", || app.fake.commands.load(Ordering::Relaxed) == 64).await;
    let again = async {
        while app.send(command()).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test]
async fn a_server_that_stops_waits_for_what_goes_on_without_its_client() {
    let (server, serving) = server_of(app()).await;
    server.fake.is_held.send_replace(true);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let bearer = crate::fake::BEARER;
    let head = format!(
        "POST {COMMANDS} HTTP/1.1\r\nhost: {}\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{COMMAND}",
        crate::fake::HOST,
        COMMAND.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    until("it is begun", || begun(&server.fake) == 1).await;
    drop(client);
    server.shutdown.cancel();
    let fake = std::sync::Arc::clone(&server.fake);
    let address = server.address;
    tokio::spawn(async move {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // The connection is gone, and nobody listens any more.
        tokio::time::sleep(Duration::from_millis(50)).await;
        fake.is_held.send_replace(false);
    });
    serving.await.unwrap().unwrap();
    assert_eq!(server.fake.commands.load(Ordering::Relaxed), 1);
}
