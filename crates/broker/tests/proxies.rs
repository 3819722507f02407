//! Proxies between this host and the outside: what they are told, and what is checked before.
#![allow(clippy::unwrap_used, reason = "tests say what went wrong by panicking")]

mod support;

use greenroom_broker::{AllowRule, UpstreamProxy};
use std::sync::{Arc, Mutex};
use support::tls::identity;
use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

fn proxy(url: String) -> UpstreamProxy {
    UpstreamProxy::from_environment(move |name| (name == "ALL_PROXY").then(|| url.clone()))
}

fn rule(text: &str) -> AllowRule {
    AllowRule::parse(text).unwrap()
}

/// A SOCKS 5 server that wants user and password, connects nowhere and answers `pong`; keeps the requests it got.
async fn socks() -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let _ = serve_socks(stream, &kept).await;
            });
        }
    });
    (port, seen)
}

async fn serve_socks(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 2]);
    stream.write_all(&[5, 2]).await?;
    let mut login = [0; 12];
    stream.read_exact(&mut login).await?;
    assert_eq!(&login, b"\x01\x03ann\x06secret");
    stream.write_all(&[1, 0]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = match head[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await?),
    };
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).await?;
    seen.lock().unwrap().push([&head[3..], &rest].concat());
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let mut ping = [0; 4];
    stream.read_exact(&mut ping).await?;
    stream.write_all(b"pong").await?;
    stream.shutdown().await
}

async fn ping(world: &World, host: &str) -> Vec<u8> {
    let mut stream = world.connect(3128);
    stream.write_all(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return head;
    }
    stream.write_all(b"ping").await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test]
async fn a_socks_proxy_is_given_the_checked_address() {
    let (port, seen) = socks().await;
    let world = World::with_proxy(proxy(format!("socks5://ann:secret@127.0.0.1:{port}")));
    world.allow(&[rule("example.com"), rule("rebind.org")]);
    world.name("example.com", "203.0.113.9");
    world.name("rebind.org", "169.254.169.254");
    assert_eq!(ping(&world, "example.com").await, b"pong");
    assert_eq!(*seen.lock().unwrap(), [[&[1, 203, 0, 113, 9][..], &443u16.to_be_bytes()].concat()]);
    assert!(ping(&world, "rebind.org").await.starts_with(b"HTTP/1.1 403"), "checked as without a proxy");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_socks_proxy_that_resolves_is_given_the_name_and_literal_addresses_are_checked() {
    let (port, seen) = socks().await;
    let world = World::with_proxy(proxy(format!("socks5h://ann:secret@127.0.0.1:{port}")));
    world.allow(&[rule("example.com"), rule("10.0.0.1")]);
    assert_eq!(ping(&world, "example.com").await, b"pong");
    assert_eq!(seen.lock().unwrap()[0], [&b"\x03example.com"[..], &443u16.to_be_bytes()].concat());
    assert!(ping(&world, "10.0.0.1").await.starts_with(b"HTTP/1.1 403"));
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_is_spoken_to_in_tls() {
    let (root, config) = identity(&["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<Mutex<String>>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            kept.lock().unwrap().push_str(&String::from_utf8(head).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    let world = World::with(proxy(format!("https://ann:secret@localhost:{port}")), vec![root]);
    world.allow(&[rule("example.com")]);
    assert_eq!(ping(&world, "example.com").await, b"pong");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.starts_with("CONNECT example.com:443 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("Proxy-Authorization: Basic YW5uOnNlY3JldA=="), "{seen}");
    let stranger = World::with(proxy(format!("https://localhost:{port}")), vec![]);
    stranger.allow(&[rule("example.com")]);
    assert!(
        ping(&stranger, "example.com").await.starts_with(b"HTTP/1.1 502"),
        "an unknown proxy is not believed"
    );
}
