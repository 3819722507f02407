//! What tools that still run have printed, kept for viewers who come in the meantime. In memory and bounded: the log
//! gets a tool's output when it has finished.

use crate::live::{Teller, TextOf, Told};
use crate::subscription::Live;
use crate::viewers::Seen;
use greenroom_domain::Event;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Of each call, its end: text and pieces.
const KEPT_BYTES: usize = 256 * 1024;
const PIECES: usize = 64;
const PIECE_BYTES: usize = 8 * 1024;
/// Calls whose output is kept at a time.
const CALLS: usize = 64;

/// Sends output to those who watch and keeps it for those who will. One lock over both, so that whoever subscribes gets
/// every piece once.
#[derive(Debug, Default)]
pub(crate) struct RunningOutput {
    pub(crate) live: Teller,
    calls: Mutex<BTreeMap<Arc<str>, Tail>>,
}

#[derive(Debug, Default)]
struct Tail {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    offset: u64,
    text: String,
}

impl RunningOutput {
    pub(crate) fn send(&self, call: &str, offset: u64, text: &str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let call: Arc<str> = call.into();
        if calls.len() < CALLS || calls.contains_key(&call) {
            calls.entry(Arc::clone(&call)).or_default().add(offset, text);
        }
        self.live.text(TextOf::Call(call), offset, text);
    }

    /// A viewer's end, and what came before it.
    pub(crate) fn subscribe(&self) -> (Seen, VecDeque<Told>) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let before = calls.iter().flat_map(|(call, tail)| {
            tail.pieces.iter().map(|piece| {
                let text = piece.text.as_str().into();
                Told::from(Live::Output { call: Arc::clone(call), offset: piece.offset, text })
            })
        });
        (self.live.subscribe(), before.collect())
    }

    /// Nothing runs, and nobody watches any more.
    pub(crate) fn end(&self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.live.end();
    }

    /// Forgets what the log has now, or what nobody waits for any more.
    pub(crate) fn observe(&self, event: &Event) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ToolFinished { call, .. } => {
                calls.remove(call.as_str());
            }
            Event::TurnStarted { .. } | Event::TurnFinished { .. } | Event::TurnInterrupted { .. } => {
                calls.clear();
            }
            _ => {}
        }
    }
}

impl Tail {
    fn add(&mut self, offset: u64, text: &str) {
        self.bytes += text.len();
        match self.pieces.back_mut() {
            Some(last) if last.takes(offset, text) => last.text.push_str(text),
            _ => self.pieces.push_back(Piece { offset, text: text.to_owned() }),
        }
        while self.pieces.len() > 1 && (self.bytes > KEPT_BYTES || self.pieces.len() > PIECES) {
            let oldest = self.pieces.pop_front().expect("there are at least two");
            self.bytes -= oldest.text.len();
        }
    }
}

impl Piece {
    fn takes(&self, offset: u64, text: &str) -> bool {
        self.offset + self.text.len() as u64 == offset && self.text.len() + text.len() <= PIECE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(output: &RunningOutput) -> Vec<(u64, String)> {
        let frames = output.subscribe().1.into_iter().map(|frame| match frame.live() {
            Live::Output { offset, text, .. } => (*offset, text.to_string()),
            other => panic!("{other:?}"),
        });
        frames.collect()
    }

    fn output() -> RunningOutput {
        RunningOutput::default()
    }

    #[test]
    fn pieces_that_follow_each_other_are_one() {
        let output = output();
        output.send("c1", 0, "one ");
        output.send("c1", 4, "two");
        output.send("c1", 90, "after a gap");
        assert_eq!(before(&output), [(0, "one two".to_owned()), (90, "after a gap".to_owned())]);
    }

    #[test]
    fn only_the_end_of_much_output_is_kept() {
        let output = output();
        let line = "x".repeat(1000);
        for n in 0..2000 {
            output.send("c1", n * 1000, &line);
        }
        let kept = before(&output);
        let bytes: usize = kept.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes <= KEPT_BYTES && bytes > KEPT_BYTES / 2 && kept.len() <= PIECES, "{bytes}");
        let (offset, text) = kept.last().unwrap();
        assert_eq!(offset + text.len() as u64, 2_000_000);
    }

    #[test]
    fn many_small_writes_with_gaps_stay_bounded() {
        let output = output();
        (0..1000).for_each(|n| output.send("c1", n * 10, "x"));
        (0..1000).for_each(|n| output.send(&format!("call {n}"), 0, "x"));
        assert!(before(&output).len() <= PIECES + CALLS);
    }
}
