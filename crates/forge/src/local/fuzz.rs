//! What a hostile git client may send in front of a pack: pkt-lines and the commands of a push. `cargo test` takes the same
//! few cases each time; `cargo xtask soak fuzz` many.

use super::pkt::{self, Packet, PktError};
use super::receive::{MOST_COMMANDS, RefUpdate, read_request};
use crate::smart_http::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const LONGEST: usize = 65_516;

/// Of bytes in memory, which nothing has to wait for.
fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("memory made us wait"),
    }
}

/// Every packet up to the one that is refused.
fn packets(mut from: &[u8]) -> (Vec<Packet>, PktError) {
    let mut read = vec![];
    loop {
        match now(pkt::read(&mut from)) {
            Ok(packet) => read.push(packet),
            Err(error) => return (read, error),
        }
    }
}

fn written(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = vec![];
    for packet in packets {
        match packet {
            Packet::Flush => pkt::flush(&mut bytes),
            Packet::Special(kind) => bytes.extend_from_slice(format!("000{kind}").as_bytes()),
            Packet::Data(data) => pkt::write(&mut bytes, data),
        }
    }
    bytes
}

fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        Just(()).prop_map(|()| Packet::Flush),
        (1..=3_u8).prop_map(Packet::Special),
        vec(any::<u8>(), 0..300).prop_map(Packet::Data),
        (any::<u8>(), LONGEST - 3..=LONGEST).prop_map(|(byte, length)| Packet::Data(vec![byte; length])),
    ]
}

fn update() -> impl Strategy<Value = RefUpdate> {
    ("[0-9a-f]{40}", "[0-9a-f]{40}", "refs/heads/[a-z/ ]{1,20}").prop_map(|(old, new, name)| RefUpdate {
        old,
        new,
        name,
    })
}

fn is_hash(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Taken or refused; what is taken is bounded and of the shape that the checks behind it rely on.
fn is_bounded_or_refused(bytes: &[u8]) {
    let mut from = bytes;
    if let Ok(request) = now(read_request(&mut from)) {
        assert!(request.updates.len() <= MOST_COMMANDS);
        for update in &request.updates {
            assert!(is_hash(&update.old) && is_hash(&update.new) && !update.name.is_empty(), "{update:?}");
            assert!(!update.name.contains('\0'), "{update:?}");
        }
    }
}

proptest! {
    #[test]
    fn packets_are_the_same_after_their_framing(sent in vec(packet(), 0..12)) {
        let (read, end) = packets(&written(&sent));
        prop_assert_eq!(read, sent);
        prop_assert!(matches!(end, PktError::Ended(_)));
    }

    #[test]
    fn any_bytes_are_packets_or_refused(bytes in vec(any::<u8>(), 0..2000), begin in "[0-9a-fA-F]{4}") {
        for bytes in [bytes.clone(), [begin.as_bytes(), &bytes].concat()] {
            let (read, _) = packets(&bytes);
            let kept: usize = read.iter().map(|packet| if let Packet::Data(data) = packet { data.len() } else { 0 }).sum();
            prop_assert!(kept <= bytes.len(), "more than was sent");
            is_bounded_or_refused(&bytes);
        }
    }

    #[test]
    fn commands_are_read_as_they_were_sent(
        updates in vec(update(), 1..20), wants_report in any::<bool>(), shallow in any::<bool>(),
    ) {
        let mut bytes = vec![];
        if shallow {
            pkt::write(&mut bytes, format!("shallow {}\n", updates[0].old).as_bytes());
        }
        for (at, RefUpdate { old, new, name }) in updates.iter().enumerate() {
            let offered = if at > 0 { "" } else if wants_report { "\0 report-status agent=x" } else { "\0agent=report" };
            pkt::write(&mut bytes, format!("{old} {new} {name}{offered}\n").as_bytes());
        }
        pkt::flush(&mut bytes);
        bytes.extend_from_slice(b"PACK");
        let mut from = bytes.as_slice();
        let request = now(read_request(&mut from)).unwrap();
        prop_assert_eq!(&request.updates, &updates);
        prop_assert_eq!(request.wants_report, wants_report);
        prop_assert_eq!(from, b"PACK", "the pack is not touched");
    }

    #[test]
    fn damaged_commands_are_bounded_or_refused(
        updates in vec(update(), 1..4), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = vec![];
        for RefUpdate { old, new, name } in &updates {
            pkt::write(&mut bytes, format!("{old} {new} {name}\0report-status\n").as_bytes());
        }
        pkt::flush(&mut bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        is_bounded_or_refused(&bytes);
    }

    #[test]
    fn a_request_path_names_a_repository_or_nothing(method in "GET|POST|PUT", path in "\\PC{0,40}|/[a-z./]{0,12}/(info/refs|git-(upload|receive)-pack|HEAD)", query in proptest::option::of("\\PC{0,40}|service=git-(upload|receive)-pack")) {
        if let Some(request) = Request::parse(&method, &path, query.as_deref()) {
            prop_assert!(!request.repository.is_empty() && !request.repository.contains('/'));
        }
    }
}

#[test]
fn more_commands_than_the_bound_are_refused() {
    let mut bytes = vec![];
    for number in 0..=MOST_COMMANDS {
        let zero = super::receive::ZERO;
        pkt::write(&mut bytes, format!("{zero} {zero} refs/heads/b{number}\n").as_bytes());
    }
    pkt::flush(&mut bytes);
    assert!(matches!(now(read_request(&mut bytes.as_slice())), Err(PktError::Length)));
}
