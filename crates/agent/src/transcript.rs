//! The conversation of a session, rebuilt from its log. Pure: the same entries give the same messages, and more entries
//! only extend them, apart from a last user message that can grow.

use crate::attachments::{Material, Said, Shown};
use crate::conversation::{Conversation, Cut};
use greenroom_domain::event::{Entry, Event, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, ToolCall};
use greenroom_domain::{Attachment, Author, PersonId, PromptId};
use std::collections::{HashMap, HashSet};

/// The messages that the next model request begins with. A log that ends in the middle of a turn is fine: calls without
/// a result become results that say so. `material`: what was loaded of the files on its prompts.
pub fn transcript<'a>(entries: impl Iterator<Item = &'a Entry>, material: &Material) -> Vec<Message> {
    Transcript::of(entries, material).conversation.into_messages()
}

/// The conversation that a turn goes on with.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    pub(crate) conversation: Conversation,
    /// Calls of the last answer that were not begun, where one of them waits for people.
    pub(crate) resumed: Vec<ToolCall>,
}

impl Transcript {
    /// See [`transcript`].
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>, material: &Material) -> Self {
        let mut reader = Reader::of(material);
        for entry in entries {
            reader.read(&entry.event);
        }
        Self { conversation: reader.conversation, resumed: reader.waiting.resumed() }
    }
}

impl From<Vec<Message>> for Transcript {
    fn from(messages: Vec<Message>) -> Self {
        Self { conversation: Conversation::from_history(messages), resumed: vec![] }
    }
}

/// Puts the author's name before a prompt once a second person takes part. Earlier prompts stay as they were sent, so
/// that the provider's cache of them stays good.
#[derive(Clone, Debug, Default)]
pub struct Speakers {
    first: Option<PersonId>,
    is_shared: bool,
    shown: Shown,
}

impl Speakers {
    /// The text the model is given for a prompt. Call it once for each prompt, in the order they are answered.
    pub fn say(&mut self, author: &Author, text: &str) -> String {
        let first = *self.first.get_or_insert(author.on_behalf_of);
        self.is_shared |= first != author.on_behalf_of;
        if self.is_shared && !text.trim().is_empty() {
            format!("[{}] {text}", author.name)
        } else {
            text.to_owned()
        }
    }

    /// The same with the files of the prompt.
    pub fn present(
        &mut self,
        author: &Author,
        text: &str,
        files: &[Attachment],
        material: &Material,
    ) -> Said {
        let words = self.say(author, text);
        self.shown.present(words, files, material)
    }

    /// As after the prompts that these entries answered.
    pub fn after<'a>(entries: impl Iterator<Item = &'a Entry>, material: &Material) -> Self {
        let mut reader = Reader::of(material);
        for entry in entries {
            reader.read(&entry.event);
        }
        reader.speakers
    }
}

struct Reader<'m> {
    material: &'m Material,
    conversation: Conversation,
    speakers: Speakers,
    prompts: HashMap<PromptId, Asked>,
    /// How the last turn ended, told with the next prompt.
    note: Option<String>,
    waiting: Waiting,
}

/// Calls of the newest answer that were not begun.
#[derive(Debug, Default)]
struct Waiting {
    calls: Vec<ToolCall>,
    /// For which people were asked.
    asked: HashSet<String>,
}

impl Waiting {
    fn read(&mut self, event: &Event) {
        match event {
            Event::AssistantMessage { content, .. } => {
                let calls = content.iter().filter_map(|part| match part {
                    Content::ToolCall(call) => Some(call.clone()),
                    Content::Text { .. } | Content::Thinking { .. } => None,
                });
                *self = Self { calls: calls.collect(), asked: HashSet::new() };
            }
            Event::AskOpened { call, .. } => drop(self.asked.insert(call.clone())),
            Event::ToolStarted { call, .. } | Event::ToolFinished { call, .. } => {
                self.calls.retain(|waiting| waiting.id != *call);
            }
            Event::ModelRequested { .. } | Event::TurnStarted { .. } | Event::TurnFinished { .. } => {
                *self = Self::default();
            }
            _ => {}
        }
    }

    fn resumed(self) -> Vec<ToolCall> {
        let is_asked = self.calls.iter().any(|call| self.asked.contains(&call.id));
        if is_asked { self.calls } else { vec![] }
    }
}

struct Asked {
    author: Author,
    text: String,
    files: Vec<Attachment>,
}

impl<'m> Reader<'m> {
    fn of(material: &'m Material) -> Self {
        Self {
            material,
            conversation: Conversation::default(),
            speakers: Speakers::default(),
            prompts: HashMap::new(),
            note: None,
            waiting: Waiting::default(),
        }
    }

    fn read(&mut self, event: &Event) {
        self.waiting.read(event);
        match event {
            Event::PromptAccepted { prompt, author, text, attachments, .. } => {
                let asked = Asked { author: author.clone(), text: text.clone(), files: attachments.clone() };
                self.prompts.insert(*prompt, asked);
            }
            Event::PromptEdited { prompt, text, .. } => {
                if let Some(asked) = self.prompts.get_mut(prompt) {
                    asked.text.clone_from(text);
                }
            }
            Event::PromptWithdrawn { prompt, .. } => {
                self.prompts.remove(prompt);
            }
            Event::TurnStarted { prompts, .. } => self.start_turn(prompts),
            Event::PromptInserted { prompt, .. } => {
                if let Some(said) = self.take_prompt(*prompt) {
                    self.conversation.insert(said);
                }
            }
            Event::NoticeGiven { text, .. } => self.conversation.insert(text.clone()),
            Event::ModelRequested { .. } => self.conversation.requested(),
            Event::AssistantMessage { content, raw, stop_reason, usage, model, .. } => {
                let mut raw = raw.clone();
                // Before it was recorded, a session had one model.
                if let Some(raw) = &mut raw {
                    raw.model.get_or_insert_with(|| model.clone());
                }
                self.conversation.assistant(content, raw.as_ref(), *stop_reason);
                self.conversation.measured(usage);
            }
            Event::TodoChanged { items, .. } => self.conversation.todo(items),
            Event::ContextPruned { calls, .. } => self.conversation.prune(calls),
            Event::ContextCompacted { summary, kept, carried, .. } => {
                self.conversation.compact(summary, Cut { kept: *kept, carried: *carried });
            }
            Event::ToolStarted { call, .. } => self.conversation.started(call),
            Event::ToolFinished { call, outcome, text, .. } => {
                self.conversation.result(call, text, *outcome != ToolOutcome::Succeeded);
            }
            Event::TurnFinished { outcome, .. } => self.note = note(outcome),
            _ => {}
        }
    }

    fn start_turn(&mut self, prompts: &[PromptId]) {
        let prompts: Vec<Said> = prompts.iter().filter_map(|prompt| self.take_prompt(*prompt)).collect();
        let is_silent = prompts.iter().all(|said| said.text.trim().is_empty());
        if is_silent {
            return;
        }
        if let Some(note) = self.note.take() {
            self.conversation.user(note);
        }
        for said in prompts {
            self.conversation.user(said);
        }
    }

    fn take_prompt(&mut self, prompt: PromptId) -> Option<Said> {
        let Asked { author, text, files } = self.prompts.remove(&prompt)?;
        Some(self.speakers.present(&author, &text, &files, self.material))
    }
}

fn note(outcome: &TurnOutcome) -> Option<String> {
    match outcome {
        TurnOutcome::Completed => None,
        TurnOutcome::Stopped => {
            Some("(Your last turn was stopped by a person before it was finished.)".to_owned())
        }
        TurnOutcome::Failed { problem } | TurnOutcome::BudgetReached { problem } => {
            Some(format!("(Your last turn ended before it was finished: {})", problem.message))
        }
    }
}
