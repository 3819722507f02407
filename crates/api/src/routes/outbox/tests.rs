//! Whatever comes in whatever order, and however slowly the client takes it.

use super::*;
use greenroom_domain::{BlockId, Entry, Event};
use proptest::prelude::*;

fn entry(seq: u64, event: Event) -> SharedFrame {
    Frame::Entry { entry: Entry { seq, at_ms: 1, epoch: 1, event } }.into()
}

fn title(seq: u64) -> SharedFrame {
    entry(seq, Event::TitleChanged { title: format!("title {seq}"), by: None })
}

fn block(number: u128) -> BlockId {
    BlockId::from_parts(1, number)
}

fn delta(of: u128, offset: u64, text: &str) -> SharedFrame {
    Frame::Delta { block: block(of), offset, text: text.into() }.into()
}

fn live() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.begin(0);
    outbox.push(Frame::CaughtUp { seq: 0 }.into());
    outbox.pop();
    outbox
}

fn frame_of(sent: &Sent) -> Option<Frame> {
    match sent {
        Sent::Frame { written, .. } => Some(serde_json::from_slice(written.text()).unwrap()),
        Sent::Ping => None,
    }
}

fn frames(outbox: &mut Outbox) -> Vec<Frame> {
    std::iter::from_fn(|| outbox.pop()).filter_map(|sent| frame_of(&sent)).collect()
}

#[test]
fn a_replay_is_not_taken_faster_than_it_is_sent() {
    let mut outbox = Outbox::default();
    outbox.begin(0);
    let text = "x".repeat(1000);
    let mut seq = 0;
    while outbox.may_take() {
        seq += 1;
        assert_eq!(
            outbox.push(entry(seq, Event::TitleChanged { title: text.clone(), by: None })),
            Pushed::Waits
        );
    }
    assert!((REPLAY_BYTES / 1100..REPLAY_BYTES / 1000).contains(&(seq as usize)), "{seq}");
    outbox.pop();
    outbox.pop();
    assert!(outbox.may_take());

    let mut outbox = Outbox::default();
    outbox.begin(0);
    for seq in 1..=2 * FRAMES as u64 {
        while !outbox.may_take() {
            outbox.pop();
        }
        assert_eq!(outbox.push(title(seq)), Pushed::Waits, "of a log of small entries");
    }
}

#[test]
fn text_that_follows_waiting_text_joins_it() {
    let mut outbox = live();
    for (offset, text) in [(0, "one "), (4, "two "), (8, "three")] {
        outbox.push(delta(1, offset, text));
        outbox.push(delta(2, offset, text));
    }
    outbox.push(delta(1, 90, "after a gap"));
    let text = |of, offset, text: &str| Frame::Delta { block: block(of), offset, text: text.into() };
    assert_eq!(
        frames(&mut outbox),
        [text(1, 0, "one two three"), text(2, 0, "one two three"), text(1, 90, "after a gap")]
    );
}

#[test]
fn text_that_a_waiting_entry_holds_or_withdraws_is_not_sent_before_it() {
    let mut outbox = live();
    outbox.push(delta(1, 0, "held"));
    outbox.push(delta(4, 0, "held in part"));
    outbox.push(delta(2, 0, "other"));
    outbox.push(delta(3, 0, "withdrawn"));
    outbox.push(entry(1, Event::BlockText { block: block(1), offset: 0, text: "held".into() }));
    outbox.push(entry(2, Event::BlockReset { block: block(3) }));
    outbox.push(entry(3, Event::BlockText { block: block(4), offset: 0, text: "held".into() }));
    let sent = frames(&mut outbox);
    let text = |frame: &Frame| match frame {
        Frame::Delta { text, .. } => text.clone(),
        Frame::Entry { entry } => format!("entry {}", entry.seq),
        other => panic!("{other:?}"),
    };
    let sent: Vec<_> = sent.iter().map(text).collect();
    assert_eq!(sent, ["held in part", "other", "entry 1", "entry 2", "entry 3"]);
}

#[test]
fn of_what_is_so_now_only_the_newest_waits_and_a_slow_client_gets_it() {
    let presence =
        |more| SharedFrame::from(Frame::Presence(greenroom_wire::Presence { people: vec![], more }));
    let mut outbox = live();
    for more in 0..5000 {
        assert_eq!(outbox.push(presence(more)), Pushed::Waits);
    }
    outbox.push(title(1));
    let sent = frames(&mut outbox);
    assert!(matches!(&sent[..], [Frame::Presence(presence), Frame::Entry { .. }] if presence.more == 4999));
}

#[test]
fn a_client_that_falls_behind_on_entries_resumes_after_the_last_one_sent() {
    let mut outbox = live();
    outbox.push(title(1));
    outbox.pop();
    let overflow = (2..).take(FRAMES + 1).any(|seq| outbox.push(title(seq)) == Pushed::Overflow);
    assert!(overflow);
    outbox.answer(Frame::Error { problem: crate::error::invalid("x") });
    outbox.resume(ResumeReason::TooSlow);
    let sent = frames(&mut outbox);
    assert!(matches!(&sent[..], [Frame::Error { .. }, Frame::Resume { after_seq: 1, .. }]), "{sent:?}");
    let text = serde_json::to_string(&sent[1]).unwrap();
    assert_eq!(text, r#"{"type":"resume","after_seq":1,"reason":"too_slow"}"#);
}

#[derive(Clone, Debug)]
enum Does {
    /// The next entry; one in four holds the text of a block.
    Entry {
        holds: u8,
    },
    Text {
        of: u8,
        length: u16,
    },
    Answer,
    Ping,
    /// The client takes so many.
    Take(u8),
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => (0..12_u8).prop_map(|holds| Does::Entry { holds }),
        12 => (0..3_u8, 1..3000_u16).prop_map(|(of, length)| Does::Text { of, length }),
        1 => Just(Does::Answer),
        1 => Just(Does::Ping),
        2 => (0..20_u8).prop_map(Does::Take),
    ]
}

/// What the session says, and what a client makes of what it is sent.
#[derive(Default)]
struct Session {
    seq: u64,
    said: [String; 3],
}

#[derive(Default)]
struct Client {
    seq: u64,
    answers: usize,
}

/// Text that says where it is, with characters of several bytes.
fn text_at(offset: usize, length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        text.push_str(["a", "é", "語", "𝄞"][(offset + text.len()) % 4]);
    }
    text
}

impl Client {
    fn takes(&mut self, sent: &Sent, session: &Session) {
        match frame_of(sent) {
            Some(Frame::Entry { entry }) => {
                assert_eq!(entry.seq, self.seq + 1, "without gap or repetition");
                self.seq = entry.seq;
            }
            Some(Frame::Delta { block: of, offset, text }) => {
                let number = (0..3).find(|number| block(*number) == of).unwrap();
                let said = &session.said[number as usize];
                let offset = offset as usize;
                assert_eq!(said.get(offset..offset + text.len()), Some(&*text), "the text that was said");
                assert!(text.len() <= TEXT_BYTES);
            }
            Some(Frame::Error { .. }) => self.answers += 1,
            Some(Frame::Resume { after_seq, .. }) => assert_eq!(after_seq, self.seq),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_come_without_gap_and_text_says_the_same_within_bounds(
        steps in prop::collection::vec(does(), 1..3000),
        is_slow in any::<bool>(),
    ) {
        let (mut outbox, mut session, mut client) = (live(), Session::default(), Client::default());
        let mut answers = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Does::Entry { holds } => {
                    session.seq += 1;
                    let said = session.said.get(usize::from(holds));
                    let event = match said {
                        Some(text) => {
                            let (block, offset) = (block(holds.into()), text.len() as u64);
                            Event::BlockText { block, offset, text: String::new() }
                        }
                        None => Event::TitleChanged { title: "t".repeat(200 * usize::from(holds)), by: None },
                    };
                    if outbox.push(entry(session.seq, event)) == Pushed::Overflow {
                        outbox.resume(ResumeReason::TooSlow);
                        while let Some(sent) = outbox.pop() {
                            client.takes(&sent, &session);
                        }
                        // It says hello, and the log is read from there.
                        client.seq = session.seq;
                        outbox.begin(client.seq);
                        outbox.push(Frame::CaughtUp { seq: client.seq }.into());
                        outbox.pop();
                    }
                }
                Does::Text { of, length } => {
                    let said = &mut session.said[usize::from(of)];
                    let (offset, text) = (said.len(), text_at(said.len(), length.into()));
                    said.push_str(&text);
                    outbox.push(delta(of.into(), offset as u64, &text));
                }
                Does::Answer => {
                    answers += 1;
                    outbox.answer(Frame::Error { problem: crate::error::invalid("x") });
                }
                Does::Ping => outbox.ping(),
                Does::Take(count) => {
                    for _ in 0..if is_slow { count / 10 } else { count } {
                        let Some(sent) = outbox.pop() else { break };
                        client.takes(&sent, &session);
                    }
                }
            }
            // One frame, and the answers, may come on top.
            prop_assert!(outbox.waiting.len() <= FRAMES + 1 + answers);
            prop_assert!(outbox.bytes <= BYTES + TEXT_BYTES + 1024 * 1024, "{}", outbox.bytes);
            if number % 32 == 0 {
                prop_assert_eq!(outbox.bytes, outbox.waiting.iter().map(Waiting::size).sum::<usize>());
            }
        }
        while let Some(sent) = outbox.pop() {
            client.takes(&sent, &session);
        }
        prop_assert_eq!(client.seq, session.seq);
        prop_assert_eq!(client.answers, answers);
        prop_assert_eq!(outbox.bytes, 0);
    }
}
