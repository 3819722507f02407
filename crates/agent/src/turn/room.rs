//! Keeps the next request within the model's window: prunes old outputs of tools, and has the conversation summarised.

use super::model::Attempt;
use super::{Turn, failed};
use crate::context::Window;
use crate::conversation::Tail;
use crate::ports::TurnEnded;
use greenroom_domain::event::{CompactionReason, Durability, Event, TurnOutcome};
use greenroom_domain::message::{Content, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_model::{Error, Request, Response, StreamEvent};
use std::time::Duration;

const QUESTION: &str = include_str!("../prompt/compact.md");
/// The same backstop as for answers.
const SILENCE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// What a summary may take, so that a window that is full still has room for it.
const SUMMARY_TOKENS: u64 = 8_000;

impl Turn {
    /// Makes room when the next request would leave none for an answer. What it decides is durable when it returns.
    /// `Some`: the turn is over.
    pub(super) async fn make_room(&mut self) -> Result<Option<TurnOutcome>, TurnEnded> {
        self.conversation.settle();
        let window = self.window();
        let tokens = self.conversation.tokens().count;
        if tokens <= window.limit() {
            return Ok(None);
        }
        // Where less than that is gained, outputs would soon give way again, and each time is a break.
        let goal = window.limit().saturating_sub(2 * window.worth());
        if self.prune(window.kept_outputs(), window.worth(), goal).await? {
            return Ok(None);
        }
        match self.conversation.tail() {
            Some(tail) if tail.dropped >= window.worth() => {
                self.compact(CompactionReason::WindowFull, tail).await
            }
            // There is nothing to gain; the provider may know better than we do how long it is.
            _ => Ok(None),
        }
    }

    /// The provider says that the request is too long: we counted wrong, or the window is another one.
    pub(super) async fn make_room_after_overflow(
        &mut self,
        problem: Problem,
    ) -> Result<Option<TurnOutcome>, TurnEnded> {
        if std::mem::replace(&mut self.has_overflowed, true) {
            let message = "The conversation is still longer than the model can take, after room was made.";
            let problem = Problem { message: message.to_owned(), detail: Some(problem.message), ..problem };
            return Ok(Some(failed(
                problem.hint("Use a model with a larger window, or go on in a new session."),
            )));
        }
        let tokens = self.conversation.tokens().count;
        let kept = self.window().kept_outputs().min(tokens / 4);
        if self.prune(kept, tokens / 2, tokens / 2).await? {
            return Ok(None);
        }
        match self.conversation.tail() {
            Some(tail) if tail.dropped > tokens / 8 => self.compact(CompactionReason::Overflow, tail).await,
            // What is too long is not the conversation.
            _ => Ok(Some(failed(problem))),
        }
    }

    /// A turn that a person asked for, to do nothing else.
    pub(super) async fn compact_only(&mut self) -> Result<TurnOutcome, TurnEnded> {
        if let Some(outcome) = self.limit_reached() {
            return Ok(outcome);
        }
        self.conversation.settle();
        let Some(tail) = self.conversation.tail() else { return Ok(TurnOutcome::Completed) };
        let ended = self.compact(CompactionReason::Asked, tail).await?;
        Ok(ended.unwrap_or(TurnOutcome::Completed))
    }

    fn window(&self) -> Window {
        Window::new(self.context.provider.context_window())
    }

    /// Whether old outputs gave way: only if that saves so much, and leads below the goal.
    async fn prune(&mut self, kept: u64, worth: u64, goal: u64) -> Result<bool, TurnEnded> {
        let prunable = self.conversation.prunable(kept);
        let tokens = self.conversation.tokens().count;
        if prunable.tokens < worth.max(1) || tokens.saturating_sub(prunable.tokens) > goal {
            return Ok(false);
        }
        self.conversation.prune(&prunable.calls);
        let (calls, tokens) = (prunable.calls, prunable.tokens);
        self.pending.push(Event::ContextPruned { turn: self.id, calls, tokens });
        self.flush(Durability::Synced).await?;
        Ok(true)
    }

    async fn compact(
        &mut self,
        reason: CompactionReason,
        tail: Tail,
    ) -> Result<Option<TurnOutcome>, TurnEnded> {
        let tokens_before = self.conversation.tokens().count;
        self.pending.push(Event::CompactionStarted { turn: self.id, reason, tokens: tokens_before });
        self.flush(Durability::Synced).await?;
        let response = match self.summarise(reason, tokens_before).await? {
            Ok(response) => response,
            Err(outcome) => return Ok(Some(outcome)),
        };
        let usage = Usage { requests: response.usage.requests.max(1), ..response.usage };
        self.used.usage += usage;
        let summary = text_of(&response.content);
        let mut compacted = self.conversation.clone();
        compacted.compact(&summary, tail.cut);
        let event = Event::ContextCompacted {
            turn: self.id,
            reason,
            summary,
            kept: tail.cut.kept,
            carried: tail.cut.carried,
            tokens_before,
            tokens_after: compacted.tokens().count,
            usage,
            model: self.context.provider.model().to_owned(),
        };
        self.pending.push(event);
        self.flush(Durability::Synced).await?;
        self.conversation = compacted;
        Ok(None)
    }

    /// The request for a summary extends the conversation as it is, so that it is read from the provider's cache; it is
    /// shortened only where it would not fit.
    async fn summarise(
        &mut self,
        reason: CompactionReason,
        tokens: u64,
    ) -> Result<Result<Box<Response>, TurnOutcome>, TurnEnded> {
        let window = self.window();
        let mut limit = match reason {
            CompactionReason::Overflow => tokens / 2,
            _ => window.tokens.saturating_sub(SUMMARY_TOKENS.min(window.reserve() / 2)),
        };
        let mut first_failure_ms = None;
        let (mut attempt, mut has_overflowed) = (1, reason == CompactionReason::Overflow);
        loop {
            let error = match self.gather(self.summary_request(limit)).await {
                Attempt::Done(response) if is_summary(&response) => return Ok(Ok(response)),
                Attempt::Done(response) => {
                    self.used.usage += Usage { requests: 1, ..response.usage };
                    Error::Broken { reason: "it has no summary in it".to_owned() }
                }
                Attempt::Halted(halted) => return Ok(Err(self.halted(halted))),
                Attempt::Failed(Error::ContextOverflow { .. }) if !has_overflowed => {
                    has_overflowed = true;
                    limit = tokens / 2;
                    continue;
                }
                Attempt::Failed(error) => error,
            };
            let first_ms = *first_failure_ms.get_or_insert(self.context.clock.now_ms());
            let is_hopeless = matches!(error, Error::Broken { .. }) && attempt >= 3;
            let wait = match self.patience(&error, attempt, first_ms) {
                Ok(wait) if !is_hopeless => wait,
                Ok(_) => return Ok(Err(failed(no_summary(error.problem())))),
                Err(problem) => return Ok(Err(failed(no_summary(problem)))),
            };
            if let Some(halted) = self.wait_to_retry(&error, attempt, wait).await? {
                return Ok(Err(self.halted(halted)));
            }
            attempt += 1;
        }
    }

    /// `limit`: in tokens as the provider counts them.
    fn summary_request(&self, limit: u64) -> Request {
        let fixed = self.conversation.corrected(self.fixed_tokens);
        // Back from the provider's count to our estimate.
        let scale = self.conversation.corrected(1_000).max(1);
        let tokens = limit.saturating_sub(fixed) * 1_000 / scale;
        let messages = self.conversation.asking(QUESTION.trim_end(), tokens);
        Request { messages, ..self.request() }
    }

    /// An answer that is shown to nobody while it comes.
    async fn gather(&self, request: Request) -> Attempt {
        let silent = || Attempt::Failed(Error::Silent { seconds: SILENCE_LIMIT.as_secs() });
        let open = self.halt.within(SILENCE_LIMIT, self.context.provider.stream(request));
        let mut events = match self.halt.or(open).await {
            Err(halted) => return Attempt::Halted(halted),
            Ok(None) => return silent(),
            Ok(Some(Err(error))) => return Attempt::Failed(error),
            Ok(Some(Ok(events))) => events,
        };
        loop {
            let event = tokio::select! {
                biased;
                halted = self.halt.reached() => return Attempt::Halted(halted),
                event = events.recv() => event,
                () = self.context.clock.sleep(SILENCE_LIMIT) => return silent(),
            };
            match event {
                Some(StreamEvent::Delta(_)) => {}
                Some(StreamEvent::Done(response)) => return Attempt::Done(response),
                Some(StreamEvent::Failed(error)) => return Attempt::Failed(error),
                None => {
                    let reason = "the connection closed before the end".to_owned();
                    return Attempt::Failed(Error::Broken { reason });
                }
            }
        }
    }
}

fn is_summary(response: &Response) -> bool {
    response.stop_reason != StopReason::Refusal && !text_of(&response.content).is_empty()
}

fn text_of(content: &[Content]) -> String {
    let texts: Vec<&str> = content
        .iter()
        .filter_map(|part| match part {
            Content::Text { text } => Some(text.trim()),
            _ => None,
        })
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("\n\n")
}

fn no_summary(problem: Problem) -> Problem {
    let message = format!(
        "The conversation fills the model's window, and the model could not summarise it. {}",
        problem.message
    );
    let hint = "Send a prompt to try again, use another model, or go on in a new session.";
    let code = match problem.code {
        ErrorCode::ModelStreamBroken => ErrorCode::ContextOverflow,
        code => code,
    };
    Problem { code, message, ..problem }.hint(hint)
}
