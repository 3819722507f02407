//! Sessions that a session's agent begins: what is asked of one, what its parent knows of it, and the bounds. Pure: who
//! makes them, and tells how they ended, is `app`.

use crate::money::{Budget, Usage};
use crate::{
    Author, BranchName, Effort, ErrorCode, Event, PersonId, Problem, RepositoryName, SessionId, SessionState,
    TurnId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest prompt of a child, in bytes: it is also in its parent's log.
pub const CHILD_PROMPT_LIMIT: usize = 32 * 1024;
/// What a parent keeps of a child's last words, in bytes.
pub const CHILD_WORDS_LIMIT: usize = 4 * 1024;
/// With fewer tokens a session comes to nothing.
const TOKENS_LEAST: u64 = 10_000;
/// Of what is left, in percent, where the agent asks for nothing else.
pub const SHARE: u64 = 25;
pub const SHARE_MOST: u64 = 90;

/// What an installation lets agents begin by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnLimits {
    /// Sessions that are begun by sessions that people began have depth 1. 0: none are.
    pub depth: u32,
    /// Children of one session that are at work at the same time.
    pub at_once: u32,
    /// Children that one session ever has.
    pub in_all: u32,
}

impl Default for SpawnLimits {
    fn default() -> Self {
        Self { depth: 2, at_once: 10, in_all: 30 }
    }
}

/// The tool call that began a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParentPoint {
    pub session: SessionId,
    pub turn: TurnId,
    pub call: String,
    /// 1: its parent was begun by a person.
    pub depth: u32,
}

/// All that a child is made of, so that a restart can make it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChildRequest {
    pub repository: RepositoryName,
    pub prompt: String,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<BranchName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// In whose name it works.
    pub author: Author,
    /// For all its turns that its parent asks for, its own children included: a part of what the parent's turn had left.
    pub budget: Budget,
    /// Its end is a prompt to its parent, once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notify: bool,
}

/// How a child came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChildOutcome {
    Completed,
    Stopped,
    Failed,
    BudgetReached,
    /// It could not be made.
    NotStarted,
    Deleted,
}

impl ChildOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::BudgetReached => "budget_reached",
            Self::NotStarted => "not_started",
            Self::Deleted => "deleted",
        }
    }
}

/// What a parent is told when a child has come to rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChildEnd {
    /// Its turn that ended; `None`: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    pub outcome: ChildOutcome,
    /// Why it was not completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Its last answer, at most 4 KiB of it.
    pub words: String,
    /// The number of the change that it opened, in its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// Of all its turns and its own children.
    pub usage: Usage,
}

/// A session that this one began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Child {
    pub session: SessionId,
    pub turn: TurnId,
    pub call: String,
    pub request: ChildRequest,
    /// `None`: it is at work, as far as is known here.
    pub end: Option<ChildEnd>,
    /// The last of its turns of whose end this session was told.
    pub told: Option<TurnId>,
    /// Its end was a prompt here.
    pub has_notified: bool,
    /// It is to be stopped, by whom, and the entry that says so.
    pub stop: Option<(PersonId, u64)>,
    /// It goes on alone.
    pub is_released: bool,
}

impl Child {
    pub fn is_at_work(&self) -> bool {
        self.end.is_none()
    }

    /// What the model is told of the call that began it.
    pub fn begun_in_words(&self) -> String {
        let ChildRequest { repository, title, budget, .. } = &self.request;
        format!(
            "Session {} works in {repository} on “{title}”, with at most {} tokens and ${:.2} of this turn's budget. Go on; \
             wait_session waits for it.",
            self.session,
            budget.tokens,
            budget.cost_microusd as f64 / 1e6
        )
    }

    /// Of its parent's turn.
    fn charged(&self) -> (u64, u64) {
        let Budget { tokens, cost_microusd, .. } = self.request.budget;
        match &self.end {
            // More is of what people asked it themselves.
            Some(end) => (end.usage.total_tokens().min(tokens), end.usage.cost_microusd.min(cost_microusd)),
            None => (tokens, cost_microusd),
        }
    }
}

impl SessionState {
    /// 0: a person began it.
    pub fn depth(&self) -> u32 {
        self.origin.as_ref().and_then(|origin| origin.parent.as_ref()).map_or(0, |parent| parent.depth)
    }

    pub fn parent_session(&self) -> Option<SessionId> {
        self.origin.as_ref().and_then(|origin| origin.parent.as_ref()).map(|parent| parent.session)
    }

    pub fn child(&self, session: SessionId) -> Option<&Child> {
        self.children.iter().find(|child| child.session == session)
    }

    pub fn child_of_call(&self, turn: TurnId, call: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.turn == turn && child.call == call)
    }

    /// Tokens and millionths of a dollar of the running turn that its children have, or had.
    pub fn promised(&self) -> (u64, u64) {
        let Some(running) = &self.running else { return (0, 0) };
        let own = self.children.iter().filter(|child| child.turn == running.turn);
        own.map(Child::charged).fold((0, 0), |(tokens, cost), (more, dearer)| {
            (tokens.saturating_add(more), cost.saturating_add(dearer))
        })
    }

    /// What the session and its children used, those at work counted with all that they may use.
    pub fn tree_usage(&self) -> Usage {
        let charged = self.children.iter().map(Child::charged);
        charged.fold(self.usage, |mut usage, (tokens, cost_microusd)| {
            usage += Usage { input_tokens: tokens, cost_microusd, ..Usage::default() };
            usage
        })
    }

    /// What of a child's budget is there for the turn that its parent asks for, `budget` being what a turn of it has.
    pub fn granted(&self, budget: Budget) -> Budget {
        let mut before = self.tree_usage();
        before -= self.running.as_ref().map(|running| running.usage).unwrap_or_default();
        let (tokens, cost) = self.promised();
        let tokens = before.total_tokens().saturating_sub(tokens);
        budget.less(tokens, before.cost_microusd.saturating_sub(cost))
    }

    /// Of `budget`, the running turn's.
    fn left(&self, budget: Budget) -> Budget {
        let used = self.running.as_ref().map(|running| running.usage).unwrap_or_default();
        let (tokens, cost) = self.promised();
        budget.less(used.total_tokens(), used.cost_microusd).less(tokens, cost)
    }

    /// The intent to begin a child: durable before it is made. `request.budget` is what it would have if it had all that is
    /// left. Empty when the call began one before.
    pub fn decide_spawn(
        &self,
        (turn, call): (TurnId, &str),
        session: SessionId,
        mut request: ChildRequest,
        (budget, share): (Budget, u64),
        limits: SpawnLimits,
    ) -> Result<Vec<Event>, Problem> {
        if self.child_of_call(turn, call).is_some() {
            return Ok(vec![]);
        }
        self.require_turn(turn)?;
        self.require_place(limits)?;
        if request.prompt.trim().is_empty() || request.prompt.len() > CHILD_PROMPT_LIMIT {
            let message = format!("The prompt of a session has 1 to {CHILD_PROMPT_LIMIT} bytes.");
            return Err(Problem::new(ErrorCode::InvalidRequest, message)
                .hint("Long material belongs into a file that the session can read."));
        }
        request.budget = self.left(budget).share(share);
        if request.budget.tokens < TOKENS_LEAST || request.budget.cost_microusd == 0 {
            return Err(too_little_left(&self.left(budget)));
        }
        Ok(vec![Event::ChildSpawned { turn, call: call.to_owned(), child: session, request }])
    }

    fn require_turn(&self, turn: TurnId) -> Result<(), Problem> {
        match &self.running {
            Some(running) if running.turn == turn && !running.is_stopping => Ok(()),
            _ => Err(Problem::new(ErrorCode::NotRunning, "The turn is being stopped, or has ended.")),
        }
    }

    fn require_place(&self, limits: SpawnLimits) -> Result<(), Problem> {
        let refused = |message: String, hint: &str| {
            Err(Problem::new(ErrorCode::QuotaReached, message).hint(hint.to_owned()))
        };
        if self.depth() >= limits.depth {
            let message =
                format!("Sessions may begin others down to depth {}, and this one is there.", limits.depth);
            return refused(message, "Do the work in this session.");
        }
        let count =
            |is_it: &dyn Fn(&Child) -> bool| self.children.iter().filter(|child| is_it(child)).count();
        if count(&|_| true) >= limits.in_all as usize {
            let message =
                format!("This session has begun {} others, which is as many as it may.", limits.in_all);
            return refused(message, "Send one of them a message, or do the rest in this session.");
        }
        if count(&Child::is_at_work) >= limits.at_once as usize {
            let message = format!(
                "No more than {} of the sessions begun here may be at work at the same time.",
                limits.at_once
            );
            return refused(message, "Wait for one of them with wait_session.");
        }
        Ok(())
    }

    /// Whether a child may be sent a message, and what is said of it once it was.
    pub fn decide_message(
        &self,
        (turn, call): (TurnId, &str),
        session: SessionId,
        budget: Budget,
        limits: SpawnLimits,
    ) -> Result<Vec<Event>, Problem> {
        self.require_turn(turn)?;
        let child = self.child(session).ok_or_else(no_such_child)?;
        if let Some(end) = &child.end {
            if matches!(end.outcome, ChildOutcome::NotStarted | ChildOutcome::Deleted) {
                return Err(Problem::new(ErrorCode::SessionUnknown, "There is no such session any more."));
            }
            let of_it = child.request.budget.less(end.usage.total_tokens(), end.usage.cost_microusd);
            if of_it.tokens == 0 || of_it.cost_microusd == 0 {
                return Err(Problem::new(
                    ErrorCode::BudgetReached,
                    "That session has used all it was given.",
                )
                .hint("Begin another one, or do the rest in this session."));
            }
            let left = self.left(budget);
            // What it did not use went back to this turn.
            if child.turn == turn && (left.tokens < of_it.tokens || left.cost_microusd < of_it.cost_microusd)
            {
                return Err(too_little_left(&left));
            }
            if self.children.iter().filter(|child| child.is_at_work()).count() >= limits.at_once as usize {
                let message = format!(
                    "No more than {} of the sessions begun here may be at work at the same time.",
                    limits.at_once
                );
                return Err(Problem::new(ErrorCode::QuotaReached, message)
                    .hint("Wait for one of them with wait_session."));
            }
        }
        Ok(vec![Event::ChildMessaged { turn, call: call.to_owned(), child: session, after: child.told }])
    }

    /// What the parent is told of a child that came to rest; `None`: the session is at work. `words`: its last answer.
    pub fn child_end(&self, words: &str) -> Option<ChildEnd> {
        use crate::event::TurnOutcome;
        if self.running.is_some() || self.queue.iter().any(|queued| !queued.is_held) {
            return None;
        }
        let (outcome, problem) = match self.last_outcome.clone()? {
            TurnOutcome::Completed => (ChildOutcome::Completed, None),
            TurnOutcome::Stopped => (ChildOutcome::Stopped, None),
            TurnOutcome::Failed { problem } => (ChildOutcome::Failed, Some(problem)),
            TurnOutcome::BudgetReached { problem } => (ChildOutcome::BudgetReached, Some(problem)),
        };
        let words = words[..words.floor_char_boundary(CHILD_WORDS_LIMIT)].to_owned();
        let change = self.change.as_ref().map(|change| change.number);
        Some(ChildEnd { turn: self.last_turn, outcome, problem, words, change, usage: self.tree_usage() })
    }

    /// Empty when no child is at work.
    pub(crate) fn decide_stop_children(&self, by: &Author) -> Vec<Event> {
        let is_any = self.children.iter().any(|child| child.is_at_work() && child.stop.is_none());
        let (by, name) = (by.on_behalf_of, by.name.clone());
        is_any.then_some(Event::ChildrenStopRequested { by, name }).into_iter().collect()
    }

    /// Empty when no child is at work.
    pub(crate) fn decide_release_children(&self, by: &Author) -> Vec<Event> {
        let is_any = self.children.iter().any(|child| child.is_at_work() && !child.is_released);
        let (by, name) = (by.on_behalf_of, by.name.clone());
        is_any.then_some(Event::ChildrenReleased { by, name }).into_iter().collect()
    }

    /// Whoever puts the session away says first what becomes of its children that are at work.
    pub fn require_children_settled(&self) -> Result<(), Problem> {
        let open = |child: &&Child| child.is_at_work() && child.stop.is_none() && !child.is_released;
        let open = self.children.iter().filter(open).count();
        if open == 0 {
            return Ok(());
        }
        let (sessions, are) = if open == 1 { ("session", "is") } else { ("sessions", "are") };
        let message = format!("{open} {sessions} that this one began {are} at work.");
        Err(Problem::new(ErrorCode::SessionBusy, message)
            .hint("Say what becomes of them first: have them stopped, or released to go on alone."))
    }

    pub(crate) fn step_children(&mut self, event: &Event, seq: u64) {
        match event {
            Event::ChildSpawned { turn, call, child, request } => self.children.push(Child {
                session: *child,
                turn: *turn,
                call: call.clone(),
                request: request.clone(),
                end: None,
                told: None,
                has_notified: false,
                stop: None,
                is_released: false,
            }),
            Event::ChildMessaged { child, after, .. } => {
                let known = self.children.iter_mut().find(|known| known.session == *child);
                // Its answer may have come first.
                if let Some(child) = known.filter(|known| known.told == *after) {
                    (child.end, child.stop, child.is_released) = (None, None, false);
                }
            }
            Event::ChildEnded { child, end, notifies } => {
                if let Some(child) = self.children.iter_mut().find(|known| known.session == *child) {
                    (child.end, child.stop) = (Some(end.clone()), None);
                    child.told = end.turn.or(child.told);
                    child.has_notified |= notifies;
                }
            }
            Event::ChildrenStopRequested { by, .. } => {
                let at_work = self.children.iter_mut().filter(|child| child.is_at_work());
                at_work.for_each(|child| child.stop = Some((*by, seq)));
            }
            Event::ChildrenReleased { .. } => {
                let at_work = self.children.iter_mut().filter(|child| child.is_at_work());
                at_work.for_each(|child| child.is_released = true);
            }
            _ => {}
        }
    }
}

pub fn no_such_child() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "This session has begun no such session.")
        .hint("list_sessions names those that it began.")
}

fn too_little_left(left: &Budget) -> Problem {
    let message = format!(
        "Too little is left of this turn's budget for it: {} tokens, ${:.2}.",
        left.tokens,
        left.cost_microusd as f64 / 1e6
    );
    Problem::new(ErrorCode::BudgetReached, message).hint(
        "What sessions that are at work do not use comes back when they end; otherwise do the work here.",
    )
}

#[cfg(test)]
#[path = "children_tests.rs"]
mod tests;
