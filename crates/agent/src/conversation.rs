//! A conversation that a model API accepts, whatever is put into it. The loop feeds it while a turn runs and
//! `transcript` feeds it from the log, so that both give the same messages and requests keep a stable prefix.

mod compaction;
mod measure;
mod pruning;

pub(crate) use compaction::{Cut, Tail};
pub(crate) use measure::{tokens_of, tokens_of_text};

use crate::attachments::Said;
use greenroom_domain::event::{OUTCOME_UNKNOWN, TodoItem};
use greenroom_domain::message::{Content, Message, RawItems, StopReason, ToolResult};
use std::collections::HashSet;

const NEVER_STARTED: &str = "The turn was interrupted before this call was started, so it was not run.";
pub(crate) const CUT_OFF: &str = "Your answer was cut off at the output limit. Go on from where it stopped, in \
     smaller steps: shorter texts, and several smaller tool calls instead of one large one.";
pub(crate) const EMPTY: &str =
    "Your answer was empty. Go on with the work, or say in a sentence what you did if it is finished.";
const GO_ON: &str = "Go on.";
const BEGINNING: &str = "(The beginning of this conversation is not available.)";
const NO_OUTPUT: &str = "(no output)";

#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    messages: Vec<Message>,
    /// Calls of the last assistant message, in its order; not empty until `settle`.
    open: Vec<OpenCall>,
    /// Prompts that arrived while calls were open.
    waiting: Vec<Said>,
    /// What the model is told when it is called again without anything new.
    owed: Option<&'static str>,
    used_calls: HashSet<String>,
    is_paused: bool,
    /// What the messages begin with, when what was before is summarised.
    summary: Option<compaction::Summary>,
    /// Calls whose results are notes.
    pruned: HashSet<String>,
    measured: measure::Measured,
    /// As of now: what no summary may lose.
    todo: Vec<TodoItem>,
    files: Vec<String>,
}

#[derive(Clone, Debug)]
struct OpenCall {
    id: String,
    is_started: bool,
    result: Option<ToolResult>,
}

impl Conversation {
    pub(crate) fn from_history(messages: Vec<Message>) -> Self {
        let contents = messages.iter().filter_map(|message| match message {
            Message::Assistant { content, .. } => Some(content),
            Message::User { .. } | Message::ToolResults { .. } => None,
        });
        let used_calls = contents.flatten().filter_map(call_id).map(str::to_owned).collect();
        Self { messages, used_calls, ..Self::default() }
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn todo(&mut self, items: &[TodoItem]) {
        self.todo = items.to_vec();
    }

    /// Every open call has its result now, or never will.
    pub(crate) fn into_messages(mut self) -> Vec<Message> {
        self.settle();
        self.messages
    }

    pub(crate) fn is_used_call(&self, id: &str) -> bool {
        self.used_calls.contains(id)
    }

    /// What a person says; calls still open were interrupted.
    pub(crate) fn user(&mut self, said: impl Into<Said>) {
        self.settle();
        self.owed = None;
        self.push_user(said);
    }

    /// What a person says while the turn runs: after the results of the open calls.
    pub(crate) fn insert(&mut self, said: impl Into<Said>) {
        if self.open.is_empty() {
            self.user(said);
        } else {
            self.waiting.push(said.into());
            self.settle_if_complete();
        }
    }

    pub(crate) fn assistant(&mut self, content: &[Content], raw: Option<&RawItems>, stop: StopReason) {
        self.settle();
        let (content, raw) = self.replayable(content, raw, stop);
        let calls: Vec<String> = content.iter().filter_map(call_id).map(str::to_owned).collect();
        let is_paused = stop == StopReason::Pause && raw.as_ref().is_some_and(|raw| !raw.items.is_empty());
        let is_empty = !content.iter().any(is_visible) && !is_paused;
        self.owed = match stop {
            StopReason::MaxTokens if calls.is_empty() => Some(CUT_OFF),
            StopReason::Refusal => None,
            _ if is_empty => Some(EMPTY),
            _ => None,
        };
        if is_empty {
            return;
        }
        self.make_room_for_assistant();
        self.messages.push(Message::Assistant { content, raw });
        self.is_paused = is_paused && calls.is_empty();
        self.used_calls.extend(calls.iter().cloned());
        self.open = calls.into_iter().map(|id| OpenCall { id, is_started: false, result: None }).collect();
    }

    /// The intent to run a call is in the log: without a result, nobody knows how far it came.
    pub(crate) fn started(&mut self, call: &str) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == call) {
            open.is_started = true;
        }
    }

    /// The first result of a call counts; results of other calls are ignored.
    pub(crate) fn result(&mut self, call: &str, text: &str, is_error: bool) {
        let Some(open) = self.open.iter_mut().find(|open| open.id == call && open.result.is_none()) else {
            return;
        };
        let text = if text.trim().is_empty() { NO_OUTPUT } else { text };
        open.result = Some(ToolResult { call: call.to_owned(), text: text.to_owned(), is_error });
        self.settle_if_complete();
    }

    /// The model is about to be called with what is here.
    pub(crate) fn requested(&mut self) {
        self.settle();
        let owed = self.owed.take();
        if let Some(text) = owed {
            self.push_user(text);
        } else if matches!(self.messages.last(), Some(Message::Assistant { .. })) && !self.is_paused {
            self.push_user(GO_ON);
        }
    }

    fn settle_if_complete(&mut self) {
        if self.open.iter().all(|open| open.result.is_some()) && !self.waiting.is_empty() {
            self.settle();
        }
    }

    /// Turns the open calls into one message of results.
    pub(crate) fn settle(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            let results = open.into_iter().map(OpenCall::into_result).collect();
            self.messages.push(Message::ToolResults { results });
        }
        for said in std::mem::take(&mut self.waiting) {
            self.push_user(said);
        }
    }

    fn push_user(&mut self, said: impl Into<Said>) {
        let Said { text, images, files } = said.into();
        if text.trim().is_empty() {
            return;
        }
        for file in files {
            if !self.files.contains(&file) {
                self.files.push(file);
            }
        }
        if let Some(Message::User { text: last, images: shown }) = self.messages.last_mut() {
            last.push_str("\n\n");
            last.push_str(&text);
            shown.extend(images);
        } else {
            self.messages.push(Message::User { text, images });
        }
    }

    fn make_room_for_assistant(&mut self) {
        match self.messages.last() {
            None => self.push_user(BEGINNING),
            Some(Message::Assistant { .. }) if !self.is_paused => self.push_user(GO_ON),
            Some(_) => {}
        }
    }

    /// What can be sent back: raw items only beside unchanged content, thinking only with its raw items, and of a
    /// refused answer the text alone.
    fn replayable(
        &self,
        content: &[Content],
        raw: Option<&RawItems>,
        stop: StopReason,
    ) -> (Vec<Content>, Option<RawItems>) {
        let mut seen = HashSet::new();
        let mut is_new =
            |id: &str| !id.is_empty() && !self.used_calls.contains(id) && seen.insert(id.to_owned());
        let is_refused = stop == StopReason::Refusal;
        let mut is_changed = is_refused;
        let mut kept: Vec<Content> = Vec::with_capacity(content.len());
        for part in content {
            let is_kept = match part {
                Content::Text { text } => !text.trim().is_empty(),
                Content::Thinking { text } => !is_refused && !text.is_empty(),
                Content::ToolCall(call) => {
                    let is_kept = !is_refused && is_new(&call.id);
                    is_changed |= !is_kept;
                    is_kept
                }
            };
            if is_kept {
                kept.push(part.clone());
            }
        }
        let raw = raw.filter(|_| !is_changed).cloned();
        if raw.is_none() {
            kept.retain(|part| !matches!(part, Content::Thinking { .. }));
        }
        (kept, raw)
    }
}

impl OpenCall {
    fn into_result(self) -> ToolResult {
        let Self { id, is_started, result } = self;
        let text = if is_started { OUTCOME_UNKNOWN } else { NEVER_STARTED };
        result.unwrap_or_else(|| ToolResult { call: id, text: text.to_owned(), is_error: true })
    }
}

fn call_id(part: &Content) -> Option<&str> {
    match part {
        Content::ToolCall(call) => Some(&call.id),
        Content::Text { .. } | Content::Thinking { .. } => None,
    }
}

fn is_visible(part: &Content) -> bool {
    matches!(part, Content::Text { .. } | Content::ToolCall(_))
}
