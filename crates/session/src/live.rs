//! What a session tells those who watch, once for all of them. Text is told at most every [`PACE`], the first piece after
//! a pause at once; what comes in between is one piece then. Entries are told at once, and text that an entry brings is
//! not told before it any more.

use crate::subscription::Live;
use crate::viewers::{Seen, Viewers};
use crate::written::Written;
use bytes::Bytes;
use greenroom_domain::{BlockId, Entry, Event};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What a piece may wait. A thousand viewers of it need some ten milliseconds more, and fifty is the aim
/// (docs/measurements.md).
pub(crate) const PACE: Duration = Duration::from_millis(25);
/// Of a block's text that waits, told without waiting longer.
const PIECE_BYTES: usize = 64 * 1024;
/// Blocks and calls whose text may wait; more are told at once.
const PIECES: usize = 64;

/// What viewers are told, with its form for them, which is made once.
#[derive(Clone, Debug)]
pub struct Told(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    live: Live,
    written: OnceLock<Arc<Written>>,
}

impl Told {
    pub fn live(&self) -> &Live {
        &self.0.live
    }

    /// Its form for viewers, `write`n by the first who asks.
    pub fn written(&self, write: impl FnOnce(&Live) -> Bytes) -> Arc<Written> {
        Arc::clone(self.0.written.get_or_init(|| Arc::new(write(&self.0.live).into())))
    }
}

impl From<Live> for Told {
    fn from(live: Live) -> Self {
        Self(Arc::new(Inner { live, written: OnceLock::new() }))
    }
}

/// Where a session's frames are told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Teller(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    viewers: Viewers,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<Piece>,
    /// Text was told less than `PACE` ago: somebody comes to tell what waits.
    is_paced: bool,
}

#[derive(Debug)]
struct Piece {
    of: TextOf,
    offset: u64,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextOf {
    Block(BlockId),
    Call(Arc<str>),
}

impl Teller {
    pub(crate) fn subscribe(&self) -> Seen {
        // What waits is for those who were there.
        let mut waiting = self.waiting();
        self.tell_all(&mut waiting);
        self.0.viewers.add()
    }

    pub(crate) fn entry(&self, entry: Arc<Entry>) {
        let mut waiting = self.waiting();
        waiting.pieces.retain(|piece| !brings(&entry.event, &piece.of, piece.end()));
        self.tell(Live::Entry(entry));
    }

    /// Ends every viewer's stream.
    pub(crate) fn end(&self) {
        self.waiting().pieces.clear();
        self.0.viewers.end();
    }

    /// Within a runtime. Costs nothing while nobody watches.
    pub(crate) fn text(&self, of: TextOf, offset: u64, text: &str) {
        if self.0.viewers.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        if !waiting.is_paced {
            waiting.is_paced = true;
            self.tell(live(of, offset, text));
            tokio::spawn(self.clone().pace());
        } else if !waiting.add(of, offset, text) {
            self.tell_all(&mut waiting);
        }
    }

    /// Tells what waits until for once nothing does.
    async fn pace(self) {
        loop {
            tokio::time::sleep(PACE).await;
            let mut waiting = self.waiting();
            if waiting.pieces.is_empty() {
                waiting.is_paced = false;
                return;
            }
            self.tell_all(&mut waiting);
        }
    }

    fn tell_all(&self, waiting: &mut Waiting) {
        for piece in waiting.pieces.drain(..) {
            self.tell(live(piece.of, piece.offset, &piece.text));
        }
    }

    fn tell(&self, live: Live) {
        self.0.viewers.send(&live.into());
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether it may go on waiting.
    fn add(&mut self, of: TextOf, offset: u64, text: &str) -> bool {
        let same = self.pieces.iter_mut().rev().find(|piece| piece.of == of);
        match same.filter(|piece| piece.end() == offset) {
            Some(piece) => {
                piece.text.push_str(text);
                piece.text.len() < PIECE_BYTES
            }
            None => {
                self.pieces.push(Piece { of, offset, text: text.to_owned() });
                self.pieces.len() < PIECES && text.len() < PIECE_BYTES
            }
        }
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.text.len() as u64
    }
}

fn live(of: TextOf, offset: u64, text: &str) -> Live {
    match of {
        TextOf::Block(block) => Live::Delta { block, offset, text: text.into() },
        TextOf::Call(call) => Live::Output { call, offset, text: text.into() },
    }
}

/// Whether the entry holds this text up to `end`, or withdraws it.
pub fn brings(event: &Event, of: &TextOf, end: u64) -> bool {
    match (event, of) {
        (Event::BlockText { block, offset, text }, TextOf::Block(shown)) => {
            block == shown && end <= offset + text.len() as u64
        }
        (Event::BlockReset { block }, TextOf::Block(shown)) => block == shown,
        (Event::AssistantMessage { blocks, .. }, TextOf::Block(shown)) => blocks.contains(shown),
        (Event::ToolFinished { call, .. }, TextOf::Call(shown)) => call.as_str() == &**shown,
        (Event::TurnFinished { .. } | Event::TurnInterrupted { .. }, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::TurnId;
    use greenroom_domain::event::BlockKind;
    use std::cell::Cell;
    use tokio::time::Instant;

    fn block(number: u128) -> BlockId {
        BlockId::from_parts(1, number)
    }

    async fn next(viewer: &mut Seen) -> Live {
        viewer.next().await.expect("more is told").live().clone()
    }

    fn delta(of: u128, offset: u64, text: &str) -> Live {
        Live::Delta { block: block(of), offset, text: text.into() }
    }

    fn entry(event: Event) -> Arc<Entry> {
        Arc::new(Entry { seq: 1, at_ms: 1, epoch: 1, event })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_text_is_told_at_once_and_what_follows_soon_in_one_piece() {
        let teller = Teller::default();
        let mut viewer = teller.subscribe();
        let begun = Instant::now();
        for (offset, text) in [(0, "one "), (4, "two "), (8, "three")] {
            teller.text(TextOf::Block(block(1)), offset, text);
        }
        teller.text(TextOf::Call("c".into()), 0, "printed");
        assert_eq!(next(&mut viewer).await, delta(1, 0, "one "));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(next(&mut viewer).await, delta(1, 4, "two three"));
        assert!(matches!(next(&mut viewer).await, Live::Output { offset: 0, .. }));
        assert!((PACE..PACE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        // Nothing came for a while: the next one is a first one again.
        tokio::time::sleep(PACE * 3).await;
        let later = Instant::now();
        teller.text(TextOf::Block(block(1)), 13, "!");
        assert_eq!(next(&mut viewer).await, delta(1, 13, "!"));
        assert_eq!(later.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn text_that_an_entry_brings_is_not_told_before_it_any_more() {
        let teller = Teller::default();
        let mut viewer = teller.subscribe();
        teller.text(TextOf::Block(block(1)), 0, "a");
        teller.text(TextOf::Block(block(1)), 1, "b");
        teller.text(TextOf::Block(block(2)), 0, "other");
        teller.entry(entry(Event::BlockText { block: block(1), offset: 0, text: "ab".into() }));
        assert_eq!(next(&mut viewer).await, delta(1, 0, "a"));
        assert!(matches!(next(&mut viewer).await, Live::Entry(_)));
        assert_eq!(next(&mut viewer).await, delta(2, 0, "other"));
        // One that was written before the newest text was shown holds less than waits.
        tokio::time::sleep(PACE * 3).await;
        teller.text(TextOf::Block(block(1)), 2, "c");
        teller.text(TextOf::Block(block(1)), 3, "de");
        teller.entry(entry(Event::BlockText { block: block(1), offset: 2, text: "cd".into() }));
        assert_eq!(next(&mut viewer).await, delta(1, 2, "c"));
        assert!(matches!(next(&mut viewer).await, Live::Entry(_)));
        assert_eq!(next(&mut viewer).await, delta(1, 3, "de"));
    }

    #[tokio::test(start_paused = true)]
    async fn much_text_does_not_wait_and_who_comes_meanwhile_gets_none_of_it_twice() {
        let teller = Teller::default();
        let mut early = teller.subscribe();
        let begun = Instant::now();
        teller.text(TextOf::Call("c".into()), 0, "x");
        let piece = "y".repeat(PIECE_BYTES);
        teller.text(TextOf::Call("c".into()), 1, &piece);
        teller.text(TextOf::Call("c".into()), 1 + PIECE_BYTES as u64, "z");
        let mut late = teller.subscribe();
        let sizes = [1, PIECE_BYTES, 1];
        for size in sizes {
            assert!(matches!(next(&mut early).await, Live::Output { text, .. } if text.len() == size));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        teller.entry(entry(Event::BlockOpened {
            turn: TurnId::from_parts(1, 1),
            block: block(1),
            kind: BlockKind::Text,
        }));
        assert!(matches!(next(&mut late).await, Live::Entry(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_sees_costs_nothing_and_what_many_see_is_written_once() {
        let teller = Teller::default();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        teller.text(TextOf::Block(block(1)), 0, "unseen");
        assert_eq!(tasks(), before);
        let mut viewers = [teller.subscribe(), teller.subscribe(), teller.subscribe()];
        teller.text(TextOf::Block(block(1)), 6, "seen");
        let written = Cell::new(0);
        for viewer in &mut viewers {
            let told = viewer.next().await.unwrap();
            let form = told.written(|_| {
                written.set(written.get() + 1);
                Bytes::from_static(b"frame")
            });
            assert_eq!(form.text(), "frame");
        }
        assert_eq!(written.get(), 1);
    }
}
