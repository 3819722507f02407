//! The tool calls of one answer: which may run, which run side by side, and what becomes of them.

use super::{Next, Turn, budget, failed};
use crate::halt::Halted;
use crate::ports::TurnEnded;
use crate::tools::{self, Call, Failure, Ran, ToolContext};
use futures::{FutureExt, Stream, StreamExt, stream};
use greenroom_domain::Problem;
use greenroom_domain::event::{Durability, Event, OUTCOME_UNKNOWN, ToolOutcome, TurnOutcome};
use greenroom_domain::message::ToolCall;
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

const PARALLEL: usize = 8;
/// The same call so often in a row is not run any more.
const REPEATS_LIMIT: u32 = 3;
const INSERTS_LIMIT: Duration = Duration::from_secs(60);

const CUT_OFF_CALL: &str = "Your answer was cut off at the output limit, so this call was not run. Send it again, \
     smaller: several short calls instead of one long one.";
const STOPPED_CALL: &str = "This call was not run: the turn was stopped.";

/// The last call and how often in a row it was made.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    last: Option<(String, serde_json::Value)>,
    count: u32,
}

impl Repeats {
    fn note(&mut self, call: &ToolCall) -> u32 {
        let is_same =
            self.last.as_ref().is_some_and(|(name, input)| *name == call.name && *input == call.input);
        self.count = if is_same { self.count + 1 } else { 1 };
        if !is_same {
            self.last = Some((call.name.clone(), call.input.clone()));
        }
        self.count
    }
}

pub(super) struct Planned {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) title: String,
    pub(super) plan: Plan,
}

pub(super) enum Plan {
    Run(Call),
    /// Answered without running; the words are for the model.
    Answer(ToolOutcome, String),
}

/// What a finished call means for the turn.
enum Effect {
    None,
    Unavailable(Problem),
}

impl Turn {
    /// Runs what may run and gives every call a result. Results may still be pending when this returns.
    pub(super) async fn run_calls(
        &mut self,
        calls: Vec<ToolCall>,
        is_cut_off: bool,
    ) -> Result<Next, TurnEnded> {
        let (planned, limit) = self.plan(calls, is_cut_off);
        let mut end = None;
        let mut queue = VecDeque::from(planned);
        while !queue.is_empty() {
            if end.is_none() {
                end = self.halt.check().map(|halted| self.halted(halted));
            }
            if let Some(end) = &end {
                queue.iter_mut().for_each(|planned| planned.call_off(end));
            }
            let mut group = next_group(&mut queue);
            if end.is_none() {
                end = self.admit(&mut group).await?;
            }
            let problem = self.run_group(group).await?;
            end = end.or(problem.map(failed));
        }
        // Waiting prompts are taken only when the model will be asked again; otherwise they start the next turn.
        match end.or(limit).or_else(|| self.limit_reached()) {
            Some(outcome) => Ok(Next::End(outcome)),
            None => self.insert_prompts().await,
        }
    }

    async fn insert_prompts(&mut self) -> Result<Next, TurnEnded> {
        let inserts = self.halt.within(INSERTS_LIMIT, self.context.log.take_inserts()).await;
        for said in
            inserts.unwrap_or_else(|| Err(TurnEnded::new("the log did not give the waiting prompts")))?
        {
            self.conversation.insert(said);
        }
        Ok(Next::Ask)
    }

    /// Calls past a limit of the budget are only answered; the limit then ends the turn.
    fn plan(&mut self, calls: Vec<ToolCall>, is_cut_off: bool) -> (Vec<Planned>, Option<TurnOutcome>) {
        let spent = budget::spent(&self.own_budget(), &self.used);
        let mut end = None;
        let mut planned = Vec::with_capacity(calls.len());
        for call in calls {
            let limit = spent.clone().or_else(|| budget::calls_spent(&self.context.budget, &self.used));
            let plan = match limit {
                _ if is_cut_off => Err(CUT_OFF_CALL.to_owned()),
                Some(problem) => {
                    let words = not_run(&problem);
                    end = Some(TurnOutcome::BudgetReached { problem });
                    Err(words)
                }
                None => self.permitted(&call),
            };
            self.used.tool_calls += u64::from(plan.is_ok());
            planned.push(Planned::new(call, plan));
        }
        (planned, end)
    }

    fn permitted(&mut self, call: &ToolCall) -> Result<Call, String> {
        let parsed = match tools::is_of_sessions(&call.name) && !self.context.instructions.can_spawn {
            true => Err(tools::unknown_tool(&call.name)),
            false => Call::parse(&call.name, &call.input),
        };
        let count = self.repeats.note(call);
        if count >= REPEATS_LIMIT {
            return Err(format!(
                "You have sent this same call {count} times in a row, and it was not run again: the result would not \
                 change. Do something else: look at what the earlier results say, try another way, or explain what \
                 blocks you."
            ));
        }
        parsed
    }

    /// Runs the calls of a group side by side. Their intents are durable before the first one starts.
    async fn run_group(&mut self, group: Vec<Planned>) -> Result<Option<Problem>, TurnEnded> {
        for planned in &group {
            let (call, name, title) = (planned.id.clone(), planned.name.clone(), planned.title.clone());
            self.pending.push(Event::ToolStarted { turn: self.id, call, name, title });
        }
        if group.iter().any(|planned| matches!(planned.plan, Plan::Run(_))) {
            self.flush(Durability::Synced).await?;
        }
        let running =
            group.into_iter().map(|planned| run_planned(planned, self.tool_context())).collect::<Vec<_>>();
        let mut finished = pin!(stream::iter(running).buffer_unordered(PARALLEL));
        let mut problem = None;
        while let Some(done) = self.next_finished(&mut finished).await? {
            if let Effect::Unavailable(reason) = self.finish(done)? {
                problem = problem.or(Some(reason));
            }
        }
        Ok(problem)
    }

    /// Results are committed as soon as others are still waited for; the last ones go with what follows.
    async fn next_finished(
        &mut self,
        finished: &mut (impl Stream<Item = Done> + Unpin),
    ) -> Result<Option<Done>, TurnEnded> {
        if let Some(ready) = finished.next().now_or_never() {
            return Ok(ready);
        }
        self.flush(Durability::Synced).await?;
        Ok(finished.next().await)
    }

    fn finish(&mut self, done: Done) -> Result<Effect, TurnEnded> {
        let Done { call, name, result, duration_ms } = done;
        let (ran, effect) = match result {
            Ok(ran) => (ran, Effect::None),
            Err(failure) => settled(failure, &name)?,
        };
        let Ran { outcome, text, display, events, ran_in } = ran;
        self.conversation.result(&call, &text, outcome != ToolOutcome::Succeeded);
        for event in &events {
            if let Event::TodoChanged { items, .. } = event {
                self.conversation.todo(items);
            }
        }
        self.pending.extend(events);
        if let Some(sandbox) = ran_in {
            self.unacknowledged.push((sandbox, call.clone()));
        }
        self.pending.push(Event::ToolFinished { turn: self.id, call, outcome, text, display, duration_ms });
        Ok(effect)
    }

    fn tool_context(&self) -> ToolContext {
        ToolContext {
            turn: self.id,
            call: String::new(),
            log: self.context.log.clone(),
            hands: self.context.hands.clone(),
            changes: self.context.changes.clone(),
            artifacts: self.context.artifacts.clone(),
            children: self.context.children.clone(),
            clock: self.context.clock.clone(),
            files: self.context.files.clone(),
            terminals: self.context.terminals.clone(),
            halt: self.halt.clone(),
        }
    }
}

struct Done {
    call: String,
    name: String,
    result: Result<Ran, Failure>,
    duration_ms: u64,
}

async fn run_planned(planned: Planned, mut context: ToolContext) -> Done {
    let Planned { id, name, plan, .. } = planned;
    context.call.clone_from(&id);
    let started_ms = context.clock.now_ms();
    let result = match plan {
        Plan::Run(call) => Box::pin(call.run(&context)).await,
        Plan::Answer(outcome, text) => Ok(Ran { outcome, ..Ran::failed(text) }),
    };
    let duration_ms = u64::try_from(context.clock.now_ms() - started_ms).unwrap_or(0);
    Done { call: id, name, result, duration_ms }
}

/// A call that came to no end of its own, as the model and people are told of it.
fn settled(failure: Failure, name: &str) -> Result<(Ran, Effect), TurnEnded> {
    let is_lookup = matches!(name, "read" | "glob" | "grep" | "list_sessions" | "wait_session");
    Ok(match failure {
        Failure::Words(text) => (Ran::failed(text), Effect::None),
        Failure::Lost(reason) if is_lookup => (
            Ran::failed(format!("The sandbox was lost ({reason}). Nothing was changed; call again.")),
            Effect::None,
        ),
        Failure::Lost(reason) => {
            let text = format!(
                "The sandbox was lost while this ran ({reason}). {OUTCOME_UNKNOWN} The next call gets a sandbox with the \
                 files as they were last written; processes that ran are gone."
            );
            (Ran { outcome: ToolOutcome::Unknown, ..Ran::failed(text) }, Effect::None)
        }
        Failure::Unavailable(problem) => {
            let text = format!("There is no sandbox to run this in: {}", problem.message);
            (Ran::failed(text), Effect::Unavailable(problem))
        }
        Failure::Halted(halted) => {
            let text = match (halted, is_lookup) {
                (Halted::Stopped, true) => "Stopped by a person.".to_owned(),
                (Halted::TimeOver, true) => "Stopped: the turn's time limit was reached.".to_owned(),
                (Halted::Stopped, false) => format!("Stopped by a person. {OUTCOME_UNKNOWN}"),
                (Halted::TimeOver, false) => {
                    format!("Stopped: the turn's time limit was reached. {OUTCOME_UNKNOWN}")
                }
            };
            (Ran { outcome: ToolOutcome::Cancelled, ..Ran::failed(text) }, Effect::None)
        }
        Failure::Fenced(epoch) => {
            return Err(TurnEnded::new(format!("the sandbox follows a newer owner (epoch {epoch})")));
        }
    })
}

/// The next call, with the read-only ones right after it if it is one itself. Calls that are only answered go along.
fn next_group(queue: &mut VecDeque<Planned>) -> Vec<Planned> {
    let mut group: Vec<Planned> = Vec::new();
    while let Some(next) = queue.front() {
        let joins = next.is_harmless() && group.iter().all(Planned::is_harmless);
        if !group.is_empty() && !joins {
            break;
        }
        group.extend(queue.pop_front());
    }
    group
}

impl Planned {
    fn new(call: ToolCall, plan: Result<Call, String>) -> Self {
        let ToolCall { id, name, input } = call;
        let title = match Call::parse(&name, &input) {
            Ok(call) => call.title(),
            Err(_) => name.chars().take(60).collect(),
        };
        let plan = plan.map_or_else(|words| Plan::Answer(ToolOutcome::Failed, words), Plan::Run);
        Self { id, name, title, plan }
    }

    fn is_harmless(&self) -> bool {
        match &self.plan {
            Plan::Run(call) => call.is_read_only(),
            Plan::Answer(..) => true,
        }
    }

    pub(super) fn call_off(&mut self, end: &TurnOutcome) {
        if let Plan::Run(_) = self.plan {
            self.plan = match end {
                TurnOutcome::Failed { problem } | TurnOutcome::BudgetReached { problem } => {
                    Plan::Answer(ToolOutcome::Cancelled, not_run(problem))
                }
                TurnOutcome::Stopped | TurnOutcome::Completed => {
                    Plan::Answer(ToolOutcome::Cancelled, STOPPED_CALL.to_owned())
                }
            };
        }
    }
}

fn not_run(problem: &Problem) -> String {
    format!("This call was not run: {}", problem.message)
}
