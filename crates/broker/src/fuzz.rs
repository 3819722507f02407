//! What a hostile sandbox may send before anything is decided: names, DNS questions, TLS hellos. `cargo test` takes the
//! same few cases each time; `cargo xtask soak fuzz` many. Whole requests are in `tests/hostile.rs`.

use crate::dns;
use crate::host::{AllowRule, Host};
use crate::tls::{Hello, LONGEST, read_hello};
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use std::str::FromStr;

const NAME: &str = "([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\\.){0,4}[a-z]([a-z0-9-]{0,20}[a-z0-9])?";
/// And those that look like numbers.
const NUMBERS: &str = "((0x)?[0-9a-f]{1,3}\\.){0,4}(0x|0X)?[0-9]{1,10}\\.?";

/// A ClientHello with this name, in records of these sizes.
fn hello(name: &str, padding: usize, sizes: &[usize]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &sized(&sized(&entry))].concat();
    let filler = [&[0, 21][..], &sized(&vec![0; padding])].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0], &sized(&[0x13, 1]), &[1, 0], &sized(&[filler, server_name].concat())]
            .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let mut rest = message.as_slice();
    let mut records = vec![];
    for size in sizes.iter().copied().chain(std::iter::repeat(16 * 1024)) {
        let (part, after) = rest.split_at(size.clamp(1, 16 * 1024).min(rest.len()));
        records.extend([&[22, 3, 1][..], &sized(part)].concat());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    records
}

/// Nothing is guessed: what is asked for is bounded, and what has been decided stays so whatever follows.
fn is_decided_once(bytes: &[u8], more: &[u8]) {
    let longer = [bytes, more].concat();
    match read_hello(bytes) {
        Hello::Incomplete(needed) => assert!(needed > bytes.len() && needed <= LONGEST),
        Hello::Complete(name) => {
            assert!(name.iter().all(|name| name.len() <= bytes.len()));
            assert_eq!(read_hello(&longer), Hello::Complete(name));
        }
        refused @ Hello::Invalid(_) => assert_eq!(read_hello(&longer), refused),
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// An answer is an answer to this question, small, and leads nowhere but to the broker.
fn is_harmless(query: &[u8], answer: &[u8]) {
    assert!(answer.len() <= query.len() + 64, "{} bytes for {}", answer.len(), query.len());
    let read = Message::from_vec(answer).expect("what is sent can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(read.metadata.id.to_be_bytes(), query[..2]);
    assert!(read.answers.len() <= 1);
    for record in &read.answers {
        let address: IpAddr = match &record.data {
            RData::A(address) => address.0.into(),
            RData::AAAA(address) => address.0.into(),
            other => panic!("{other:?}"),
        };
        let asked = record.name.to_ascii();
        let Some(Host::Name(name)) = Host::parse(&asked) else { panic!("{asked}") };
        assert!(dns::is_address_of(address, &name), "{address} for {name}");
    }
}

proptest! {
    #[test]
    fn a_name_is_read_from_a_hello_however_it_is_cut(
        name in NAME, padding in 0..4000_usize, sizes in vec(1..3000_usize, 0..8), cut in any::<prop::sample::Index>(),
    ) {
        let bytes = hello(&name, padding, &sizes);
        prop_assert_eq!(read_hello(&bytes), Hello::Complete(Some(name)));
        let part = &bytes[..cut.index(bytes.len())];
        prop_assert!(matches!(read_hello(part), Hello::Incomplete(_)));
        is_decided_once(part, &bytes[part.len()..]);
    }

    #[test]
    fn a_damaged_hello_is_decided_once(
        name in NAME,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        more in vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = hello(&name, 10, &[20, 30]);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        is_decided_once(&bytes, &more);
    }

    #[test]
    fn any_bytes_are_decided_once(bytes in vec(any::<u8>(), 0..600), more in vec(any::<u8>(), 0..100)) {
        is_decided_once(&bytes, &more);
        // As far as a handshake goes.
        let begun = [&[22, 3, 1, 1, 0, 1, 0, 0][..], &bytes].concat();
        is_decided_once(&begun, &more);
    }

    #[test]
    fn every_name_has_an_address_of_each_kind(name in NAME, is_v6 in any::<bool>()) {
        let kind = if is_v6 { RecordType::AAAA } else { RecordType::A };
        let query = question(&name, kind);
        let answer = dns::answer(&query).unwrap();
        is_harmless(&query, &answer);
        let read = Message::from_vec(&answer).unwrap();
        prop_assert_eq!((read.answers.len(), read.metadata.response_code), (1, ResponseCode::NoError));
    }

    #[test]
    fn what_looks_like_a_number_is_an_address_or_nothing(text in NUMBERS) {
        let is_address = text.parse::<IpAddr>().is_ok();
        prop_assert_eq!(Host::parse(&text), text.parse().ok().map(Host::Address));
        if let Ok(name) = Name::from_str(&text) {
            let mut message = Message::query();
            message.add_query(Query::query(name, RecordType::A));
            let answer = dns::answer(&message.to_vec().unwrap()).unwrap();
            let read = Message::from_vec(&answer).unwrap();
            prop_assert_eq!(read.answers.len(), 0, "{} {}", text, is_address);
        }
    }

    #[test]
    fn a_damaged_question_has_a_harmless_answer_or_none(
        name in NAME, damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..10), more in vec(any::<u8>(), 0..200),
    ) {
        let mut query = question(&name, RecordType::A);
        for (at, byte) in damage {
            let at = at.index(query.len());
            query[at] = byte;
        }
        query.extend(more);
        if let Some(answer) = dns::answer(&query) {
            is_harmless(&query, &answer);
        }
    }

    #[test]
    fn any_question_has_a_harmless_answer_or_none(query in vec(any::<u8>(), 0..5000)) {
        if let Some(answer) = dns::answer(&query) {
            is_harmless(&query, &answer);
        }
    }

    #[test]
    fn a_host_is_the_same_when_it_is_said_again(text in prop_oneof![NAME, NUMBERS, "\\PC{0,80}", "[0-9a-f:.\\[\\]%]{0,40}"]) {
        if let Some(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Some(host));
        }
    }

    #[test]
    fn a_rule_is_the_same_when_it_is_said_again(text in prop_oneof!["(\\*\\.)?[a-z.-]{1,20}(:[0-9]{1,6})?", "\\PC{0,60}"]) {
        if let Ok(rule) = AllowRule::parse(&text) {
            prop_assert_eq!(AllowRule::parse(&rule.to_string()).map_err(|_| ()), Ok(rule));
        }
    }
}
