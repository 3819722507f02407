//! One answer of the model: request, stream, retries.

use super::blocks::Blocks;
use super::{Turn, tool_call};
use crate::halt::{Halt, Halted};
use crate::ports::TurnEnded;
use futures::future::join_all;
use greenroom_domain::event::{BlockKind, Durability, Event, StartStage};
use greenroom_domain::message::StopReason;
use greenroom_domain::money::Usage;
use greenroom_domain::{BlockId, Problem};
use greenroom_model::{Delta, Error, ProviderStream, Request, Response, StreamEvent};
use greenroom_sandbox::Sandbox;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const ATTEMPTS: u32 = 8;
/// Where another model waits to go on.
const ATTEMPTS_BEFORE_FALLBACK: u32 = 3;
/// From the first failure of a request to the start of its last attempt.
const RETRY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A provider that asks for more patience than this is not waited for.
const WAIT_LIMIT: Duration = Duration::from_secs(5 * 60);
/// The same where another model waits to go on.
const WAIT_BEFORE_FALLBACK: Duration = Duration::from_secs(30);
/// Backstops behind the provider's own, tighter limits: a model may think for minutes without a visible word.
const OPEN_LIMIT: Duration = Duration::from_secs(10 * 60);
const SILENCE_LIMIT: Duration = Duration::from_secs(10 * 60);
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(5);
/// A sandbox takes run keys up to this length.
const CALL_ID_LIMIT: usize = 128;

pub(super) enum Answer {
    /// Its `AssistantMessage` is pending.
    Complete(Box<Response>),
    /// The request is longer than the model can take.
    Overflow(Problem),
    Failed(Problem),
    /// What was said so far is committed or pending.
    Halted(Halted),
}

pub(super) enum Attempt {
    Done(Box<Response>),
    Failed(Error),
    Halted(Halted),
}

impl Turn {
    pub(super) async fn answer(&mut self) -> Result<Answer, TurnEnded> {
        let request = self.request();
        let is_first = self.requests == 0;
        self.requests += 1;
        let mut first_failure_ms = None;
        let mut attempt = 0;
        // The caller committed the intent of the very first attempt together with the prompt.
        let mut is_intended = is_first;
        loop {
            attempt += 1;
            if !std::mem::take(&mut is_intended) {
                self.intend(attempt).await?;
            }
            let runs = std::mem::take(&mut self.unacknowledged);
            let mut blocks = Blocks::new(self.id, &self.context, &self.halt);
            let (tried, ()) = futures::join!(
                self.attempt(request.clone(), is_first, &mut blocks),
                acknowledge(&self.halt, runs)
            );
            let error = match tried? {
                Attempt::Done(mut response) => {
                    if let Some(raw) = &mut response.raw {
                        raw.model.get_or_insert_with(|| self.context.provider.model().to_owned());
                    }
                    let (ids, resets) = blocks.into_ids(&response.content);
                    self.said(&response, ids, resets);
                    return Ok(Answer::Complete(response));
                }
                Attempt::Halted(halted) => {
                    let partial = blocks.into_partial();
                    self.broke_off(partial);
                    return Ok(Answer::Halted(halted));
                }
                Attempt::Failed(error) => error,
            };
            let resets = blocks.into_resets();
            self.pending.extend(resets);
            let first_ms = *first_failure_ms.get_or_insert(self.context.clock.now_ms());
            let wait = match self.patience(&error, attempt, first_ms) {
                Ok(wait) => wait,
                Err(problem) if matches!(error, Error::ContextOverflow { .. }) => {
                    return Ok(Answer::Overflow(problem));
                }
                Err(problem) if self.fall_back(&error, &problem) => {
                    (attempt, first_failure_ms) = (0, None);
                    continue;
                }
                Err(problem) => return Ok(Answer::Failed(problem)),
            };
            if let Some(halted) = self.wait_to_retry(&error, attempt, wait).await? {
                return Ok(Answer::Halted(halted));
            }
        }
    }

    /// Whether the next model of the chain takes over. Of what the other one said nothing is kept: no call of it was run.
    fn fall_back(&mut self, error: &Error, problem: &Problem) -> bool {
        if !error.is_of_the_provider() {
            return false;
        }
        let Some(next) = self.context.fallbacks.pop_front() else { return false };
        let from = std::mem::replace(&mut self.context.provider, next);
        self.pending.push(Event::ModelFallback {
            turn: self.id,
            from: from.model().to_owned(),
            to: self.context.provider.model().to_owned(),
            problem: problem.clone(),
        });
        true
    }

    pub(super) fn request(&self) -> Request {
        Request {
            system: self.system.clone(),
            tools: self.tools.clone(),
            messages: self.conversation.messages().to_vec(),
            max_output_tokens: self.context.max_output_tokens,
            effort: self.context.effort,
            cache_key: self.context.cache_key.clone(),
        }
    }

    async fn intend(&mut self, attempt: u32) -> Result<(), TurnEnded> {
        let model = self.context.provider.model().to_owned();
        self.pending.push(Event::ModelRequested { turn: self.id, model, attempt });
        self.flush(Durability::Synced).await
    }

    async fn attempt(
        &self,
        request: Request,
        is_first: bool,
        blocks: &mut Blocks<'_>,
    ) -> Result<Attempt, TurnEnded> {
        if is_first {
            self.context.log.mark(StartStage::ModelCalled);
        }
        let open = self.halt.within(OPEN_LIMIT, self.context.provider.stream(request));
        match self.halt.or(open).await {
            Err(halted) => Ok(Attempt::Halted(halted)),
            Ok(None) => Ok(Attempt::Failed(Error::Silent { seconds: OPEN_LIMIT.as_secs() })),
            Ok(Some(Err(error))) => Ok(Attempt::Failed(error)),
            Ok(Some(Ok(events))) => self.listen(events, is_first, blocks).await,
        }
    }

    async fn listen(
        &self,
        mut events: ProviderStream,
        mut is_waiting_for_first: bool,
        blocks: &mut Blocks<'_>,
    ) -> Result<Attempt, TurnEnded> {
        loop {
            let write_in = blocks.wait_ms().map(Duration::from_millis);
            let event = tokio::select! {
                biased;
                halted = self.halt.reached() => return Ok(Attempt::Halted(halted)),
                event = events.recv() => event,
                () = self.context.clock.sleep(write_in.unwrap_or(SILENCE_LIMIT)) => {
                    if write_in.is_none() {
                        return Ok(Attempt::Failed(Error::Silent { seconds: SILENCE_LIMIT.as_secs() }));
                    }
                    blocks.write().await?;
                    continue;
                }
            };
            if is_waiting_for_first && matches!(event, Some(StreamEvent::Delta(_) | StreamEvent::Done(_))) {
                self.context.log.mark(StartStage::FirstToken);
                is_waiting_for_first = false;
            }
            match event {
                Some(StreamEvent::Delta(Delta::Text { index, text })) => {
                    blocks.push(index, BlockKind::Text, &text).await?;
                }
                Some(StreamEvent::Delta(Delta::Thinking { index, text })) => {
                    blocks.push(index, BlockKind::Thinking, &text).await?;
                }
                Some(StreamEvent::Delta(Delta::ToolCallStarted { .. })) => {}
                Some(StreamEvent::Done(response)) => return Ok(self.checked(response)),
                Some(StreamEvent::Failed(error)) => return Ok(Attempt::Failed(error)),
                None => {
                    let reason = "the connection closed before the end".to_owned();
                    return Ok(Attempt::Failed(Error::Broken { reason }));
                }
            }
        }
    }

    /// A call's id is the key under which the sandbox runs it at most once: it must be new.
    fn checked(&self, response: Box<Response>) -> Attempt {
        let mut seen = HashSet::new();
        let is_fine = |id: &str| {
            let is_key =
                (1..=CALL_ID_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
            is_key && !self.conversation.is_used_call(id)
        };
        let mut ids = response.content.iter().filter_map(tool_call).map(|call| call.id.as_str());
        if ids.all(|id| is_fine(id) && seen.insert(id)) {
            return Attempt::Done(response);
        }
        Attempt::Failed(Error::Broken {
            reason: "a tool call's id is missing, too long or used before".to_owned(),
        })
    }

    fn said(&mut self, response: &Response, blocks: Vec<BlockId>, resets: Vec<Event>) {
        let usage = Usage { requests: response.usage.requests.max(1), ..response.usage };
        self.used.usage += usage;
        self.pending.extend(resets);
        self.pending.push(Event::AssistantMessage {
            turn: self.id,
            content: response.content.clone(),
            blocks,
            raw: response.raw.clone(),
            stop_reason: response.stop_reason,
            usage,
            model: self.context.provider.model().to_owned(),
        });
    }

    /// What a halted answer had said stays in the conversation, without tool calls; its usage is not known.
    fn broke_off(&mut self, (content, blocks): (Vec<greenroom_domain::message::Content>, Vec<BlockId>)) {
        let usage = Usage { requests: 1, ..Usage::default() };
        self.used.usage += usage;
        if content.is_empty() {
            return;
        }
        self.conversation.assistant(&content, None, StopReason::Other);
        let model = self.context.provider.model().to_owned();
        let stop_reason = StopReason::Other;
        self.pending.push(Event::AssistantMessage {
            turn: self.id,
            content,
            blocks,
            raw: None,
            stop_reason,
            usage,
            model,
        });
    }

    /// How long to wait before the next attempt, or why there is none.
    pub(super) fn patience(
        &self,
        error: &Error,
        attempt: u32,
        first_failure_ms: i64,
    ) -> Result<Duration, Problem> {
        let mut problem = error.problem();
        let Some(wait) = error.retry(attempt) else { return Err(problem) };
        let waited_ms = u64::try_from(self.context.clock.now_ms() - first_failure_ms).unwrap_or(0);
        let (attempts, longest) = match self.context.fallbacks.is_empty() {
            true => (ATTEMPTS, WAIT_LIMIT),
            false => (ATTEMPTS_BEFORE_FALLBACK, WAIT_BEFORE_FALLBACK),
        };
        if wait > longest {
            let asked = match wait.as_secs() {
                seconds @ ..120 => format!("{seconds} seconds"),
                seconds => format!("{} minutes", seconds.div_ceil(60)),
            };
            problem.message =
                format!("{} The provider asks to wait {asked}, longer than a turn waits.", problem.message);
            return Err(problem);
        }
        if attempt >= attempts || Duration::from_millis(waited_ms) + wait > RETRY_LIMIT {
            problem.message = format!("{} It was tried {attempt} times.", problem.message);
            return Err(problem);
        }
        Ok(wait)
    }

    pub(super) async fn wait_to_retry(
        &mut self,
        error: &Error,
        attempt: u32,
        wait: Duration,
    ) -> Result<Option<Halted>, TurnEnded> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.pending.push(Event::ModelRetry { turn: self.id, attempt, wait_ms, problem: error.problem() });
        self.flush(Durability::Synced).await?;
        Ok(self.halt.or(self.context.clock.sleep(wait)).await.err())
    }

    pub(super) async fn acknowledge_runs(&mut self) {
        let runs = std::mem::take(&mut self.unacknowledged);
        acknowledge(&self.halt, runs).await;
    }
}

/// Lets the stage forget runs whose results are durable. A run that is not acknowledged costs a bounded spool file.
async fn acknowledge(halt: &Halt, runs: Vec<(Arc<dyn Sandbox>, String)>) {
    let all = join_all(runs.iter().map(|(sandbox, call)| sandbox.acknowledge(call)));
    for done in halt.within(ACKNOWLEDGE_LIMIT, all).await.unwrap_or_default() {
        if let Err(error) = done {
            tracing::debug!(%error, "a finished run was not acknowledged");
        }
    }
}
