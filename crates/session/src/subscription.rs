//! A viewer's stream: replay from the log, then live, without gap or repetition.

use crate::log::{CommitLog, LogError};
use greenroom_domain::{BlockId, Entry};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Entries read from the log at a time.
const PAGE: usize = 500;

/// What a viewer receives. Deltas and output are ephemeral: they may be missing, entries may not.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    Entry(Arc<Entry>),
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
    pub(crate) live: broadcast::Receiver<Live>,
    pub(crate) output: VecDeque<Live>,
}

#[derive(Debug)]
pub struct Subscription {
    /// The last entry when the subscription began.
    pub head_seq: u64,
    pub epoch: u64,
    log: Arc<dyn CommitLog>,
    live: broadcast::Receiver<Live>,
    /// What running tools had printed when the subscription began; told between replay and live.
    output: VecDeque<Live>,
    sent_seq: u64,
    page: VecDeque<Entry>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Replaying,
    Live,
    Over,
}

impl Subscription {
    pub(crate) fn new(after: u64, feed: Feed, epoch: u64, log: Arc<dyn CommitLog>) -> Self {
        let Feed { head_seq, live, output } = feed;
        let sent_seq = after.min(head_seq);
        let page = VecDeque::new();
        Self { head_seq, epoch, log, live, output, sent_seq, page, phase: Phase::Replaying }
    }

    /// The next frame; `None` when the session ended. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Live>, LogError> {
        match self.phase {
            Phase::Replaying => self.replay().await.map(Some),
            Phase::Live => Ok(self.follow().await),
            Phase::Over => Ok(None),
        }
    }

    async fn replay(&mut self) -> Result<Live, LogError> {
        if self.page.is_empty() && self.sent_seq < self.head_seq {
            self.page = self.log.read(self.sent_seq, PAGE).await?.into();
        }
        match self.page.pop_front() {
            Some(entry) if entry.seq <= self.head_seq => {
                self.sent_seq = entry.seq;
                Ok(Live::Entry(Arc::new(entry)))
            }
            _ => {
                self.page.clear();
                self.phase = Phase::Live;
                Ok(Live::CaughtUp { seq: self.sent_seq })
            }
        }
    }

    async fn follow(&mut self) -> Option<Live> {
        if let Some(frame) = self.output.pop_front() {
            return Some(frame);
        }
        loop {
            match self.live.recv().await {
                Ok(Live::Entry(entry)) if entry.seq <= self.sent_seq => {}
                Ok(frame) => {
                    if let Live::Entry(entry) = &frame {
                        self.sent_seq = entry.seq;
                    }
                    return Some(frame);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.phase = Phase::Over;
                    return Some(Live::Lagged { after_seq: self.sent_seq });
                }
                Err(broadcast::error::RecvError::Closed) => {
                    self.phase = Phase::Over;
                    return None;
                }
            }
        }
    }
}
