//! The text of one answer while it streams: shown at once, written to the log in coalesced pieces, and withdrawn when
//! the stream breaks.

use super::{TurnContext, commit};
use crate::halt::Halt;
use crate::ports::TurnEnded;
use greenroom_domain::event::{BlockKind, Durability, Event};
use greenroom_domain::message::Content;
use greenroom_domain::{BlockId, TurnId};
use std::collections::BTreeMap;

pub(super) const COALESCE_MS: i64 = 150;
/// Text that waits is written earlier than that once there is this much of it.
const COALESCE_BYTES: usize = 16 * 1024;

pub(super) struct Blocks<'a> {
    turn: TurnId,
    context: &'a TurnContext,
    halt: &'a Halt,
    open: BTreeMap<usize, Block>,
    /// Since when, and how much, text waits to be written.
    waiting_since_ms: Option<i64>,
    waiting_bytes: usize,
}

struct Block {
    id: BlockId,
    kind: BlockKind,
    text: String,
    written: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(turn: TurnId, context: &'a TurnContext, halt: &'a Halt) -> Self {
        Self { turn, context, halt, open: BTreeMap::new(), waiting_since_ms: None, waiting_bytes: 0 }
    }

    /// Shows and keeps a piece of text; writes what waits when it is time.
    pub(super) async fn push(&mut self, index: usize, kind: BlockKind, text: &str) -> Result<(), TurnEnded> {
        if text.is_empty() {
            return Ok(());
        }
        if !self.open.contains_key(&index) {
            let id = self.context.log.next_block_id();
            self.open.insert(index, Block { id, kind, text: String::new(), written: 0 });
            let opened = Event::BlockOpened { turn: self.turn, block: id, kind };
            commit(self.context, self.halt, vec![opened], Durability::Synced).await?;
        }
        let now_ms = self.context.clock.now_ms();
        if let Some(block) = self.open.get_mut(&index) {
            self.context.log.delta(block.id, block.text.len() as u64, text);
            block.text.push_str(text);
        }
        self.waiting_since_ms.get_or_insert(now_ms);
        self.waiting_bytes += text.len();
        if self.wait_ms() == Some(0) { self.write().await } else { Ok(()) }
    }

    /// Milliseconds until the text that waits should be written; `None` when none waits.
    pub(super) fn wait_ms(&self) -> Option<u64> {
        let since = self.waiting_since_ms?;
        if self.waiting_bytes >= COALESCE_BYTES {
            return Some(0);
        }
        let rest = COALESCE_MS - self.context.clock.now_ms().saturating_sub(since);
        Some(u64::try_from(rest).unwrap_or(0))
    }

    pub(super) async fn write(&mut self) -> Result<(), TurnEnded> {
        self.waiting_since_ms = None;
        self.waiting_bytes = 0;
        let events: Vec<Event> = self.open.values_mut().filter_map(Block::unwritten).collect();
        if events.is_empty() {
            return Ok(());
        }
        commit(self.context, self.halt, events, Durability::Buffered).await
    }

    /// The stream broke: all of it is withdrawn.
    pub(super) fn into_resets(self) -> Vec<Event> {
        self.open.into_values().map(|block| Event::BlockReset { block: block.id }).collect()
    }

    /// The answer is complete: the block of each part, and the withdrawal of blocks that have no part in it.
    pub(super) fn into_ids(mut self, content: &[Content]) -> (Vec<BlockId>, Vec<Event>) {
        let id = |index: usize| {
            self.open.remove(&index).map_or_else(|| self.context.log.next_block_id(), |block| block.id)
        };
        let ids = (0..content.len()).map(id).collect();
        (ids, self.into_resets())
    }

    /// The turn was halted: what was said so far.
    pub(super) fn into_partial(self) -> (Vec<Content>, Vec<BlockId>) {
        self.open.into_values().map(|block| (block.content(), block.id)).unzip()
    }
}

impl Block {
    fn unwritten(&mut self) -> Option<Event> {
        let text = &self.text[self.written..];
        let event = Event::BlockText { block: self.id, offset: self.written as u64, text: text.to_owned() };
        let is_some = !text.is_empty();
        self.written = self.text.len();
        is_some.then_some(event)
    }

    fn content(&self) -> Content {
        let text = self.text.clone();
        match self.kind {
            BlockKind::Text => Content::Text { text },
            BlockKind::Thinking => Content::Thinking { text },
        }
    }
}
