//! Whole connections as a hostile sandbox makes them, against the real broker: heads of HTTP in every shape. Whatever is
//! sent, it is answered or closed in words of HTTP, nothing is dialled, and the next connection is served.
#![allow(clippy::unwrap_used)]

mod support;

mod fuzz {
    use crate::support::{World, read_all};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::cell::Cell;
    use tokio::io::AsyncWriteExt;
    use tokio::runtime::Runtime;

    fn one_of(texts: &[&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
        prop::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec())
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..40),
            (any::<u8>(), 1..40_000_usize).prop_map(|(byte, times)| vec![byte; times]),
            one_of(&["", "\n", "\0", "\r\n\r\n", " folded\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
        ]
    }

    /// A part of a request, mostly as it should be.
    fn part(texts: &[&'static str]) -> impl Strategy<Value = Vec<u8>> + use<> {
        prop_oneof![30 => Just(texts[0].as_bytes().to_vec()), 20 => one_of(texts), 1 => noise()]
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let methods = ["GET ", "POST ", "CONNECT ", "OPTIONS ", "TRACE ", "get ", "G\0T "];
        let targets = [
            "/",
            "*",
            "http://evil.example/",
            "evil.example:443",
            "http://u:p@evil.example:22/",
            "ftp://x/",
            "//",
            "http:///",
        ];
        let versions = [" HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.0\r\n", " HTTP/9.9\r\n"];
        let hosts = [
            "Host: evil.example\r\n",
            "Host: evil.example:8080\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host:\r\n",
            "Host: 127.0.0.1:22\r\n",
            "Host: git.greenroom.internal\r\n",
            "Host: x.secret.greenroom.internal\r\n",
            "Host: a b\r\n",
            "",
        ];
        let headers = [
            "X: y\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            "Connection: close\r\n",
            "Expect: 100-continue\r\n",
            "X: y\r\n",
        ];
        let bodies = ["", "hello", "5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffffff\r\n", "-1\r\n"];
        let line = (part(&methods), part(&targets), part(&versions));
        (line, part(&hosts), vec(part(&headers), 0..4), part(&["\r\n"]), part(&bodies)).prop_map(
            |((method, target, version), host, headers, end, body)| {
                [method, target, version, host, headers.concat(), end, body].concat()
            },
        )
    }

    /// Everything is sent, as far as it is taken, and then nothing more; answers all that came back.
    async fn exchange(world: &World, port: u16, bytes: &[u8]) -> Vec<u8> {
        let (mut reading, mut writing) = tokio::io::split(world.connect(port));
        let sending = async {
            // The other side may close before it has all.
            let _ = writing.write_all(bytes).await;
            let _ = writing.shutdown().await;
        };
        tokio::join!(read_all(&mut reading), sending).0
    }

    #[test]
    fn any_head_is_answered_in_http_or_closed_and_reaches_nothing() {
        let runtime = Runtime::new().unwrap();
        let _inside = runtime.enter();
        let world = World::new();
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let sent = (prop::sample::select(vec![80_u16, 3128]), vec(request(), 0..4));
        let met = Cell::new([0_usize; 600]);
        let tried = runner.run(&sent, |(port, requests)| {
            let answer = runtime.block_on(exchange(&world, port, &requests.concat()));
            prop_assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1."),
                "{:?}",
                String::from_utf8_lossy(&answer)
            );
            // What was refused: nothing here is allowed.
            for head in answer.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"HTTP/1.")) {
                let status = std::str::from_utf8(&head[9..12]).unwrap().parse::<usize>().unwrap();
                prop_assert!(matches!(status, 100 | 400..600), "{status}");
                let mut counts = met.get();
                counts[status] += 1;
                met.set(counts);
            }
            Ok(())
        });
        tried.unwrap();
        let counts = met.get();
        assert!(
            counts[400] > 10 && counts[403] > 10,
            "the made-up heads meet neither parser nor policy: {counts:?}"
        );
        let after = runtime
            .block_on(world.ask(80, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"));
        assert!(after.starts_with("HTTP/1.1 403"), "{after}");
    }
}
