//! Frames of a session as text for a terminal: pure, so that `run`, `session follow` and the demo show the same and a
//! recorded list of frames can be tested. Keeps only what is still open: blocks of text, running calls, a timeline.

pub(crate) mod asks;
mod card;
pub(crate) mod diff;
mod summary;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod waterfall;

pub(crate) use summary::{problem, used};

use card::{Card, Ending};
use greenroom_domain::event::BlockKind;
use greenroom_domain::message::Content;
use greenroom_domain::{Attachment, BlockId, Event};
use greenroom_wire::{Frame, Presence};
use std::collections::HashMap;
use text::{BOLD, DIM, NOTE, WARN, clean, one_line, paint};

/// What is on the screen last; another kind begins after an empty line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Section {
    Nothing,
    Prompt,
    Text(BlockId),
    Card,
    Note,
    End,
}

#[derive(Debug)]
struct Block {
    kind: BlockKind,
    /// Bytes of the block that are on the screen.
    shown: usize,
}

/// A session as it is written to a terminal.
#[derive(Debug)]
pub(crate) struct Transcript {
    out: String,
    is_inside_line: bool,
    section: Section,
    blocks: HashMap<BlockId, Block>,
    cards: Vec<Card>,
    /// Call whose card is last on the screen, so that its output can follow.
    last_card: Option<String>,
    timeline: Option<String>,
    /// Who was here when it was last told; empty: oneself.
    here: String,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        Self {
            out: String::new(),
            is_inside_line: false,
            section: Section::Nothing,
            blocks: HashMap::new(),
            cards: Vec::new(),
            last_card: None,
            timeline: None,
            here: String::new(),
        }
    }

    /// What to write for a frame: nothing, lines, or a piece of a line that goes on.
    pub(crate) fn frame(&mut self, frame: &Frame) -> String {
        match frame {
            Frame::Entry { entry } => self.event(&entry.event),
            Frame::Delta { block, offset, text } => self.block_text(*block, *offset as usize, text),
            Frame::Output { call, offset, text } => self.output(call, *offset, text),
            Frame::Error { problem } => self.note(&summary::problem(problem)),
            Frame::Receipt(receipt) => {
                receipt.problem.iter().for_each(|problem| self.note(&summary::problem(problem)));
            }
            Frame::Presence(presence) => self.presence(presence),
            Frame::Hello { .. }
            | Frame::Snapshot { .. }
            | Frame::Omitted { .. }
            | Frame::CaughtUp { .. }
            | Frame::Resume { .. } => {}
            // Of pages: who has read how far, and what the person has typed elsewhere.
            Frame::Readers(_) | Frame::Read(_) | Frame::Draft(_) => {}
        }
        std::mem::take(&mut self.out)
    }

    /// Who is here, when that changes and it is not in the middle of a line.
    fn presence(&mut self, presence: &Presence) {
        let here = summary::here(presence);
        if here == self.here || self.is_inside_line {
            return;
        }
        self.note(&paint(NOTE, if here.is_empty() { "Nobody else is here any more." } else { &here }));
        self.here = here;
    }

    /// Ends an unfinished line.
    pub(crate) fn finish(&mut self) -> String {
        self.end_line();
        std::mem::take(&mut self.out)
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::PromptAccepted { author, text, attachments, .. } => {
                self.prompt(&author.name, text, attachments);
            }
            Event::BlockOpened { block, kind, .. } => {
                self.blocks.insert(*block, Block { kind: *kind, shown: 0 });
            }
            Event::BlockText { block, offset, text } => self.block_text(*block, *offset as usize, text),
            Event::BlockReset { block } => self.withdraw(*block),
            Event::AssistantMessage { content, blocks, .. } => self.message(content, blocks),
            Event::ToolStarted { call, title, .. } => self.tool_started(call, title),
            Event::ToolFinished { call, outcome, text, display, duration_ms, .. } => {
                let ending =
                    Ending { outcome: *outcome, text, display: display.as_ref(), duration_ms: *duration_ms };
                self.tool_finished(call, &ending);
            }
            Event::StartTimeline { marks, .. } => self.timeline = Some(summary::timeline(marks)),
            Event::TurnInterrupted { open_calls, .. } => self.interrupted(open_calls),
            Event::TurnFinished { outcome, usage, duration_ms, .. } => {
                self.begin(Section::End);
                let timeline = self.timeline.take();
                self.line(&summary::turn(outcome, usage, *duration_ms));
                timeline.iter().for_each(|table| self.line(&format!("\n{}", table.trim_end())));
            }
            other => summary::note(other).iter().for_each(|text| self.note(text)),
        }
    }

    fn prompt(&mut self, name: &str, text: &str, files: &[Attachment]) {
        self.begin(Section::Prompt);
        let text = clean(text.trim()).replace('\n', "\n  ");
        self.line(&format!("{} {text}", paint(BOLD, format!("{}:", one_line(name, 60)))));
        for file in files {
            let about = format!("{} ({}, {} bytes)", file.name, file.media_type, file.bytes);
            self.line(&paint(DIM, format!("  + {}", one_line(&about, 120))));
        }
    }

    fn block_text(&mut self, id: BlockId, offset: usize, text: &str) {
        let block = self.blocks.entry(id).or_insert(Block { kind: BlockKind::Text, shown: 0 });
        let Some(known) = block.shown.checked_sub(offset) else { return };
        let Some(fresh) = text.get(known..).filter(|fresh| !fresh.is_empty()) else { return };
        let kind = block.kind;
        block.shown += fresh.len();
        if self.section != Section::Text(id) {
            self.begin(Section::Text(id));
        }
        match kind {
            BlockKind::Text => self.out.push_str(&clean(fresh)),
            BlockKind::Thinking => self.out.push_str(&paint(DIM, clean(fresh))),
        }
        self.is_inside_line = !fresh.ends_with('\n');
    }

    fn withdraw(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get_mut(&id) else { return };
        if std::mem::take(&mut block.shown) > 0 {
            self.note(&paint(WARN, "The answer was cut off; what follows replaces its last part."));
        }
    }

    /// The committed words: what did not stream is added, then the blocks are closed.
    fn message(&mut self, content: &[Content], blocks: &[BlockId]) {
        for (part, id) in content.iter().zip(blocks) {
            if let Content::Text { text } | Content::Thinking { text } = part {
                let kind =
                    if matches!(part, Content::Text { .. }) { BlockKind::Text } else { BlockKind::Thinking };
                self.blocks.entry(*id).or_insert(Block { kind, shown: 0 });
                self.block_text(*id, 0, text);
            }
            self.blocks.remove(id);
        }
        self.end_line();
    }

    fn tool_started(&mut self, call: &str, title: &str) {
        let card = Card::new(call, title);
        self.card_heading(&card);
        self.cards.push(card);
    }

    fn card_heading(&mut self, card: &Card) {
        self.begin(Section::Card);
        self.out.push_str(&card.heading());
        self.last_card = Some(card.call.clone());
    }

    /// Output is shown live of a call that runs alone; that of calls beside each other comes with their end.
    fn output(&mut self, call: &str, offset: u64, text: &str) {
        let is_on_screen = self.section == Section::Card && self.last_card.as_deref() == Some(call);
        if let [card] = self.cards.as_mut_slice()
            && is_on_screen
            && card.call == call
        {
            let text = card.output(offset, text);
            self.out.push_str(&text);
        }
    }

    fn tool_finished(&mut self, call: &str, ending: &Ending<'_>) {
        let Some(at) = self.cards.iter().position(|card| card.call == call) else { return };
        let card = self.cards.remove(at);
        let text = card.ending(ending);
        if text.is_empty() {
            return;
        }
        if self.section != Section::Card || self.last_card.as_deref() != Some(call) {
            self.card_heading(&card);
        }
        self.out.push_str(&text);
    }

    fn interrupted(&mut self, open_calls: &[String]) {
        self.note(&paint(WARN, "The server restarted in the middle of this turn."));
        for call in open_calls {
            let title = self.cards.iter().find(|card| card.call == *call).map(Card::title);
            let title = title.map_or_else(|| one_line(call, 80), str::to_owned);
            self.note(&paint(WARN, format!("Interrupted, outcome unknown: {title}")));
        }
        self.cards.retain(|card| !open_calls.contains(&card.call));
    }

    fn note(&mut self, text: &str) {
        self.begin(Section::Note);
        self.line(text);
    }

    fn begin(&mut self, section: Section) {
        self.end_line();
        let is_joined = self.section == section && matches!(section, Section::Card | Section::Note);
        if self.section != Section::Nothing && !is_joined {
            self.out.push('\n');
        }
        self.section = section;
        self.last_card = None;
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.is_inside_line) {
            self.out.push('\n');
        }
    }
}

/// A line of progress, beside the results.
pub(crate) fn progress(text: &str) -> String {
    paint(NOTE, clean(text))
}

#[cfg(test)]
mod tests;
