//! Lets a plan be written as straight code although it is asked for one step at a time: the plan runs from the start on
//! every request, gets the answers that exist, and stops at the first call that has none.

use greenroom_domain::message::{Content, Message, ToolCall, ToolResult};
use serde_json::Value;

/// A tool call that a plan makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) tool: &'static str,
    pub(super) input: Value,
}

/// Why a plan does not go on now.
#[derive(Debug, PartialEq)]
pub(super) enum Stop {
    /// These calls have to be made first.
    Ask { say: String, wishes: Vec<Wish> },
    /// The plan is over: what there is to say.
    Over(String),
}

pub(super) struct Replay<'a> {
    exchanges: std::vec::IntoIter<(&'a ToolCall, Option<&'a ToolResult>)>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(messages: &'a [Message]) -> Self {
        let results = || {
            messages.iter().flat_map(|message| match message {
                Message::ToolResults { results } => results.as_slice(),
                _ => &[],
            })
        };
        let calls = messages.iter().flat_map(|message| match message {
            Message::Assistant { content, .. } => content.as_slice(),
            _ => &[],
        });
        let exchanges: Vec<_> = calls
            .filter_map(|part| match part {
                Content::ToolCall(call) => Some((call, results().find(|result| result.call == call.id))),
                _ => None,
            })
            .collect();
        Self { exchanges: exchanges.into_iter() }
    }

    /// The answer to one call.
    pub(super) fn call(&mut self, say: &str, tool: &'static str, input: Value) -> Result<&'a str, Stop> {
        let answers = self.calls(say, vec![Wish { tool, input }])?;
        Ok(answers[0])
    }

    /// The answers to calls that are made together.
    pub(super) fn calls(&mut self, say: &str, wishes: Vec<Wish>) -> Result<Vec<&'a str>, Stop> {
        if self.exchanges.as_slice().is_empty() {
            return Err(Stop::Ask { say: say.to_owned(), wishes });
        }
        wishes.iter().map(|wish| self.answer(wish)).collect()
    }

    fn answer(&mut self, wish: &Wish) -> Result<&'a str, Stop> {
        let tool = wish.tool;
        match self.exchanges.next() {
            Some((call, _)) if call.name != tool || call.input != wish.input => Err(Stop::Over(format!(
                "I lost my thread: I expected to have called `{tool}`, but the conversation holds a call of `{}`. I \
                 stop here, without proposing a change.",
                call.name
            ))),
            Some((_, Some(result))) if !result.is_error || is_finished_command(tool, &result.text) => {
                Ok(&result.text)
            }
            Some((_, Some(result))) => Err(Stop::Over(format!(
                "The tool `{tool}` failed, which I did not expect: {}\n\nI stop here, without proposing a change.",
                first_lines(&result.text)
            ))),
            Some((_, None)) | None => Err(Stop::Over(format!(
                "The tool `{tool}` gave no answer, which I did not expect. I stop here, without proposing a change."
            ))),
        }
    }
}

/// A command that ran and failed is an answer.
fn is_finished_command(tool: &str, text: &str) -> bool {
    tool == "bash" && text.trim_end().lines().next_back().is_some_and(|line| line.starts_with("[exit code "))
}

pub(super) fn first_lines(text: &str) -> String {
    text.lines().take(6).collect::<Vec<_>>().join("\n").chars().take(600).collect()
}
