//! Tools for other sessions that this one begins: `spawn_session`, `list_sessions`, `wait_session`, `message_session` and
//! `cancel_session`. They need no sandbox. Who may, and how many, decides the implementer of [`Children`].

use super::input::{self, object};
use super::run::{Failure, Ran, ToolContext};
use super::short;
use crate::ports::{ChildReport, Spawn, WaitFor};
use greenroom_domain::children::{CHILD_PROMPT_LIMIT, SHARE, SHARE_MOST};
use greenroom_domain::{Delivery, Problem, SessionId};
use greenroom_model::ToolDefinition;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

pub(super) const NAMES: [&str; 5] =
    ["spawn_session", "list_sessions", "wait_session", "message_session", "cancel_session"];

/// A backstop behind the implementer's own deadlines.
const LIMIT: Duration = Duration::from_secs(120);
const WAIT_DEFAULT_S: u64 = 300;
const WAIT_MOST_S: u64 = 1_800;
const TITLE_LIMIT_CHARS: usize = 80;
/// Of each session's last answer: of one in a list, of one that is waited for, and of one that is asked for.
const WORDS_LISTED: usize = 300;
const WORDS_WAITED: usize = 4_000;
const WORDS_ASKED: usize = 16_000;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpawnInput {
    prompt: String,
    repository: Option<String>,
    title: Option<String>,
    base_branch: Option<String>,
    model: Option<String>,
    budget_percent: Option<u64>,
    notify: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListInput {
    session: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitInput {
    sessions: Option<Vec<String>>,
    until: Option<Until>,
    timeout_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Any,
    All,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageInput {
    session: String,
    text: String,
    delivery: Option<Delivery>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelInput {
    session: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Spawn(SpawnInput),
    List(ListInput),
    Wait(WaitInput),
    Message(MessageInput),
    Cancel(CancelInput),
}

pub(super) fn definitions() -> Vec<ToolDefinition> {
    vec![spawn(), list(), wait(), message(), cancel()]
}

fn definition(name: &str, description: &str, properties: &Value, required: &[&str]) -> ToolDefinition {
    ToolDefinition {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: object(properties, required),
    }
}

fn spawn() -> ToolDefinition {
    let repository =
        "Name of the repository it works in; left out: this session's. list_sessions names them.";
    let share = format!(
        "Percent of what is left of your budget that it may use at most, 1 to {SHARE_MOST}; {SHARE} when not said. What it \
         does not use comes back."
    );
    let prompt = format!(
        "Everything it must know: it sees nothing of this conversation. At most {} KiB.",
        CHILD_PROMPT_LIMIT / 1024
    );
    let notify = "true: its last words are sent to you when it ends, once, also when your turn is over; do not wait for it then.";
    definition(
        "spawn_session",
        "Begins another session, an agent with a sandbox and a branch of its own, and returns its id at once. It works \
         beside you.",
        &json!({
            "prompt": {"type": "string", "description": prompt},
            "repository": {"type": "string", "description": repository},
            "title": {"type": "string", "description": "A few words for people; made from the prompt when left out."},
            "base_branch": {"type": "string", "description": "Branch it begins from; left out: the default branch."},
            "model": {"type": "string", "description": "Name of a model of this installation; left out: this session's."},
            "budget_percent": {"type": "integer", "description": share},
            "notify": {"type": "boolean", "description": notify},
        }),
        &["prompt"],
    )
}

fn list() -> ToolDefinition {
    definition(
        "list_sessions",
        "Tells how the sessions that you began are: state, change, what they used, the beginning of their last answer; and \
         names the repositories. With session, that one's last answer as a whole.",
        &json!({"session": {"type": "string", "description": "Id of one session that you began."}}),
        &[],
    )
}

fn wait() -> ToolDefinition {
    let seconds = format!(
        "Most seconds to wait, 1 to {WAIT_MOST_S}; {WAIT_DEFAULT_S} when not said. Sessions go on when they are over."
    );
    definition(
        "wait_session",
        "Waits until sessions that you began have ended what they were asked, and gives their last answers.",
        &json!({
            "sessions": {"type": "array", "items": {"type": "string"},
                "description": "Their ids; left out: all that are at work."},
            "until": {"type": "string", "enum": ["any", "all"],
                "description": "any: the first of them has ended; all, when not said: every one."},
            "timeout_seconds": {"type": "integer", "description": seconds},
        }),
        &[],
    )
}

fn message() -> ToolDefinition {
    definition(
        "message_session",
        "Sends a prompt to a session that you began: more work, an answer, a correction.",
        &json!({
            "session": {"type": "string", "description": "Its id."},
            "text": {"type": "string", "description": "What it shall know or do."},
            "delivery": {"type": "string", "enum": ["queue", "insert"],
                "description": "queue, when not said: after what it does now; insert: at its next step."},
        }),
        &["session", "text"],
    )
}

fn cancel() -> ToolDefinition {
    definition(
        "cancel_session",
        "Stops a session that you began, and those that it began. What it did is kept; message_session lets it go on.",
        &json!({"session": {"type": "string", "description": "Its id."}}),
        &["session"],
    )
}

impl Call {
    pub(super) fn parse(name: &str, given: &Value) -> Result<Self, String> {
        match name {
            "spawn_session" => input::parse(&spawn(), given).map(Self::Spawn),
            "list_sessions" => input::parse(&list(), given).map(Self::List),
            "wait_session" => input::parse(&wait(), given).map(Self::Wait),
            "message_session" => input::parse(&message(), given).map(Self::Message),
            _ => input::parse(&cancel(), given).map(Self::Cancel),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::List(_) | Self::Wait(_))
    }

    pub(super) fn title(&self) -> String {
        match self {
            Self::Spawn(input) => {
                let what = input.title.as_deref().unwrap_or(&input.prompt);
                match &input.repository {
                    Some(repository) => format!("Begin a session in {}: {}", short(repository), short(what)),
                    None => format!("Begin a session: {}", short(what)),
                }
            }
            Self::List(_) => "Look at the sessions begun here".to_owned(),
            Self::Wait(input) => match input.sessions.as_deref() {
                Some([one]) => format!("Wait for session {}", short(one)),
                Some(several) => format!("Wait for {} sessions", several.len()),
                None => "Wait for the sessions begun here".to_owned(),
            },
            Self::Message(input) => format!("Message session {}", short(&input.session)),
            Self::Cancel(input) => format!("Stop session {}", short(&input.session)),
        }
    }

    pub(super) async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        match self {
            Self::Spawn(input) => input.run(context).await,
            Self::List(input) => input.run(context).await,
            Self::Wait(input) => input.run(context).await,
            Self::Message(input) => input.run(context).await,
            Self::Cancel(input) => {
                let session = id_of(&input.session)?;
                in_time(context, context.children.cancel(&context.call, session)).await?;
                Ok(Ran::succeeded(format!("{session} is being stopped. What it did is kept.")))
            }
        }
    }
}

impl SpawnInput {
    async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        if let Some(title) = &self.title
            && (title.trim().is_empty() || title.contains('\n') || title.chars().count() > TITLE_LIMIT_CHARS)
        {
            return Err(Failure::words(format!(
                "The title is one line of 1 to {TITLE_LIMIT_CHARS} characters."
            )));
        }
        if self.budget_percent.is_some_and(|share| !(1..=SHARE_MOST).contains(&share)) {
            return Err(Failure::words(format!("budget_percent is 1 to {SHARE_MOST}.")));
        }
        let spawn = Spawn {
            repository: self.repository.clone(),
            prompt: self.prompt.clone(),
            title: self.title.clone(),
            base_branch: self.base_branch.clone(),
            model: self.model.clone(),
            share: self.budget_percent,
            notify: self.notify.unwrap_or(false),
        };
        in_time(context, context.children.spawn(&context.call, spawn)).await.map(Ran::succeeded)
    }
}

impl ListInput {
    async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        if let Some(session) = &self.session {
            let one = [id_of(session)?];
            let reports = in_time(context, context.children.reports(&one)).await?;
            return Ok(Ran::succeeded(in_words(&reports, WORDS_ASKED)));
        }
        let reports = in_time(context, context.children.reports(&[])).await?;
        let repositories = in_time(context, context.children.repositories()).await?;
        let told = match reports.is_empty() {
            true => "You have begun no session.".to_owned(),
            false => in_words(&reports, WORDS_LISTED),
        };
        Ok(Ran::succeeded(format!("{told}\n\nRepositories: {}.", repositories.join(", "))))
    }
}

impl WaitInput {
    async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        let seconds = self.timeout_seconds.unwrap_or(WAIT_DEFAULT_S);
        if !(1..=WAIT_MOST_S).contains(&seconds) {
            return Err(Failure::words(format!("timeout_seconds is 1 to {WAIT_MOST_S}.")));
        }
        let sessions: Vec<SessionId> =
            self.sessions.iter().flatten().map(|id| id_of(id)).collect::<Result<_, _>>()?;
        let until = match self.until {
            Some(Until::Any) => WaitFor::Any,
            Some(Until::All) | None => WaitFor::All,
        };
        let rest = context.children.rest(&sessions, until);
        let waited = context.halt.within(Duration::from_secs(seconds), rest).await;
        let reports = in_time(context, context.children.reports(&sessions)).await?;
        let told = in_words(&reports, WORDS_WAITED);
        match waited {
            Some(Ok(())) => Ok(Ran::succeeded(told)),
            Some(Err(problem)) => Err(Failure::Words(words_of(&problem))),
            None => Ok(Ran::succeeded(format!("{seconds} s are over, and not all have ended.\n\n{told}"))),
        }
    }
}

impl MessageInput {
    async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        let session = id_of(&self.session)?;
        if self.text.trim().is_empty() || self.text.len() > CHILD_PROMPT_LIMIT {
            return Err(Failure::words(format!("The text has 1 to {CHILD_PROMPT_LIMIT} bytes.")));
        }
        let delivery = self.delivery.unwrap_or_default();
        let sent = context.children.message(&context.call, session, &self.text, delivery);
        in_time(context, sent).await?;
        Ok(Ran::succeeded(format!("{session} has it.")))
    }
}

async fn in_time<T>(
    context: &ToolContext,
    asked: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Failure> {
    match context.halt.within(LIMIT, asked).await {
        Some(answer) => answer.map_err(|problem| Failure::Words(words_of(&problem))),
        None => Err(Failure::words(format!(
            "It was not answered within {} s; list_sessions says what came of it.",
            LIMIT.as_secs()
        ))),
    }
}

fn id_of(text: &str) -> Result<SessionId, Failure> {
    text.trim().parse().map_err(|_| {
        Failure::words(format!(
            "{:?} is no id of a session. list_sessions names those you began.",
            short(text)
        ))
    })
}

fn words_of(problem: &Problem) -> String {
    let more = [&problem.hint, &problem.detail];
    let parts =
        std::iter::once(problem.message.as_str()).chain(more.into_iter().flatten().map(String::as_str));
    parts.collect::<Vec<_>>().join("\n")
}

fn in_words(reports: &[ChildReport], words_most: usize) -> String {
    let mut text = String::new();
    for report in reports {
        let state = report.outcome.map_or("at work", |outcome| outcome.as_str());
        let _ = write!(text, "{} in {} “{}”: {state}", report.session, report.repository, report.title);
        if let Some(problem) = &report.problem {
            let _ = write!(text, " ({})", problem.message);
        }
        if let Some(change) = report.change {
            let _ = write!(text, ", change #{change} of {}", report.repository);
        }
        let _ = writeln!(text, ", {} tokens used.", report.usage.total_tokens());
        let words = report.words.trim();
        if !words.is_empty() {
            let cut = &words[..words.floor_char_boundary(words_most)];
            let left_out = if cut.len() < words.len() { " […]" } else { "" };
            let _ = writeln!(text, "Its last words: {cut}{left_out}");
        }
    }
    text.trim_end().to_owned()
}
