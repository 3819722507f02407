//! What a turn's agent may ask of the sessions that its session began, always in the name of whoever the turn works for:
//! as they are now, what they may not do themselves their agent may not either.

use super::{co_workers, ended, last_words, stop_with_children};
use crate::access::asking_of;
use crate::timeline::Arrival;
use crate::{Inner, Result};
use async_trait::async_trait;
use greenroom_agent::{ChildReport, Children, Spawn, WaitFor};
use greenroom_domain::access::unknown_session;
use greenroom_domain::children::{Child, SHARE, no_such_child};
use greenroom_domain::money::Budget;
use greenroom_domain::{
    Asking, Author, ChildOutcome, ChildRequest, Command, CommandId, Delivery, ErrorCode, Person, Problem,
    RepositoryName, Right, SessionId, SessionState, Via,
};
use greenroom_session::{SessionHandle, TurnHandle};
use sha2::{Digest, Sha256};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

/// Repositories that an answer names.
const NAMED: usize = 50;

#[derive(Debug)]
pub(crate) struct ChildSessions {
    app: Arc<Inner>,
    turn: TurnHandle,
    author: Author,
    /// The turn's.
    budget: Budget,
    promised: Mutex<(u64, u64)>,
}

impl ChildSessions {
    pub(crate) fn new(
        app: &Arc<Inner>,
        turn: &TurnHandle,
        author: &Author,
        budget: Budget,
        state: &SessionState,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            turn: turn.clone(),
            author: Author { via: Via::Parent, ..author.clone() },
            budget,
            promised: Mutex::new(state.promised()),
        }
    }

    fn session(&self) -> &SessionHandle {
        self.turn.session()
    }

    async fn person(&self) -> Result<Person> {
        self.app.member(self.author.on_behalf_of).await
    }

    /// The session as it is, and what follows for the turn's budget.
    async fn state(&self) -> Result<SessionState> {
        let state = self.session().state().await?;
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner) = state.promised();
        Ok(state)
    }

    /// A child that the person may use so.
    async fn open(&self, person: &Person, right: Right, id: SessionId) -> Result<SessionHandle> {
        let handle = self.app.session_handle(id).await?;
        let (person, role) = (person.id, person.role);
        handle.look(move |state| state.require(person, role, right)).await??;
        Ok(handle)
    }

    /// A key of a call, the same whenever it is made for it.
    fn key(&self, call: &str) -> String {
        let of = format!("{}/{}/{call}", self.session().id(), self.turn.turn());
        Sha256::digest(of).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the turn may still use, but for tokens and money, which the session itself counts.
    fn time_left(&self, state: &SessionState) -> Budget {
        let Some(running) = &state.running else { return self.budget };
        let passed = u64::try_from(self.app.now_ms() - running.started_at_ms).unwrap_or(0);
        Budget {
            wall_ms: self.budget.wall_ms.saturating_sub(passed),
            tool_calls: self.budget.tool_calls.saturating_sub(running.tool_calls),
            ..self.budget
        }
    }

    async fn request(&self, spawn: &Spawn, state: &SessionState, budget: Budget) -> Result<ChildRequest> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let repository = match &spawn.repository {
            Some(name) => self.repository(name).await?,
            None => origin.repository_name.clone(),
        };
        let row = self.app.repository_row(&repository).await?;
        let base_branch = match &spawn.base_branch {
            Some(name) => Some(self.app.known_branch(row.id, name).await?),
            None => None,
        };
        let mut choice = state.choice.clone();
        if let Some(model) = &spawn.model {
            (choice.model, choice.effort) = (Some(model.clone()), None);
            self.app.check_choice(&choice).await?;
        }
        Ok(ChildRequest {
            repository,
            title: crate::sessions::title_of(spawn.title.as_deref(), Some(&spawn.prompt)),
            prompt: spawn.prompt.clone(),
            base_branch,
            model: choice.model,
            effort: choice.effort,
            author: self.author.clone(),
            budget,
            notify: spawn.notify,
        })
    }

    async fn repository(&self, name: &str) -> Result<RepositoryName> {
        let known = self.repositories().await?;
        let found = known.iter().find(|known| *known == name).and_then(|name| name.parse().ok());
        found.ok_or_else(|| {
            let message = format!("There is no repository named {name:?}.");
            Problem::new(ErrorCode::RepositoryUnknown, message)
                .hint(format!("Use one of: {}.", known.join(", ")))
        })
    }

    async fn report(&self, person: &Person, child: &Child) -> Result<ChildReport> {
        let mut report = ChildReport {
            session: child.session,
            repository: child.request.repository.to_string(),
            title: child.request.title.clone(),
            outcome: child.end.as_ref().map(|end| end.outcome),
            problem: child.end.as_ref().and_then(|end| end.problem.clone()),
            change: child.end.as_ref().and_then(|end| end.change),
            words: String::new(),
            usage: child.end.as_ref().map(|end| end.usage).unwrap_or_default(),
        };
        let handle = match self.open(person, Right::View, child.session).await {
            Ok(handle) => handle,
            // Deleted, not made yet, or not theirs to see: what the parent was told is all there is.
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {
                if child.is_at_work() && self.app.directory.is_removed(child.session).await? {
                    report.outcome = Some(ended(ChildOutcome::Deleted, None).outcome);
                }
                return Ok(report);
            }
            Err(problem) => return Err(problem),
        };
        report.words = last_words(&handle).await?;
        let (title, end, usage, change) = handle
            .look(|state| {
                let change = state.change.as_ref().map(|change| change.number);
                (state.title.clone(), state.child_end(""), state.tree_usage(), change)
            })
            .await?;
        (report.title, report.usage, report.change) = (title, usage, change);
        report.outcome = end.as_ref().map(|end| end.outcome);
        report.problem = end.and_then(|end| end.problem);
        Ok(report)
    }

    /// Whether it has nothing more to do.
    async fn is_at_rest(&self, child: &Child) -> Result<bool> {
        match self.app.session_handle(child.session).await {
            Ok(handle) => handle.look(|state| state.child_end("").is_some()).await,
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {
                Ok(!child.is_at_work() || self.app.directory.is_removed(child.session).await?)
            }
            Err(problem) => Err(problem),
        }
    }

    async fn have_rested(&self, of: &[SessionId], until: WaitFor) -> Result<bool> {
        let state = self.state().await?;
        let mut rested = 0;
        for session in of {
            let child = state.child(*session).ok_or_else(no_such_child)?;
            rested += usize::from(self.is_at_rest(child).await?);
        }
        Ok(match until {
            WaitFor::Any => rested > 0 || of.is_empty(),
            WaitFor::All => rested == of.len(),
        })
    }
}

#[async_trait]
impl Children for ChildSessions {
    async fn spawn(&self, call: &str, spawn: Spawn) -> Result<String> {
        let person = self.person().await?;
        self.app.may_begin()?;
        let state = self.state().await?;
        let request = self.request(&spawn, &state, self.budget).await?;
        let (at, random) = self.app.id_parts();
        let fresh = SessionId::from_parts(at, random);
        self.app.admit_session(person.id, fresh).await?;
        let (turn, limits, share) = (self.turn.turn(), self.app.config.spawn, spawn.share.unwrap_or(SHARE));
        let left = self.time_left(&state);
        let decided = self.session().decide({
            let call = call.to_owned();
            move |state| state.decide_spawn((turn, &call), fresh, request, (left, share), limits)
        });
        decided.await.inspect_err(|_| self.app.session_is_gone(fresh))?;
        let state = self.state().await?;
        let child = state.child_of_call(turn, call).cloned().ok_or_else(no_such_child)?;
        if child.session != fresh {
            self.app.session_is_gone(fresh);
        }
        // What cannot be done now is done later: the log says that it is owed.
        if let Err(problem) = self.app.make_child(self.session(), &child).await {
            tracing::warn!(session = %child.session, %problem, "a child is made later");
        }
        let state = self.state().await?;
        match state.child(child.session).and_then(|child| child.end.as_ref()) {
            Some(end) if end.outcome == ChildOutcome::NotStarted => {
                Err(end.problem.clone().unwrap_or_else(no_such_child))
            }
            _ => Ok(child.begun_in_words()),
        }
    }

    async fn reports(&self, of: &[SessionId]) -> Result<Vec<ChildReport>> {
        let person = self.person().await?;
        let state = self.state().await?;
        let named = of.iter().map(|id| state.child(*id).ok_or_else(no_such_child));
        let children: Vec<&Child> = match of.is_empty() {
            true => state.children.iter().collect(),
            false => named.collect::<Result<_>>()?,
        };
        let mut reports = vec![];
        for child in children {
            reports.push(self.report(&person, child).await?);
        }
        Ok(reports)
    }

    async fn repositories(&self) -> Result<Vec<String>> {
        self.person().await?;
        let rows = self.app.directory.repositories().await?;
        Ok(rows.into_iter().take(NAMED).map(|row| row.name.to_string()).collect())
    }

    async fn message(&self, call: &str, session: SessionId, text: &str, delivery: Delivery) -> Result<()> {
        let person = self.person().await?;
        self.app.may_begin()?;
        let state = self.state().await?;
        let (turn, limits, budget) = (self.turn.turn(), self.app.config.spawn, self.budget);
        let messaged = state.decide_message((turn, call), session, budget, limits)?;
        let child = self.open(&person, Right::Prompt, session).await?;
        let command = Command::Prompt { text: text.to_owned(), delivery, attachments: vec![] };
        let comes_back = self.app.admit_return(person.id, &child, &command).await?;
        let key = format!("parent/{}", self.key(call));
        let counted = self.app.admit_prompt(person.id, &format!("{session}/{key}")).await;
        let counted = counted.inspect_err(|_| {
            if comes_back {
                self.app.session_is_gone(session);
            }
        })?;
        let others = co_workers(&state, person.id);
        child
            .decide(move |state| {
                let is_new = |event: &greenroom_domain::Event| match event {
                    greenroom_domain::Event::CommandsBegun { by } => {
                        !state.contributors().any(|known| known.on_behalf_of == by.on_behalf_of)
                    }
                    _ => false,
                };
                Ok(others.into_iter().filter(is_new).collect())
            })
            .await?;
        self.app.arrivals.note(session, Arrival::now());
        let asking = Asking { author: self.author.clone(), ..asking_of(&person) };
        let key: CommandId = key.parse().map_err(|_| no_such_child())?;
        let receipt = child.command(key, command, asking).await?;
        if let Some(problem) = receipt.problem {
            counted.refused().await;
            if comes_back {
                self.app.session_is_gone(session);
            }
            return Err(problem);
        }
        counted.accepted();
        self.app.telemetry.prompt_accepted();
        let after = state.child(session).and_then(|child| child.told);
        let noted = self.session().decide(move |state| {
            let is_before = state.child(session).is_some_and(|child| child.told == after);
            Ok(if is_before { messaged } else { vec![] })
        });
        noted.await?;
        self.state().await.map(drop)
    }

    async fn cancel(&self, call: &str, session: SessionId) -> Result<()> {
        let person = self.person().await?;
        self.state().await?.child(session).ok_or_else(no_such_child)?;
        let child = self.open(&person, Right::Prompt, session).await?;
        stop_with_children(&child, asking_of(&person), &self.key(call)).await
    }

    async fn rest(&self, of: &[SessionId], until: WaitFor) -> Result<()> {
        let state = self.state().await?;
        let at_work = || state.children.iter().filter(|child| child.is_at_work());
        let of: Vec<SessionId> = match of.is_empty() {
            true => at_work().map(|child| child.session).collect(),
            false => of.to_vec(),
        };
        loop {
            let mut rested = pin!(self.app.families.rested.notified());
            rested.as_mut().enable();
            if self.have_rested(&of, until).await? {
                return Ok(());
            }
            rested.await;
        }
    }

    fn promised(&self) -> (u64, u64) {
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
