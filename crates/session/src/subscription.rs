//! A viewer's stream: replay from the log, then live, without gap or repetition.

use crate::handle::SessionHandle;
use crate::live::Told;
use crate::viewers::{Over, Seen};
use greenroom_domain::money::Usage;
use greenroom_domain::present::turn_boundary;
use greenroom_domain::state::QueuedPrompt;
use greenroom_domain::{Author, BlockId, Entry, Event, Problem};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries read from the log at a time.
const PAGE: usize = 500;

/// What a viewer is given who begins near the end of a long log.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The first entry that is sent; earlier ones are read as pages.
    pub from_seq: u64,
    pub head_seq: u64,
    /// What of the past the present still shows, oldest first, up to `from_seq`.
    pub standing: Vec<Entry>,
    /// Up to `from_seq`.
    pub usage: Usage,
    /// Everyone whose prompt was answered so far.
    pub prompters: Vec<Author>,
    /// Prompts that wait, in order, as of `head_seq`.
    pub queue: Vec<QueuedPrompt>,
    /// Blocks that are still being written.
    pub(crate) open_blocks: Vec<BlockId>,
}

/// What a viewer receives. Deltas and output are ephemeral: they may be missing, entries may not.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// The first frame of a windowed stream.
    Opening(Arc<Opening>),
    Entry(Arc<Entry>),
    /// Entries up to this one were left out of a windowed replay: text that a finished answer repeats.
    Omitted {
        through_seq: u64,
    },
    CaughtUp {
        seq: u64,
    },
    Delta {
        block: BlockId,
        offset: u64,
        text: Arc<str>,
    },
    Output {
        call: Arc<str>,
        offset: u64,
        text: Arc<str>,
    },
    /// The viewer was too slow; it can subscribe again after this entry.
    Lagged {
        after_seq: u64,
    },
}

/// What an actor gives a viewer: all three of one moment.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) head_seq: u64,
    pub(crate) live: Seen,
    pub(crate) output: VecDeque<Told>,
    /// Where it was asked for.
    pub(crate) opening: Option<Opening>,
}

#[derive(Debug)]
pub struct Subscription {
    /// The last entry when the subscription began.
    pub head_seq: u64,
    pub epoch: u64,
    /// Read for the replay only: the session may hibernate while it is watched.
    session: SessionHandle,
    live: Seen,
    /// What running tools had printed when the subscription began; told between replay and live.
    output: VecDeque<Told>,
    sent_seq: u64,
    page: VecDeque<Entry>,
    opening: Option<Box<Opening>>,
    /// Coalesced text up to this entry is left out of the replay.
    text_after: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Replaying,
    Live,
    Over,
}

impl Subscription {
    pub(crate) fn new(after: u64, feed: Feed, session: SessionHandle) -> Self {
        let Feed { head_seq, live, output, .. } = feed;
        Self {
            head_seq,
            epoch: session.epoch(),
            session,
            live,
            output,
            sent_seq: after.min(head_seq),
            page: VecDeque::new(),
            opening: None,
            text_after: 0,
            phase: Phase::Replaying,
        }
    }

    /// `newest`: the last entries of the log, without coalesced text; appends of the meantime may be among them.
    pub(crate) fn windowed(
        mut opening: Opening,
        newest: &[Entry],
        feed: Feed,
        session: SessionHandle,
    ) -> Self {
        let newest: Vec<&Entry> = newest.iter().filter(|entry| entry.seq <= opening.head_seq).collect();
        let from = turn_boundary(newest.iter().copied());
        let shown = newest.iter().filter(|entry| entry.seq >= from);
        let opened = shown.clone().find(|entry| match &entry.event {
            Event::BlockOpened { block, .. } => opening.open_blocks.contains(block),
            _ => false,
        });
        let text_after = opened.map_or(opening.head_seq, |opened| opened.seq);
        for entry in shown {
            if let Some((usage, _)) = entry.event.usage() {
                opening.usage -= usage;
            }
        }
        opening.from_seq = from;
        opening.standing.retain(|entry| entry.seq < from);
        let mut subscription = Self::new(from - 1, feed, session);
        subscription.text_after = text_after;
        subscription.opening = Some(Box::new(opening));
        subscription
    }

    /// The next frame; `None` when the session ended. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Told>, Problem> {
        match self.phase {
            Phase::Replaying => self.replay().await.map(Some),
            Phase::Live => Ok(self.follow().await),
            Phase::Over => Ok(None),
        }
    }

    async fn replay(&mut self) -> Result<Told, Problem> {
        if let Some(opening) = self.opening.take() {
            return Ok(Live::Opening(Arc::new(*opening)).into());
        }
        if self.page.is_empty() && self.sent_seq < self.head_seq {
            let read = self.session.entries_shown(self.sent_seq, self.text_after, PAGE);
            // Not needed once it is live: no part of every stream's own size.
            self.page = Box::pin(read).await?.into();
        }
        let next = self.page.front().map(|entry| entry.seq).filter(|seq| *seq <= self.head_seq);
        let due = next.unwrap_or(self.head_seq + 1);
        if due > self.sent_seq + 1 {
            self.sent_seq = due - 1;
            return Ok(Live::Omitted { through_seq: self.sent_seq }.into());
        }
        match self.page.pop_front().filter(|_| next.is_some()) {
            Some(entry) => {
                self.sent_seq = entry.seq;
                Ok(Live::Entry(Arc::new(entry)).into())
            }
            None => {
                self.page = VecDeque::new();
                self.phase = Phase::Live;
                Ok(Live::CaughtUp { seq: self.sent_seq }.into())
            }
        }
    }

    async fn follow(&mut self) -> Option<Told> {
        if let Some(frame) = self.output.pop_front() {
            return Some(frame);
        }
        loop {
            match self.live.next().await {
                Ok(told) => match told.live() {
                    Live::Entry(entry) if entry.seq <= self.sent_seq => {}
                    Live::Entry(entry) if entry.seq > self.sent_seq + 1 => return Some(self.lagged()),
                    Live::Entry(entry) => {
                        self.sent_seq = entry.seq;
                        return Some(told);
                    }
                    _ => return Some(told),
                },
                Err(Over::Behind) => return Some(self.lagged()),
                Err(Over::Ended) => {
                    self.phase = Phase::Over;
                    return None;
                }
            }
        }
    }

    fn lagged(&mut self) -> Told {
        self.phase = Phase::Over;
        Live::Lagged { after_seq: self.sent_seq }.into()
    }
}
