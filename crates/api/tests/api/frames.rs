//! Bytes that no WebSocket client sends, on the session's socket: whatever comes, the server stays, and keeps neither a
//! task nor a viewer nor memory of it. Short in ordinary tests; `cargo xtask soak frames` runs many more cases.

use crate::fake::{BEARER, TestServer, server};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

const HELLO: &str = r#"{"type":"hello","protocol":1,"after_seq":0}"#;
const PATIENCE: Duration = Duration::from_secs(30);
/// What buffers, the allocator and the tests beside this one may keep.
const KEPT_MB: usize = 96;
/// The server itself, and who looks after the one credential for a while.
const KEPT_TASKS: usize = 2;

#[derive(Clone, Debug)]
enum Does {
    Bytes(Vec<u8>),
    Frame(RawFrame),
    Hellos(u16),
    Pings(u16),
    Text(String),
    /// A hello in so many fragments.
    Fragments(u8),
}

#[derive(Clone, Debug)]
struct RawFrame {
    first: u8,
    is_masked: bool,
    payload: Vec<u8>,
    /// Another length than the payload's.
    declared: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Says no more, and reads to the end.
    InOrder,
    AtOnce,
}

impl RawFrame {
    fn text(first: u8, payload: &[u8]) -> Self {
        Self { first, is_masked: true, payload: payload.to_vec(), declared: None }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.first];
        let mask_bit = u8::from(self.is_masked) << 7;
        match self.declared.unwrap_or(self.payload.len() as u64) {
            length @ 0..126 => bytes.push(mask_bit | length as u8),
            length @ 126..65_536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        let mask = if self.is_masked { [1, 2, 3, 4] } else { [0; 4] };
        if self.is_masked {
            bytes.extend(mask);
        }
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }
}

impl Does {
    fn bytes(&self) -> Vec<u8> {
        let many = |count: u16, frame: &RawFrame| frame.bytes().repeat(count.into());
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Frame(frame) => frame.bytes(),
            Self::Hellos(count) => many(*count, &RawFrame::text(0x81, HELLO.as_bytes())),
            Self::Pings(count) => many(*count, &RawFrame::text(0x89, b"ping")),
            Self::Text(text) => RawFrame::text(0x81, text.as_bytes()).bytes(),
            Self::Fragments(count) => {
                let size = HELLO.len().div_ceil(usize::from(*count).max(1));
                let pieces: Vec<_> = HELLO.as_bytes().chunks(size).collect();
                let last = pieces.len() - 1;
                let first = |at: usize| u8::from(at == last) << 7 | u8::from(at == 0);
                pieces
                    .iter()
                    .enumerate()
                    .flat_map(|(at, piece)| RawFrame::text(first(at), piece).bytes())
                    .collect()
            }
        }
    }
}

fn raw_frame() -> impl Strategy<Value = RawFrame> {
    let declared = prop_oneof![
        4 => Just(None),
        1 => any::<u64>().prop_map(Some),
        1 => prop_oneof![Just(126), Just(65_536), Just(1 << 22), Just(1 << 40), Just(u64::MAX)].prop_map(Some),
    ];
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (60_000..200_000_usize).prop_map(|length| vec![b'x'; length]),
    ];
    (any::<u8>(), prop::bool::weighted(0.8), payload, declared)
        .prop_map(|(first, is_masked, payload, declared)| RawFrame { first, is_masked, payload, declared })
}

fn does() -> impl Strategy<Value = Does> {
    let said = prop_oneof![
        Just(HELLO.to_owned()),
        Just(r#"{"type":"command","key":"k","command":{"type":"prompt","text":"x"}}"#.to_owned()),
        (1..5_000_usize).prop_map(|depth| "[".repeat(depth)),
        ".{0,60}",
    ];
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..600).prop_map(Does::Bytes),
        6 => raw_frame().prop_map(Does::Frame),
        1 => (1..1_500_u16).prop_map(Does::Hellos),
        1 => (1..3_000_u16).prop_map(Does::Pings),
        3 => said.prop_map(Does::Text),
        2 => (1..40_u8).prop_map(Does::Fragments),
    ]
}

fn leaves() -> impl Strategy<Value = Leaves> {
    prop_oneof![Just(Leaves::InOrder), Just(Leaves::AtOnce)]
}

/// Frames count as requests: who sent very many waits until there may be one more.
async fn connect(server: &TestServer) -> TcpStream {
    let connected = async {
        loop {
            match handshake(server).await {
                Some(stream) => return stream,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(PATIENCE, connected).await.expect("a connection in time")
}

/// `None` when it comes too soon.
async fn handshake(server: &TestServer) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = format!(
        "GET /api/v1/sessions/ses_00000000010000000000000001/socket HTTP/1.1\r\nhost: {}\r\nauthorization: {BEARER}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap());
    }
    let text = String::from_utf8_lossy(&head);
    let is_too_soon = text.starts_with("HTTP/1.1 429") && text.contains("retry-after");
    assert!(is_too_soon || text.starts_with("HTTP/1.1 101"), "{text}");
    (!is_too_soon).then_some(stream)
}

async fn play(server: &TestServer, steps: &[Does], leaves: Leaves) {
    let (mut from, mut to) = connect(server).await.into_split();
    let writing = async move {
        for step in steps {
            // The server may have closed it already, which is an answer.
            if to.write_all(&step.bytes()).await.is_err() {
                break;
            }
        }
        if matches!(leaves, Leaves::InOrder) {
            let _ = to.shutdown().await;
        }
        to
    };
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        while matches!(from.read(&mut buffer).await, Ok(1..)) {}
    };
    match leaves {
        Leaves::InOrder => {
            let both = async { tokio::join!(writing, reading) };
            timeout(PATIENCE, both).await.expect("the server ends a connection whose client is done");
        }
        // With what was sent perhaps still unread.
        Leaves::AtOnce => drop(timeout(PATIENCE, writing).await),
    }
}

/// Waits for what must become true.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

fn resident_mb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().split(' ').next().unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn whatever_is_sent_the_server_stays_and_keeps_nothing_of_it() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(server());
    // Once, for what is made at the first use.
    runtime.block_on(play(&server, &[Does::Hellos(100)], Leaves::InOrder));
    let tasks = || Handle::metrics(runtime.handle()).num_alive_tasks();
    runtime.block_on(until("the first connection ends", || tasks() <= KEPT_TASKS));
    let before = resident_mb();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = (prop::collection::vec(does(), 1..8), leaves());
    let result = TestRunner::new(config).run(&cases, |(steps, leaves)| {
        runtime.block_on(play(&server, &steps, leaves));
        Ok::<_, TestCaseError>(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    runtime.block_on(async {
        until("every connection's task ends", || tasks() <= KEPT_TASKS).await;
        server.fake.publish(&crate::fake::entry(9));
        assert_eq!(server.fake.viewers(), 0, "nobody watches any more");
        // As many as one person may have at a time: none is still counted.
        let mut open = vec![];
        for _ in 0..256 {
            open.push(connect(&server).await);
        }
    });
    let kept = resident_mb().saturating_sub(before);
    assert!(kept < KEPT_MB, "{kept} MB were kept");
}
