//! What sandboxes send out, against loopback servers: names decide, addresses are checked, refusals are words.
#![allow(clippy::unwrap_used)]

mod support;

use greenroom_broker::{AllowRule, DenyReason, UpstreamProxy};
use greenroom_sandbox::EgressHandler;
use std::{sync::Arc, time::Duration};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

fn rule(text: &str) -> AllowRule {
    AllowRule::parse(text).unwrap()
}

fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_host_that_no_rule_allows_is_refused_with_what_to_write() {
    let world = World::new();
    let answer = world.ask(80, "GET / HTTP/1.1\r\nHost: Example.com\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("may not reach example.com:80"), "{answer}");
    assert!(answer.contains("[egress]\nallow = [\"example.com\"]"), "{answer}");
    world.ask(80, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").await;
    assert_eq!(world.denials(), [("example.com".to_owned(), 80, DenyReason::NotAllowed)], "told once");
}

#[tokio::test]
async fn an_allowed_request_reaches_its_host_without_headers_of_the_connection() {
    let world = World::new();
    let (port, seen) = server(OK).await;
    world.name("mirror.corp", "127.0.0.1");
    world.allow(&[rule(&format!("mirror.corp:{port}")).private()]);
    let head = format!(
        "GET http://mirror.corp:{port}/simple?a=b HTTP/1.1\r\nHost: other.org\r\nProxy-Authorization: Basic x\r\n\
         Connection: close, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\n"
    );
    let answer = world.ask(3128, &head).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    assert!(seen.starts_with("GET /simple?a=b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("Host: mirror.corp:{port}\r\n")) && seen.contains("X-Kept: 2"), "{seen}");
    assert!(!seen.contains("X-Hop") && !seen.contains("Basic") && !seen.contains("other.org"), "{seen}");
}

#[tokio::test]
async fn every_request_of_a_kept_connection_is_checked() {
    let world = World::new();
    let (port, seen) = server(OK).await;
    world.name("mirror.corp", "127.0.0.1");
    world.allow(&[rule(&format!("mirror.corp:{port}")).private()]);
    let both = "GET / HTTP/1.1\r\nHost: mirror.corp\r\n\r\nGET / HTTP/1.1\r\nHost: evil.org\r\nConnection: close\r\n\r\n";
    let answer = world.ask(port, both).await;
    assert!(answer.contains("200 OK") && answer.contains("403 Forbidden"), "{answer}");
    assert_eq!(seen.lock().unwrap().windows(4).filter(|part| *part == b"evil").count(), 0);
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let world = World::new();
    for head in [
        "GET / HTTP/1.1\r\nHost: a.org\r\nHost: b.org\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET http://a.org/ HTTP/1.1\r\nHost: b.org\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "CONNECT a.org:443 HTTP/1.1\r\nHost: a.org\r\n\r\n",
    ] {
        let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answer = world.ask(80, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a.org\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let mut stream = world.connect(80);
    let _ = stream.write_all(long.as_bytes()).await;
    let answer = String::from_utf8_lossy(&read_all(&mut stream).await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn tls_to_an_allowed_name_passes_untouched() {
    let world = World::new();
    let (port, seen) = server(b"server hello").await;
    world.name("mirror.corp", "127.0.0.1");
    world.allow(&[rule(&format!("mirror.corp:{port}")).private()]);
    let hello = hello("mirror.corp");
    let mut stream = world.connect(port);
    for part in hello.chunks(7) {
        stream.write_all(part).await.unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"server hello");
    assert_eq!(*seen.lock().unwrap(), hello);
}

#[tokio::test]
async fn tls_with_another_name_or_none_is_refused_by_an_alert() {
    let world = World::new();
    world.allow(&[rule("mirror.corp")]);
    world.name("evil.org", "127.0.0.1");
    assert_eq!(world.exchange(443, &hello("evil.org")).await, ACCESS_DENIED);
    assert_eq!(world.exchange(443, &hello("192.0.2.1")).await, ACCESS_DENIED);
    assert_eq!(world.exchange(443, b"GET / HTTP/1.1\r\n\r\n").await, ACCESS_DENIED);
    let denials = world.denials();
    assert_eq!(denials[0], ("evil.org".to_owned(), 443, DenyReason::NotAllowed));
    assert_eq!(denials[1], ("198.18.0.7".to_owned(), 443, DenyReason::NoServerName));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_after_it_is_resolved() {
    let world = World::new();
    let (port, seen) = server(OK).await;
    world.allow(&[rule(&format!("rebind.org:{port}")), rule(&format!("*.org:{port}")).private()]);
    for inside in ["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"] {
        world.name("rebind.org", inside);
        let head = format!("GET http://rebind.org:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = world.ask(3128, &head).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not public"), "{inside}: {answer}");
        let answer = world
            .ask(3128, &format!("CONNECT rebind.org:{port} HTTP/1.1\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{inside}: {answer}");
        assert!(world.exchange(port, &hello("rebind.org")).await.is_empty());
    }
    assert!(seen.lock().unwrap().is_empty(), "nothing reached the inside");
    assert_eq!(world.denials(), [("rebind.org".to_owned(), port, DenyReason::PrivateAddress)]);
}

#[tokio::test]
async fn connect_tunnels_to_what_is_allowed_and_nothing_else() {
    let world = World::new();
    let (port, seen) = server(b"pong").await;
    world.name("mirror.corp", "127.0.0.1");
    world.allow(&[rule(&format!("mirror.corp:{port}")).private()]);
    let mut stream = world.connect(3128);
    stream.write_all(format!("CONNECT mirror.corp:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = [0u8; 64];
    let read = stream.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 200"));
    stream.write_all(b"ping").await.unwrap();
    assert!(read_all(&mut stream).await.ends_with(b"pong"));
    assert_eq!(*seen.lock().unwrap(), b"ping");
    let refused = world.ask(3128, "CONNECT evil.org:443 HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("evil.org:443"), "{refused}");
}

#[tokio::test]
async fn ssh_is_refused_and_an_exact_address_rule_opens_a_port() {
    let world = World::new();
    let (port, seen) = server(b"banner").await;
    assert!(world.exchange(22, b"SSH-2.0-x\r\n").await.is_empty());
    assert_eq!(world.denials(), [("198.18.0.7".to_owned(), 22, DenyReason::UnknownProtocol)]);
    world.allow(&[rule(&format!("127.0.0.1:{port}")).private()]);
    let mut origin = world.origin(port);
    origin.destination.set_ip("127.0.0.1".parse().unwrap());
    let mut stream = world.connect_from(origin);
    stream.write_all(b"anything").await.unwrap();
    assert_eq!(read_all(&mut stream).await, b"banner");
    assert_eq!(*seen.lock().unwrap(), b"anything");
    assert!(world.exchange(port, b"\x00binary").await.is_empty(), "another address on that port");
}

#[tokio::test]
async fn a_sandbox_without_a_policy_gets_nothing() {
    let world = World::new();
    let mut origin = world.origin(80);
    origin.generation = 2;
    let mut stream = world.connect_from(origin.clone());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(answer.contains("403") && answer.contains("no longer part of a session"), "{answer}");
    origin.destination.set_port(443);
    let mut stream = world.connect_from(origin);
    assert_eq!(read_all(&mut stream).await, ACCESS_DENIED);
}

#[tokio::test]
async fn connections_of_one_sandbox_are_bounded_and_freed() {
    let world = World::new();
    let held: Vec<_> = (0..256).map(|_| world.connect(80)).collect();
    // Tasks start in order on this runtime: when the last answers nothing and closes, all before are counted.
    let mut one_more = world.connect(80);
    assert!(read_all(&mut one_more).await.is_empty());
    drop(held);
    let free = async {
        loop {
            let mut stream = world.connect(80);
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n").await;
            if !read_all(&mut stream).await.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), free).await.expect("slots are freed");
}

#[tokio::test]
async fn the_hosts_own_proxy_is_used_for_tunnels() {
    let (port, seen) = server(b"HTTP/1.1 200 Connection established\r\n\r\nserver hello").await;
    let proxy = format!("http://ann:secret@127.0.0.1:{port}");
    let world = World::with_proxy(UpstreamProxy::from_environment(|name| {
        (name == "HTTPS_PROXY").then(|| proxy.clone())
    }));
    world.allow(&[rule("example.com")]);
    let mut stream = world.connect(443);
    stream.write_all(&hello("example.com")).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"server hello");
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(seen.starts_with("CONNECT example.com:443 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("Proxy-Authorization: Basic YW5uOnNlY3JldA=="), "{seen}");
}

#[tokio::test]
async fn dns_answers_without_asking_anybody() {
    let world = World::new();
    let query =
        [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x03org\x00", &[0, 1, 0, 1]].concat();
    let answer = world.broker.dns(world.origin(53), query).await.unwrap();
    assert_eq!(answer[..2], [0x12, 0x34]);
    assert_eq!(u16::from_be_bytes([answer[6], answer[7]]), 1, "one answer");
    assert!(world.broker.dns(world.origin(53), b"noise".to_vec()).await.is_none());
}

#[tokio::test]
async fn a_rule_with_a_port_opens_it_by_name_to_any_protocol() {
    let world = World::new();
    let (port, seen) = server(b"ready").await;
    world.name("db.corp", "127.0.0.1");
    world.allow(&[rule(&format!("db.corp:{port}")).private(), rule("other.corp")]);
    // As the sandbox learns the address: by asking our DNS.
    let resolved = |name: &'static str, kind: u8| {
        let labels: Vec<u8> =
            name.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
        [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels, &[0, 0, kind, 0, 1]].concat()
    };
    let answer = world.broker.dns(world.origin(53), resolved("db.corp", 1)).await.unwrap();
    let v4: [u8; 4] = answer[answer.len() - 4..].try_into().unwrap();
    let answer = world.broker.dns(world.origin(53), resolved("db.corp", 28)).await.unwrap();
    let v6: [u8; 16] = answer[answer.len() - 16..].try_into().unwrap();
    for address in [std::net::IpAddr::from(v4), std::net::IpAddr::from(v6)] {
        let mut origin = world.origin(port);
        origin.destination.set_ip(address);
        let mut stream = world.connect_from(origin.clone());
        stream.write_all(b"\x00binary").await.unwrap();
        assert_eq!(read_all(&mut stream).await, b"ready", "{address}");
        origin.destination.set_port(port ^ 1);
        let mut other = world.connect_from(origin);
        other.write_all(b"\x00binary").await.unwrap();
        assert!(read_all(&mut other).await.is_empty(), "another port");
    }
    assert_eq!(*seen.lock().unwrap(), b"\x00binary\x00binary");
    world.name("db.corp", "169.254.169.254");
    world.allow(&[rule(&format!("db.corp:{port}"))]);
    let mut origin = world.origin(port);
    origin.destination.set_ip(v4.into());
    assert!(read_all(&mut world.connect_from(origin)).await.is_empty(), "rebinding is refused here too");
    assert!(world.denials().contains(&("db.corp".to_owned(), port, DenyReason::PrivateAddress)));
}
