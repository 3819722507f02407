//! `question`: asks the people of the session. What they are asked and how long they are waited for is the turn's doing; this
//! says what the model may ask, and what it is told.

use super::input::object;
use greenroom_domain::event::ToolOutcome;
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Answer, Asked, Question, QuestionAnswer};
use greenroom_model::ToolDefinition;
use serde::Deserialize;
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) questions: Vec<Question>,
}

pub(super) fn definition() -> ToolDefinition {
    let option = object(
        &json!({
            "label": {"type": "string", "description": "A few words, at most 120 characters."},
            "description": {"type": "string", "description": "What choosing it means, at most 500 characters."},
        }),
        &["label"],
    );
    let question = object(
        &json!({
            "header": {"type": "string", "description": "Its subject in a word or two, at most 40 characters."},
            "text": {"type": "string", "description": "The question itself, with what people must know to answer it."},
            "options": {"type": "array", "items": option, "description": "At most 8 answers to choose from; the one you would take first."},
            "is_multiple": {"type": "boolean", "description": "Several options may be chosen."},
            "takes_text": {"type": "boolean", "description": "People may answer in their own words. Needed where there are no options."},
        }),
        &["header", "text"],
    );
    ToolDefinition {
        name: "question".to_owned(),
        description: "Asks the people of this session and waits for their answer. Use it for decisions that are theirs and that \
             you cannot take from the request, the code or its documents: what is wanted, which of several ways with \
             lasting consequences. Not for leave to go on, and not for what you can find out or safely assume: often \
             nobody is there to answer, and then you go on with your best assumption. Ask everything at once."
            .to_owned(),
        input_schema: object(
            &json!({"questions": {"type": "array", "items": question, "description": "1 to 4 questions."}}),
            &["questions"],
        ),
    }
}

pub(super) fn title(input: &Input) -> String {
    match input.questions.as_slice() {
        [one] => format!("Ask: {}", super::short(&one.header)),
        several => format!("Ask {} questions", several.len()),
    }
}

/// The error is for the model.
pub(crate) fn asked(input: &Input) -> Result<Asked, String> {
    let asked = Asked::Questions { questions: input.questions.clone() };
    asked.check().map(|()| asked)
}

/// What the model is told.
pub(crate) fn told(input: &Input, end: &AskEnd) -> (ToolOutcome, String) {
    match end {
        AskEnd::Answered { answer: Answer::Chosen { answers }, name, .. } => {
            let lines = input.questions.iter().zip(answers).map(|(question, answer)| line(question, answer));
            let text = format!("{name} answered.\n{}", lines.collect::<Vec<_>>().join("\n"));
            (ToolOutcome::Succeeded, text)
        }
        AskEnd::Answered { .. } | AskEnd::Expired => (ToolOutcome::Failed, NOBODY.to_owned()),
    }
}

const NOBODY: &str = "Decision: nobody answered. Nobody was there in time. Go on with your best assumption, and say in your \
     answer what you assumed and what would change it. Do not ask the same again in this turn.";

fn line(question: &Question, answer: &QuestionAnswer) -> String {
    let text = answer.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let said = answer.chosen.iter().map(String::as_str).chain(text).collect::<Vec<_>>().join("; ");
    format!("- {}: {said}", question.header)
}
