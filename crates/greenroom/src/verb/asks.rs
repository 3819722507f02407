//! `session asks`, `session answer`

use super::{Desk, now_ms, queue};
use crate::exit::{Exit, Failure};
use crate::render::asks::asked;
use crate::render::text::{DIM, duration, paint};
use greenroom_domain::{Answer, AskId, Asked, Command, Question, QuestionAnswer, SessionId};
use greenroom_wire::AskView;

pub(super) async fn list(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let asks = desk.client.session_asks(session).await?;
    desk.out.document(&asks, |asks| match asks.as_slice() {
        [] => "Nothing waits for people.\n".to_owned(),
        asks => asks.iter().map(described).collect(),
    })?;
    Ok(Exit::Done)
}

fn described(ask: &AskView) -> String {
    let rest = u64::try_from(ask.expires_at_ms - now_ms()).unwrap_or(0);
    let until = paint(DIM, format!("{} · waits {} more", ask.ask, duration(rest)));
    format!("{until}\n{}\n", asked(&ask.of))
}

pub(super) async fn answer(
    desk: &Desk,
    session: SessionId,
    ask: Option<AskId>,
    words: &[String],
) -> Result<Exit, Failure> {
    let open = desk.client.session_asks(session).await?;
    let Some(found) = chosen(&open, ask)? else {
        // The server says what became of it.
        let ask = ask.ok_or_else(|| nothing_open(session))?;
        let answer = Answer::Deny { feedback: None };
        return queue::submit(desk, session, &Command::Answer { ask, answer }, "Answered.").await;
    };
    let answer = answer_of(&found.of, words)?;
    queue::submit(desk, session, &Command::Answer { ask: found.ask, answer }, "Answered.").await
}

fn nothing_open(session: SessionId) -> Failure {
    Failure::usage(
        "Nothing waits for people in this session.",
        format!("See `greenroom session asks {session}`."),
    )
}

/// The one that is named, or the only one. `None`: it is not open.
fn chosen(open: &[AskView], ask: Option<AskId>) -> Result<Option<&AskView>, Failure> {
    match (ask, open) {
        (Some(ask), open) => Ok(open.iter().find(|one| one.ask == ask)),
        (None, [one]) => Ok(Some(one)),
        (None, []) => Ok(None),
        (None, several) => Err(Failure::usage(
            format!("{} asks wait in this session.", several.len()),
            "Name one with `--ask`; `greenroom session asks` lists them.",
        )),
    }
}

fn answer_of(of: &Asked, words: &[String]) -> Result<Answer, Failure> {
    match of {
        Asked::Questions { questions } => {
            if questions.len() != words.len() {
                let message =
                    format!("{} question(s) are asked, and each takes one argument.", questions.len());
                return Err(Failure::usage(message, "Quote an answer of several words."));
            }
            let answers = questions.iter().zip(words).map(|(question, said)| one_answer(question, said));
            Ok(Answer::Chosen { answers: answers.collect::<Result<_, _>>()? })
        }
        Asked::Permission { .. } => {
            let (first, rest) =
                words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            match (first, rest) {
                ("once", []) => Ok(Answer::Once {}),
                ("always", []) => Ok(Answer::Always {}),
                ("deny", rest) => {
                    let feedback = (!rest.is_empty()).then(|| rest.join(" "));
                    Ok(Answer::Deny { feedback })
                }
                _ => Err(Failure::usage(
                    "This asks for leave to run a tool.",
                    "Answer `once`, `always`, or `deny` with what the agent should know.",
                )),
            }
        }
    }
}

/// An option by its label or number, several with commas between, or words of one's own.
fn one_answer(question: &Question, said: &str) -> Result<QuestionAnswer, Failure> {
    let option = |name: &str| -> Option<String> {
        let name = name.trim();
        let by_label = question.options.iter().find(|option| option.label.eq_ignore_ascii_case(name));
        let by_number =
            || name.parse::<usize>().ok().and_then(|number| question.options.get(number.checked_sub(1)?));
        by_label.or_else(by_number).map(|option| option.label.clone())
    };
    if let Some(label) = option(said) {
        return Ok(QuestionAnswer { chosen: vec![label], text: None });
    }
    if question.is_multiple
        && let Some(chosen) = said.split(',').map(option).collect::<Option<Vec<_>>>()
    {
        return Ok(QuestionAnswer { chosen, text: None });
    }
    if question.takes_text {
        return Ok(QuestionAnswer { chosen: vec![], text: Some(said.to_owned()) });
    }
    let labels: Vec<_> = question.options.iter().map(|option| option.label.as_str()).collect();
    let message = format!("“{}” has no option {said:?}.", question.header);
    Err(Failure::usage(message, format!("It has: {}.", labels.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::ask::QuestionOption;

    fn question(is_multiple: bool, takes_text: bool) -> Question {
        let option = |label: &str| QuestionOption { label: label.into(), description: None };
        Question {
            header: "Colour".into(),
            text: "Which?".into(),
            options: vec![option("Red"), option("Blue")],
            is_multiple,
            takes_text,
        }
    }

    fn said(question: Question, words: &[&str]) -> Result<Answer, Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        answer_of(&Asked::Questions { questions: vec![question] }, &words)
    }

    fn chosen(labels: &[&str], text: Option<&str>) -> Answer {
        let chosen = labels.iter().map(|label| (*label).to_owned()).collect();
        Answer::Chosen { answers: vec![QuestionAnswer { chosen, text: text.map(str::to_owned) }] }
    }

    #[test]
    fn options_are_named_by_label_or_number_and_words_are_words() {
        assert_eq!(said(question(false, false), &["red"]).unwrap(), chosen(&["Red"], None));
        assert_eq!(said(question(false, false), &["2"]).unwrap(), chosen(&["Blue"], None));
        assert_eq!(said(question(true, false), &["red, 2"]).unwrap(), chosen(&["Red", "Blue"], None));
        assert_eq!(said(question(false, true), &["green"]).unwrap(), chosen(&[], Some("green")));
        for (multiple, words) in
            [(false, vec!["green"]), (false, vec!["red,blue"]), (true, vec!["3"]), (false, vec![])]
        {
            assert!(said(question(multiple, false), &words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn leave_is_given_or_denied_with_words() {
        let of = Asked::Permission {
            permission: "bash".into(),
            title: "t".into(),
            subjects: vec![],
            grants: vec![],
        };
        let give =
            |words: &[&str]| answer_of(&of, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(give(&["once"]).unwrap(), Answer::Once {});
        assert_eq!(give(&["always"]).unwrap(), Answer::Always {});
        assert_eq!(give(&["deny"]).unwrap(), Answer::Deny { feedback: None });
        let feedback = Some("use just".to_owned());
        assert_eq!(give(&["deny", "use", "just"]).unwrap(), Answer::Deny { feedback });
        assert!(give(&[]).is_err() && give(&["yes"]).is_err() && give(&["once", "more"]).is_err());
    }
}
