//! Frames as a hostile peer sends them. `cargo test` takes the same few cases each time; `cargo xtask soak fuzz` many.

use crate::frame::{Assembler, BadFrame, MAX_MESSAGE, MAX_PACKET, Message, packets};
use crate::protocol::{StageOp, StageReply, StageRequest, ZygoteReply, ZygoteRequest};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

/// Messages up to the first that is refused: the peer is cut off there.
fn messages(packets: &[Vec<u8>]) -> (Vec<Message>, Option<BadFrame>) {
    let mut assembler = Assembler::default();
    let mut whole = vec![];
    for packet in packets {
        match assembler.push(packet) {
            Ok(message) => whole.extend(message),
            Err(refused) => return (whole, Some(refused)),
        }
    }
    (whole, None)
}

/// What is understood can be said again, and is understood the same.
fn is_understood_or_refused<T: Serialize + DeserializeOwned>(message: &Message) {
    let Ok(header) = message.header::<T>() else { return };
    let again = messages(&packets(&header, message.body()).expect("it fitted before")).0.remove(0);
    let (said, again) = (serde_json::to_value(&header), again.header::<T>().map(serde_json::to_value));
    assert_eq!(said.unwrap(), again.unwrap().unwrap());
}

fn all_kinds(message: &Message) {
    is_understood_or_refused::<StageReply>(message);
    is_understood_or_refused::<StageRequest>(message);
    is_understood_or_refused::<ZygoteReply>(message);
    is_understood_or_refused::<ZygoteRequest>(message);
}

fn request() -> impl Strategy<Value = StageRequest> {
    let path = "(/[a-z.]{0,8}){0,4}";
    let op = prop_oneof![
        (path, any::<u64>(), any::<u64>()).prop_map(|(path, offset, limit)| StageOp::Read {
            path,
            offset,
            limit
        }),
        any::<u16>().prop_map(|port| StageOp::Connect { port }),
        Just(StageOp::ListeningPorts),
        any::<u64>().prop_map(|watch| StageOp::NextChanges { watch }),
    ];
    (any::<u64>(), op).prop_map(|(id, op)| StageRequest { id, done: vec![], op })
}

proptest! {
    #[test]
    fn a_message_is_the_same_after_its_packets(
        request in request(), part in vec(any::<u8>(), 1..100), length in 0..3 * MAX_PACKET,
    ) {
        let body: Vec<u8> = part.into_iter().cycle().take(length).collect();
        let packets = packets(&request, &body).unwrap();
        prop_assert!(packets.iter().all(|packet| packet.len() <= MAX_PACKET));
        let (whole, refused) = messages(&packets);
        prop_assert_eq!((whole.len(), refused), (1, None));
        prop_assert_eq!(whole[0].body(), &body[..]);
        let read: StageRequest = whole[0].header().unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&request).unwrap());
    }

    #[test]
    fn any_packets_are_messages_or_refused(packets in vec(vec(any::<u8>(), 0..2000), 0..20)) {
        let sent: usize = packets.iter().map(Vec::len).sum();
        let (whole, _) = messages(&packets);
        let kept: usize = whole.iter().map(|message| message.body().len()).sum();
        prop_assert!(kept <= sent);
        whole.iter().for_each(all_kinds);
    }

    #[test]
    fn a_damaged_message_is_another_or_refused(
        request in request(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut packet = packets(&request, b"body").unwrap().remove(0);
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet.truncate(end.index(packet.len() + 1));
        messages(&[packet]).0.iter().for_each(all_kinds);
    }
}

#[test]
fn a_peer_that_never_ends_its_message_is_cut_off_at_the_bound() {
    let mut assembler = Assembler::default();
    let more = vec![0; MAX_PACKET];
    let taken = (0..).take_while(|_| assembler.push(&more).is_ok()).count();
    assert_eq!(taken, MAX_MESSAGE / (MAX_PACKET - 1));
}
