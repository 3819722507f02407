//! One turn: the model is asked, its tool calls are run, and again, until it is done, stopped, out of budget or failed.
//!
//! What is durable when: an answer and the intents of its first tool calls are one synced commit, before anything runs;
//! results and the intent of the next model request are one synced commit, before the request leaves. Only the text of open
//! blocks is buffered, and superseded by the answer; viewers have it as it comes, and its entries once they are synced.

mod admission;
mod blocks;
mod budget;
mod calls;
mod model;
mod room;

use crate::context;
use crate::conversation::Conversation;
use crate::halt::{Halt, Halted};
use crate::permissions::Permissions;
use crate::ports::{Artifacts, Changes, Children, Clock, Hands, Log, TurnEnded};
use crate::prompt::{self, Instructions};
use crate::tools::{self, Editing, Files, Terminals};
use crate::transcript::Transcript;
use greenroom_domain::event::{Durability, Event, TurnOutcome};
use greenroom_domain::message::{Content, StopReason, ToolCall};
use greenroom_domain::money::{Budget, Usage};
use greenroom_domain::{ErrorCode, Problem, TurnId};
use greenroom_model::{Effort, Provider, Response, ToolDefinition};
use greenroom_sandbox::Sandbox;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A commit that takes longer than this counts as a lost log.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);
/// How often in a row a model may run into its output limit, or answer nothing, before the turn fails.
const CUT_OFF_LIMIT: u32 = 4;
const EMPTY_LIMIT: u32 = 3;
const PAUSE_LIMIT: u32 = 20;

/// Everything a turn works with.
#[derive(Debug)]
pub struct TurnContext {
    pub provider: Arc<dyn Provider>,
    /// Those that go on with the turn when it gives out, in this order.
    pub fallbacks: VecDeque<Arc<dyn Provider>>,
    pub log: Arc<dyn Log>,
    pub hands: Arc<dyn Hands>,
    pub changes: Arc<dyn Changes>,
    pub artifacts: Arc<dyn Artifacts>,
    pub children: Arc<dyn Children>,
    pub clock: Arc<dyn Clock>,
    /// One per session, kept as long as the session is in memory.
    pub files: Arc<Files>,
    pub terminals: Arc<Terminals>,
    /// The same for every turn of a session: they are part of the stable prefix.
    pub instructions: Instructions,
    pub permissions: Permissions,
    /// The prompt that starts the turn included.
    pub history: Transcript,
    /// Nothing is asked but a summary of the history.
    pub is_compaction: bool,
    pub budget: Budget,
    /// What the turn used before a restart; the default for a new turn.
    pub used: Used,
    pub cancel: CancellationToken,
    pub max_output_tokens: u32,
    pub effort: Option<Effort>,
    /// The session's id.
    pub cache_key: String,
}

/// What a turn has used of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub usage: Usage,
    pub tool_calls: u64,
    pub wall_ms: u64,
}

/// How a turn ended. The caller commits `TurnFinished` with it; everything else is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub outcome: TurnOutcome,
    pub used: Used,
}

/// Runs a turn to its end. The caller has committed `ModelRequested` (attempt 1) of the first request together with the
/// prompt; the loop commits those of the later ones. Dropping the future abandons the turn without a word.
pub async fn run(turn: TurnId, context: TurnContext) -> Result<Finished, TurnEnded> {
    let mut turn = Turn::new(turn, context);
    let outcome = match turn.context.is_compaction {
        true => Box::pin(turn.compact_only()).await?,
        false => Box::pin(turn.steps()).await?,
    };
    turn.flush(Durability::Synced).await?;
    turn.acknowledge_runs().await;
    turn.used.wall_ms = turn.wall_ms();
    Ok(Finished { outcome, used: turn.used })
}

struct Turn {
    id: TurnId,
    context: TurnContext,
    system: String,
    tools: Vec<ToolDefinition>,
    /// An estimate of both.
    fixed_tokens: u64,
    conversation: Conversation,
    /// Room was made because the provider wanted it, and no answer came since.
    has_overflowed: bool,
    halt: Halt,
    started_ms: i64,
    used: Used,
    /// For people.
    waited_ms: u64,
    /// Calls of the last answer that wait for people since before a restart, and those beside them.
    resumed: Vec<ToolCall>,
    /// Events that wait for the next commit.
    pending: Vec<Event>,
    requests: u64,
    streak: Streak,
    repeats: calls::Repeats,
    /// Finished runs that the stage still keeps.
    unacknowledged: Vec<(Arc<dyn Sandbox>, String)>,
}

/// Answers in a row that did not move the work.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    cut_off: u32,
    empty: u32,
    paused: u32,
}

enum Next {
    Ask,
    End(TurnOutcome),
}

impl Turn {
    fn new(id: TurnId, mut context: TurnContext) -> Self {
        let Transcript { mut conversation, resumed } = std::mem::take(&mut context.history);
        let mut tools = tools::offered(Editing::of(&*context.provider), &context.instructions);
        tools.retain(|tool| !context.permissions.is_hidden(tools::permission_of(&tool.name)));
        let fixed_tokens = context::fixed_tokens(&tools, &context.instructions);
        conversation.begins_with(fixed_tokens);
        let wall_ms = context.budget.wall_ms.saturating_sub(context.used.wall_ms);
        Self {
            id,
            system: prompt::system(&context.instructions),
            tools,
            fixed_tokens,
            conversation,
            has_overflowed: false,
            halt: Halt::new(context.cancel.clone(), context.clock.clone(), wall_ms),
            started_ms: context.clock.now_ms(),
            used: context.used,
            waited_ms: 0,
            // Then the next request is not the turn's first.
            requests: u64::from(!resumed.is_empty()),
            resumed,
            pending: Vec::new(),
            streak: Streak::default(),
            repeats: calls::Repeats::default(),
            unacknowledged: Vec::new(),
            context,
        }
    }

    async fn steps(&mut self) -> Result<TurnOutcome, TurnEnded> {
        let resumed = std::mem::take(&mut self.resumed);
        if !resumed.is_empty()
            && let Next::End(outcome) = self.run_calls(resumed, false).await?
        {
            return Ok(outcome);
        }
        loop {
            if let Some(outcome) = self.limit_reached() {
                return Ok(outcome);
            }
            self.give_notice();
            if let Some(outcome) = self.make_room().await? {
                return Ok(outcome);
            }
            self.conversation.requested();
            if self.conversation.messages().is_empty() {
                return Ok(failed(Problem::new(ErrorCode::Internal, "The turn has no prompt to answer.")));
            }
            let next = match self.answer().await? {
                model::Answer::Complete(response) => self.digest(*response).await?,
                model::Answer::Overflow(problem) => {
                    self.make_room_after_overflow(problem).await?.map_or(Next::Ask, Next::End)
                }
                model::Answer::Failed(problem) => Next::End(failed(problem)),
                model::Answer::Halted(halted) => Next::End(self.halted(halted)),
            };
            if let Next::End(outcome) = next {
                return Ok(outcome);
            }
        }
    }

    /// Acts on a complete answer, whose event is pending.
    async fn digest(&mut self, response: Response) -> Result<Next, TurnEnded> {
        let Response { content, raw, stop_reason, usage } = response;
        self.has_overflowed = false;
        self.conversation.assistant(&content, raw.as_ref(), stop_reason);
        self.conversation.measured(&usage);
        let calls: Vec<ToolCall> = content.iter().filter_map(tool_call).cloned().collect();
        let is_empty = calls.is_empty() && !content.iter().any(has_text);
        self.streak = self.streak.after(stop_reason, is_empty);
        if stop_reason != StopReason::Refusal && !calls.is_empty() {
            let is_cut_off = stop_reason == StopReason::MaxTokens;
            let ended = self.run_calls(calls, is_cut_off).await?;
            return Ok(self.streak.problem().map_or(ended, |problem| Next::End(failed(problem))));
        }
        self.flush(Durability::Synced).await?;
        if let Some(problem) = self.streak.problem() {
            return Ok(Next::End(failed(problem)));
        }
        Ok(match stop_reason {
            StopReason::Refusal => Next::End(failed(refused(&content))),
            StopReason::MaxTokens | StopReason::Pause => Next::Ask,
            _ if is_empty => Next::Ask,
            // An answer that rests on files that changed since is not the last word.
            _ if self.give_notice() => Next::Ask,
            StopReason::EndTurn | StopReason::ToolUse | StopReason::Other => {
                Next::End(TurnOutcome::Completed)
            }
        })
    }

    /// Tells the model what it must know before its next request, if there is anything.
    fn give_notice(&mut self) -> bool {
        let Some(text) = self.context.files.take_notice() else { return false };
        self.conversation.insert(text.clone());
        self.pending.push(Event::NoticeGiven { turn: self.id, text });
        true
    }

    fn limit_reached(&self) -> Option<TurnOutcome> {
        if let Some(halted) = self.halt.check() {
            return Some(self.halted(halted));
        }
        let problem = budget::spent(&self.own_budget(), &self.used)?;
        Some(TurnOutcome::BudgetReached { problem })
    }

    /// Without what the turn gave to sessions that it began.
    fn own_budget(&self) -> Budget {
        let (tokens, cost) = self.context.children.promised();
        self.context.budget.less(tokens, cost)
    }

    fn halted(&self, halted: Halted) -> TurnOutcome {
        match halted {
            Halted::Stopped => TurnOutcome::Stopped,
            Halted::TimeOver => TurnOutcome::BudgetReached {
                problem: budget::time_over(&self.context.budget, self.wall_ms()),
            },
        }
    }

    fn wall_ms(&self) -> u64 {
        let elapsed = self.context.clock.now_ms().saturating_sub(self.started_ms);
        let elapsed = u64::try_from(elapsed).unwrap_or(0).saturating_sub(self.waited_ms);
        self.context.used.wall_ms + elapsed
    }

    /// Commits what is pending; nothing pending, nothing done.
    async fn flush(&mut self, durability: Durability) -> Result<(), TurnEnded> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.pending);
        commit(&self.context, &self.halt, events, durability).await
    }
}

async fn commit(
    context: &TurnContext,
    halt: &Halt,
    events: Vec<Event>,
    durability: Durability,
) -> Result<(), TurnEnded> {
    let commit = context.log.commit(events, durability);
    halt.within(COMMIT_LIMIT, commit).await.unwrap_or_else(|| {
        Err(TurnEnded::new(format!("the log did not take an entry within {} s", COMMIT_LIMIT.as_secs())))
    })
}

impl Streak {
    fn after(self, stop: StopReason, is_empty: bool) -> Self {
        match stop {
            StopReason::MaxTokens => Self { cut_off: self.cut_off + 1, ..Self::default() },
            StopReason::Pause => Self { paused: self.paused + 1, ..Self::default() },
            _ if is_empty => Self { empty: self.empty + 1, ..Self::default() },
            _ => Self::default(),
        }
    }

    fn problem(self) -> Option<Problem> {
        let problem = |message: String| Problem::new(ErrorCode::ModelStreamBroken, message);
        if self.cut_off >= CUT_OFF_LIMIT {
            let message = format!("The model ran into its output limit {CUT_OFF_LIMIT} times in a row.");
            return Some(problem(message).hint("Ask for a smaller step, or raise the model's output limit."));
        }
        if self.empty >= EMPTY_LIMIT {
            let message = format!("The model answered with nothing {EMPTY_LIMIT} times in a row.");
            return Some(problem(message).hint("Send the prompt again, or use another model."));
        }
        if self.paused >= PAUSE_LIMIT {
            let message = format!("The model paused {PAUSE_LIMIT} times in a row without an answer.");
            return Some(problem(message).hint("Send the prompt again, or use another model."));
        }
        None
    }
}

fn failed(problem: Problem) -> TurnOutcome {
    TurnOutcome::Failed { problem }
}

fn refused(content: &[Content]) -> Problem {
    let said: Vec<&str> = content.iter().filter_map(text_of).collect();
    let problem = Problem::new(ErrorCode::ModelRefused, "The model refused to answer this.")
        .hint("Word the request differently, start a new session, or use another model.");
    if said.is_empty() { problem } else { problem.detail(said.join("\n")) }
}

fn tool_call(part: &Content) -> Option<&ToolCall> {
    match part {
        Content::ToolCall(call) => Some(call),
        Content::Text { .. } | Content::Thinking { .. } => None,
    }
}

fn text_of(part: &Content) -> Option<&str> {
    match part {
        Content::Text { text } if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

fn has_text(part: &Content) -> bool {
    text_of(part).is_some()
}
