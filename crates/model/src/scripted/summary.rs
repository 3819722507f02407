//! What the stand-in says when it is asked for a summary: what people asked, and what it answered last.

use greenroom_domain::message::{Content, Message};

/// How a request for a summary begins.
const QUESTION: &str = "Stop working for a moment";
/// What a conversation begins with that was summarised.
const SUMMARY: &str = "<summary>";
const LINE_CHARS: usize = 200;

pub(super) fn is_asked_for(prompt: &str) -> bool {
    prompt.contains(QUESTION)
}

pub(super) fn of(messages: &[Message]) -> String {
    let asked = messages.iter().filter_map(|message| match message {
        Message::User { text, .. } => first_line(text.split(QUESTION).next().unwrap_or_default()),
        _ => None,
    });
    let asked: Vec<String> = asked.map(|line| format!("- {line}")).collect();
    let answered = messages.iter().rev().find_map(|message| match message {
        Message::Assistant { content, .. } => content.iter().rev().find_map(|part| match part {
            Content::Text { text } => first_line(text),
            _ => None,
        }),
        _ => None,
    });
    format!(
        "## Goal\n{}\n## Done\n{}",
        asked.join("\n"),
        answered.unwrap_or_else(|| "Nothing yet.".to_owned())
    )
}

/// Distinguishes calls after a summary from those before it, which are not in the conversation any more.
pub(super) fn mark(messages: &[Message]) -> String {
    match messages.first() {
        Some(Message::User { text, .. }) if text.contains(SUMMARY) => {
            let end = text.find("</summary>").unwrap_or(text.len());
            let sum =
                text[..end].bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            format!("{sum:08x}_")
        }
        _ => String::new(),
    }
}

fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(LINE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::super::next;
    use super::*;

    #[test]
    fn a_summary_names_what_was_asked_and_calls_after_it_have_new_ids() {
        let answer =
            |text: &str| Message::Assistant { content: vec![Content::Text { text: text.into() }], raw: None };
        let question = Message::user(format!("{QUESTION}: write a summary."));
        let said = next(&[Message::user("Make the test pass."), answer("Done it."), question]);
        let [Content::Text { text }] = said.as_slice() else { panic!("{said:?}") };
        assert_eq!(text, "## Goal\n- Make the test pass.\n## Done\nDone it.");
        let id = |first: &str| match next(&[Message::user(first), answer("x"), Message::user("fix the test")])
            .pop()
        {
            Some(Content::ToolCall(call)) => call.id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id("hello"), "scripted_1");
        assert_ne!(id("<summary>\na\n</summary>"), id("<summary>\nb\n</summary>"));
    }
}
