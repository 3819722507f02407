//! What the agent asks people, and what became of it.

use super::text::{BOLD, DIM, GOOD, NOTE, WARN, clean, one_line, paint};
use greenroom_domain::{Answer, Asked, Event, Question};

const LINE_CHARS: usize = 160;

/// `None`: it is about something else.
pub(super) fn note(event: &Event) -> Option<String> {
    Some(match event {
        Event::AskOpened { ask, of, .. } => {
            let how =
                paint(DIM, format!("Answer: greenroom session answer <session> --ask {ask} {}", usage(of)));
            format!("{}\n{how}", asked(of))
        }
        Event::AskAnswered { answer, name, .. } => answered(answer, &one_line(name, 60)),
        Event::AskExpired { .. } => paint(WARN, "Nobody answered in time."),
        _ => return None,
    })
}

/// The question as people read it.
pub(crate) fn asked(of: &Asked) -> String {
    match of {
        Asked::Questions { questions } => questions.iter().map(question).collect::<Vec<_>>().join("\n"),
        Asked::Permission { permission, title, subjects, grants } => {
            let mut text =
                paint(WARN, format!("Asks for leave ({permission}): {}", one_line(title, LINE_CHARS)));
            for subject in subjects {
                text.push_str(&format!("\n  {}", one_line(subject, LINE_CHARS)));
            }
            if !grants.is_empty() {
                let patterns: Vec<_> =
                    grants.iter().map(|grant| one_line(&grant.pattern, LINE_CHARS)).collect();
                let always = format!("\n  `always` allows for this session: {}", patterns.join(", "));
                text.push_str(&paint(DIM, always));
            }
            text
        }
    }
}

fn question(question: &Question) -> String {
    let header = paint(BOLD, one_line(&question.header, LINE_CHARS));
    let mut text = format!("{} {header}: {}", paint(NOTE, "Asks"), clean(&question.text));
    for (number, option) in (1..).zip(&question.options) {
        text.push_str(&format!("\n  {number}. {}", one_line(&option.label, LINE_CHARS)));
        if let Some(description) = &option.description {
            text.push_str(&paint(DIM, format!(": {}", one_line(description, LINE_CHARS))));
        }
    }
    if question.is_multiple {
        text.push_str(&paint(DIM, "\n  Several may be chosen."));
    }
    if question.takes_text {
        text.push_str(&paint(DIM, "\n  Or in your own words."));
    }
    text
}

fn usage(of: &Asked) -> String {
    match of {
        Asked::Permission { grants, .. } if grants.is_empty() => "once|deny".to_owned(),
        Asked::Permission { .. } => "once|always|deny".to_owned(),
        Asked::Questions { questions } => vec!["<answer>"; questions.len()].join(" "),
    }
}

fn answered(answer: &Answer, name: &str) -> String {
    match answer {
        Answer::Chosen { answers } => {
            let one = |answer: &greenroom_domain::QuestionAnswer| {
                let said = answer.chosen.iter().chain(&answer.text).map(|text| one_line(text, LINE_CHARS));
                said.collect::<Vec<_>>().join("; ")
            };
            let said = answers.iter().map(one).collect::<Vec<_>>().join(" · ");
            paint(GOOD, format!("{name} answered: {said}"))
        }
        Answer::Once {} => paint(GOOD, format!("{name} allowed it once.")),
        Answer::Always {} => paint(GOOD, format!("{name} allowed it for this session.")),
        Answer::Deny { feedback } => {
            let words =
                feedback.as_deref().map_or(String::new(), |said| format!(" {}", one_line(said, LINE_CHARS)));
            paint(WARN, format!("{name} denied it.{words}"))
        }
    }
}
