//! A summary takes the place of a conversation's beginning. What must not depend on a model's summary is put beside it by
//! us: the to-do list, where attached files lie, and what people said last, word for word.

use super::{BEGINNING, CUT_OFF, Conversation, EMPTY, GO_ON, pruning, tokens_of, tokens_of_text};
use crate::attachments::Said;
use greenroom_domain::event::{TodoItem, TodoStatus};
use greenroom_domain::message::{Image, Message};
use std::fmt::Write as _;

/// The most of the newest messages that stay as they are, and the share of the whole that they may be.
const KEPT_TOKENS: u64 = 20_000;
const KEPT_SHARE: u64 = 4;
/// The same of what people said before that.
const CARRIED_TOKENS: u64 = 8_000;
const CARRIED_SHARE: u64 = 10;
/// The newest of it is carried whatever its length, cut to this.
const CARRIED_BYTES: usize = 32 * 1024;
const CARRIED_IMAGES: usize = 8;
const FILES_LISTED: usize = 50;
const SUMMARY_LIMIT_BYTES: usize = 64 * 1024;

const HEAD: &str = "(This conversation became longer than what you can be given at once. What came before is summarised \
     here, in your own words; the files in /workspace are as you left them. Go on from there.)";
const CUT: &str = "[… cut]";
const LEFT_OUT: &str = "(The oldest part of this conversation does not fit and is left out.)";

/// Where to cut, as the log keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Newest messages that stay as they are.
    pub(crate) kept: u64,
    /// Newest things that people said before them, repeated word for word.
    pub(crate) carried: u64,
}

/// What a cut would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) cut: Cut,
    /// Estimated tokens of what is summarised.
    pub(crate) dropped: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// Bytes of the first message that are the summary and what is beside it.
    bytes: usize,
    /// Pictures of the first message that belong to what is carried.
    images: usize,
    carried: Vec<Said>,
}

impl Conversation {
    /// Where to cut best; `None`: there is nothing to summarise. No call is parted from its result.
    pub(crate) fn tail(&self) -> Option<Tail> {
        let total: u64 = self.messages.iter().map(tokens_of).sum();
        let limit = KEPT_TOKENS.min(total / KEPT_SHARE);
        let (mut at, mut tokens) = (self.messages.len(), 0);
        for (index, message) in self.messages.iter().enumerate().rev() {
            tokens += tokens_of(message);
            if tokens > limit || index == 0 {
                break;
            }
            if !matches!(message, Message::ToolResults { .. }) {
                at = index;
            }
        }
        let dropped: u64 = self.messages[..at].iter().map(tokens_of).sum();
        let said = self.said_before(at);
        let limit = CARRIED_TOKENS.min(total / CARRIED_SHARE);
        let mut tokens = 0;
        let fits = said.iter().rev().take_while(|said| {
            tokens += tokens_of_text(&said.text);
            tokens <= limit
        });
        let carried = fits.count().max(1).min(said.len()) as u64;
        let kept = (self.messages.len() - at) as u64;
        (at > 0).then_some(Tail { cut: Cut { kept, carried }, dropped })
    }

    /// From here on the model sees the summary in place of what was before the newest `cut.kept` messages.
    pub(crate) fn compact(&mut self, summary: &str, cut: Cut) {
        self.settle();
        let kept = usize::try_from(cut.kept).unwrap_or(usize::MAX).min(self.messages.len());
        let mut at = self.messages.len() - kept;
        while at > 0 && matches!(self.messages.get(at), Some(Message::ToolResults { .. })) {
            at -= 1;
        }
        let mut carried = self.said_before(at);
        let count = usize::try_from(cut.carried).unwrap_or(usize::MAX).min(carried.len());
        carried.drain(..carried.len() - count);
        carried.iter_mut().for_each(|said| said.text = bounded(&said.text, CARRIED_BYTES));
        self.messages.drain(..at);
        let text = self.words(summary, &carried);
        let images: Vec<Image> = carried.iter().flat_map(|said| said.images.iter().cloned()).collect();
        let images = images[images.len().saturating_sub(CARRIED_IMAGES)..].to_vec();
        self.summary = Some(Summary { bytes: text.len(), images: images.len(), carried });
        if let Some(Message::User { text: first, images: shown }) = self.messages.first_mut() {
            *first = format!("{text}\n\n{first}");
            shown.splice(..0, images);
        } else {
            self.messages.insert(0, Message::User { text, images });
        }
        self.measured.forget();
    }

    /// The bytes of the first message that are a summary.
    pub(crate) fn summary_bytes(&self) -> usize {
        self.summary.as_ref().map_or(0, |summary| summary.bytes)
    }

    /// The messages with a question after them, at most `tokens` long by our estimate: where that is too little, old outputs
    /// and then the oldest messages are left out. For one request; the conversation stays.
    pub(crate) fn asking(&self, question: &str, tokens: u64) -> Vec<Message> {
        let mut messages = self.messages.clone();
        shorten(&mut messages, tokens.saturating_sub(tokens_of_text(question)));
        match messages.last_mut() {
            Some(Message::User { text, .. }) => {
                text.push_str("\n\n");
                text.push_str(question);
            }
            _ => messages.push(Message::user(question)),
        }
        messages
    }

    /// What people said in the messages before this one and before the last summary, oldest first.
    fn said_before(&self, at: usize) -> Vec<Said> {
        let mut said = self.summary.as_ref().map_or_else(Vec::new, |summary| summary.carried.clone());
        for (index, message) in self.messages[..at].iter().enumerate() {
            let Message::User { text, images } = message else { continue };
            let (bytes, shown) = match &self.summary {
                Some(summary) if index == 0 => (summary.bytes, summary.images),
                _ => (0, 0),
            };
            let text = text.get(bytes..).unwrap_or_default().trim();
            if ![GO_ON, CUT_OFF, EMPTY, BEGINNING, ""].contains(&text) {
                let images = images.get(shown..).unwrap_or_default().to_vec();
                said.push(Said { text: text.to_owned(), images, files: vec![] });
            }
        }
        said
    }

    fn words(&self, summary: &str, carried: &[Said]) -> String {
        let mut text =
            format!("{HEAD}\n\n<summary>\n{}\n</summary>", bounded(summary.trim(), SUMMARY_LIMIT_BYTES));
        if !self.todo.is_empty() {
            text.push_str("\n\nYour to-do list:");
            self.todo.iter().for_each(|item| {
                let _ = write!(text, "\n- {}", line(item));
            });
        }
        if !self.files.is_empty() {
            text.push_str("\n\nFiles that people attached:");
            let more = self.files.len().saturating_sub(FILES_LISTED);
            if more > 0 {
                let _ = write!(text, "\n- {more} older ones, in /attachments");
            }
            for file in &self.files[more..] {
                let _ = write!(text, "\n- {file}");
            }
        }
        if !carried.is_empty() {
            text.push_str("\n\nWhat people said last before this point, word for word:");
            for said in carried {
                let _ = write!(text, "\n<said>\n{}\n</said>", said.text);
            }
        }
        text
    }
}

fn line(item: &TodoItem) -> String {
    let mark = match item.status {
        TodoStatus::Pending => " ",
        TodoStatus::InProgress => "in progress",
        TodoStatus::Done => "done",
    };
    format!("[{mark}] {}", item.text)
}

fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}\n{CUT}", &text[..text.floor_char_boundary(limit)])
}

/// Oldest outputs first, then the oldest messages.
fn shorten(messages: &mut Vec<Message>, limit: u64) {
    let mut tokens: u64 = messages.iter().map(tokens_of).sum();
    for message in messages.iter_mut() {
        let Message::ToolResults { results } = message else { continue };
        for result in results {
            if tokens <= limit {
                return;
            }
            let (before, note) = (tokens_of_text(&result.text), pruning::note(result.text.len()));
            if tokens_of_text(&note) < before {
                tokens -= before - tokens_of_text(&note);
                result.text = note;
            }
        }
    }
    if tokens <= limit {
        return;
    }
    let mut from = 0;
    while from < messages.len() && tokens > limit {
        tokens -= tokens_of(&messages[from]);
        from += 1;
        while matches!(messages.get(from), Some(Message::ToolResults { .. })) {
            tokens -= tokens_of(&messages[from]);
            from += 1;
        }
    }
    messages.drain(..from);
    match messages.first_mut() {
        Some(Message::User { text, .. }) => *text = format!("{LEFT_OUT}\n\n{text}"),
        _ => messages.insert(0, Message::user(LEFT_OUT)),
    }
}
