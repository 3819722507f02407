//! What the agent asks of the people of a session, and what they answer: questions, and leave to run a tool.

use crate::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Questions of one ask.
pub const QUESTIONS_LIMIT: usize = 4;
/// Options of one question.
pub const OPTIONS_LIMIT: usize = 8;
/// In characters.
pub const HEADER_LIMIT: usize = 40;
pub const QUESTION_LIMIT: usize = 2000;
pub const LABEL_LIMIT: usize = 120;
pub const DESCRIPTION_LIMIT: usize = 500;
/// Of a free answer, and of the words with a denial.
pub const REPLY_LIMIT: usize = 4000;

/// What the turn waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Asked {
    /// To be answered with `chosen`: one answer for each, in this order.
    Questions { questions: Vec<Question> },
    /// Leave to run a tool call; to be answered with `once`, `always` or `deny`.
    Permission {
        /// Of the rules, for example `bash`.
        permission: String,
        title: String,
        /// What of the call the rules want people to judge: commands, paths.
        subjects: Vec<String>,
        /// What `always` allows for the rest of the session. Empty: it cannot be allowed in general.
        grants: Vec<Grant>,
    },
}

/// 1 to 4 questions make an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// At most 40 characters.
    pub header: String,
    /// At most 2,000 characters.
    pub text: String,
    /// At most 8, with different labels.
    #[serde(default)]
    pub options: Vec<QuestionOption>,
    /// Several options may be chosen.
    #[serde(default)]
    pub is_multiple: bool,
    /// An answer in one's own words is taken too.
    #[serde(default)]
    pub takes_text: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionOption {
    /// At most 120 characters.
    pub label: String,
    /// At most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A permission for what matches a pattern (`*`: anything, `?`: one character), where rules would ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    pub permission: String,
    pub pattern: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Answer {
    /// To questions: one answer for each.
    Chosen { answers: Vec<QuestionAnswer> },
    /// The call may run.
    Once {},
    /// It may run, and what the ask's grants say is not asked again in this session.
    Always {},
    /// It may not run. `feedback` is told to the model, at most 4,000 characters.
    Deny {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feedback: Option<String>,
    },
}

/// At least an option or a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionAnswer {
    /// Labels of options.
    #[serde(default)]
    pub chosen: Vec<String>,
    /// At most 4,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Asked {
    /// Why these questions cannot be put to anybody, for who wrote them.
    pub fn check(&self) -> Result<(), String> {
        let Self::Questions { questions } = self else { return Ok(()) };
        if !(1..=QUESTIONS_LIMIT).contains(&questions.len()) {
            return Err(format!("Ask 1 to {QUESTIONS_LIMIT} questions at a time."));
        }
        questions.iter().try_for_each(Question::check)
    }

    /// Whether this answers it.
    pub fn takes(&self, answer: &Answer) -> Result<(), Problem> {
        match (self, answer) {
            (Self::Questions { questions }, Answer::Chosen { answers }) => {
                if questions.len() != answers.len() {
                    let count = questions.len();
                    return Err(invalid(format!("This asks {count} question(s); each takes one answer.")));
                }
                questions.iter().zip(answers).try_for_each(|(question, answer)| question.takes(answer))
            }
            (Self::Questions { .. }, _) => {
                Err(invalid("This is a question: it takes options or a text, not a permission."))
            }
            (Self::Permission { grants, .. }, Answer::Always {}) if grants.is_empty() => {
                Err(invalid("This cannot be allowed for the whole session.")
                    .hint("Allow it once, or deny it."))
            }
            (Self::Permission { .. }, Answer::Deny { feedback: Some(feedback) }) => {
                is_within("The feedback", feedback, REPLY_LIMIT).map_err(invalid)
            }
            (Self::Permission { .. }, Answer::Once {} | Answer::Always {} | Answer::Deny { .. }) => Ok(()),
            (Self::Permission { .. }, Answer::Chosen { .. }) => Err(invalid(
                "This asks for leave to run a tool: it takes once, always or deny, not an option.",
            )),
        }
    }
}

impl Question {
    fn check(&self) -> Result<(), String> {
        is_line("A header", &self.header, HEADER_LIMIT)?;
        is_within("A question", &self.text, QUESTION_LIMIT)?;
        if self.text.trim().is_empty() {
            return Err("A question is not empty.".to_owned());
        }
        if self.options.len() > OPTIONS_LIMIT {
            return Err(format!("A question has at most {OPTIONS_LIMIT} options."));
        }
        if self.options.is_empty() && !self.takes_text {
            return Err("A question has options, or takes_text is true.".to_owned());
        }
        for (index, option) in self.options.iter().enumerate() {
            is_line("An option's label", &option.label, LABEL_LIMIT)?;
            if let Some(description) = &option.description {
                is_within("An option's description", description, DESCRIPTION_LIMIT)?;
            }
            if self.options[..index].iter().any(|other| other.label == option.label) {
                return Err(format!("Two options of a question have the label {:?}.", option.label));
            }
        }
        Ok(())
    }

    fn takes(&self, answer: &QuestionAnswer) -> Result<(), Problem> {
        let text = answer.text.as_deref().filter(|text| !text.trim().is_empty());
        if let Some(text) = text {
            is_within("An answer", text, REPLY_LIMIT).map_err(invalid)?;
            if !self.takes_text {
                return Err(invalid(format!("“{}” takes one of its options, and no text.", self.header)));
            }
        }
        for (index, label) in answer.chosen.iter().enumerate() {
            let is_known = self.options.iter().any(|option| option.label == *label);
            if !is_known || answer.chosen[..index].contains(label) {
                let shown: String = label.chars().take(LABEL_LIMIT).collect();
                return Err(invalid(format!(
                    "“{}” has no option {shown:?}, or it is named twice.",
                    self.header
                ))
                .hint("Name options by their label."));
            }
        }
        match answer.chosen.len() {
            0 if text.is_none() => Err(invalid(format!("“{}” is not answered.", self.header))),
            0 | 1 => Ok(()),
            _ if self.is_multiple => Ok(()),
            _ => Err(invalid(format!("“{}” takes one option.", self.header))),
        }
    }
}

fn is_line(what: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{what} is one line of text, and not empty."));
    }
    is_within(what, text, limit)
}

fn is_within(what: &str, text: &str, limit: usize) -> Result<(), String> {
    match text.chars().count() {
        long if long > limit => Err(format!("{what} has at most {limit} characters, not {long}.")),
        _ => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, message)
}
