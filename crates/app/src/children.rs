//! Sessions that a session's agent begins. Makes them, tells a parent how they ended, stops them: each from what the
//! parent's log says, so that it can be done again after a crash and is done once. What the agent may ask is `port`'s.

mod port;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use port::ChildSessions;

use crate::access::asking_of;
use crate::timeline::Arrival;
use crate::{Inner, Result, require};
use greenroom_domain::children::Child;
use greenroom_domain::message::Content;
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Asking, Author, ChildEnd, ChildOutcome, Command, CommandId, Delivery, ErrorCode, Event, ParentPoint,
    Person, PersonId, Problem, Role, SessionId, SessionState, Via,
};
use greenroom_session::{SessionHandle, Shelf};
use greenroom_wire::CreateSession;
use std::sync::Arc;
use tokio::sync::Notify;

/// Entries from a log's end among which its last answer is looked for.
const LOOKED_AT: usize = 200;

/// Told when a child comes to rest, so that whoever waits for one looks again.
#[derive(Debug, Default)]
pub(crate) struct Families {
    rested: Notify,
}

impl Families {
    pub(crate) fn tell(&self, state: &SessionState) {
        if state.parent_session().is_some() && state.running.is_none() {
            self.rested.notify_waiters();
        }
    }
}

/// Whether children are to be made or stopped, or a parent is to be told.
pub(crate) fn is_owed(state: &SessionState) -> bool {
    let is_at_rest = state.running.is_none() && state.last_turn.is_some();
    state.children.iter().any(Child::is_at_work) || (state.parent_session().is_some() && is_at_rest)
}

impl Inner {
    /// What a session's log says that is owed to its children and its parent. Can be repeated.
    pub(crate) async fn tell_family(self: &Arc<Self>, session: SessionId) -> Result<()> {
        let handle = self.session_handle(session).await?;
        let look = |state: &SessionState| {
            let parent = state.origin.as_ref().and_then(|origin| origin.parent.clone());
            let children: Vec<Child> =
                state.children.iter().filter(|child| child.is_at_work()).cloned().collect();
            (parent, children)
        };
        let (parent, children) = handle.look(look).await?;
        for child in children {
            match child.stop {
                Some(stop) => self.stop_child(&handle, &child, stop).await?,
                None => self.make_child(&handle, &child).await?,
            }
        }
        match parent {
            Some(parent) => self.tell_parent(&handle, &parent).await,
            None => Ok(()),
        }
    }

    /// Makes the child that the parent's log speaks of, where it is not there; says there when it cannot be made.
    pub(crate) async fn make_child(self: &Arc<Self>, parent: &SessionHandle, child: &Child) -> Result<()> {
        let track = self.snapshots.track(child.session);
        let _one = track.turn.lock().await;
        match self.session_handle(child.session).await {
            Ok(_) => return Ok(()),
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {}
            Err(problem) => return Err(problem),
        }
        let is_open = parent.look({
            let session = child.session;
            move |state: &SessionState| state.child(session).is_some_and(Child::is_at_work)
        });
        if !is_open.await? {
            return Ok(());
        }
        if self.directory.is_removed(child.session).await? {
            return note_end(parent, child.session, ended(ChildOutcome::Deleted, None)).await;
        }
        match self.begin_child(parent, child).await {
            Ok(()) => Ok(()),
            Err(problem) if is_passing(problem.code) => Err(problem),
            Err(problem) => {
                note_end(parent, child.session, ended(ChildOutcome::NotStarted, Some(problem))).await
            }
        }
    }

    async fn begin_child(self: &Arc<Self>, parent: &SessionHandle, child: &Child) -> Result<()> {
        let request = &child.request;
        let (whose, session) = (request.author.on_behalf_of, child.session);
        let person = self.member(whose).await?;
        self.may_begin()?;
        let state = parent.state().await?;
        let body = CreateSession {
            repository: request.repository.clone(),
            prompt: Some(request.prompt.clone()),
            attachments: vec![],
            title: Some(request.title.clone()),
            model: request.model.clone(),
            effort: request.effort,
            base_branch: request.base_branch.as_ref().map(ToString::to_string),
            budget: Some(request.budget),
            // What was said in private stays so.
            team_access: state.access.team,
        };
        let mut events = self.first_events(&person, session, body).await?;
        for event in &mut events {
            match event {
                Event::SessionCreated { author, parent: point, .. } => {
                    author.clone_from(&request.author);
                    let (turn, call) = (child.turn, child.call.clone());
                    *point = Some(ParentPoint { session: parent.id(), turn, call, depth: state.depth() + 1 });
                }
                Event::PromptAccepted { author, .. } => author.clone_from(&request.author),
                _ => {}
            }
        }
        // Their words may be in the prompt: they do not approve what comes of it.
        events.splice(1..1, co_workers(&state, whose));
        self.admit_session(whose, session).await?;
        let counted = self.admit_prompt(whose, &format!("spawn/{session}")).await;
        let counted = counted.inspect_err(|_| self.session_is_gone(session))?;
        self.prepare_files(Shelf::Person(whose), session, &events).await?;
        let arrived = Arrival::now();
        self.arrivals.note(session, arrived);
        match self.sessions().create(session, events).await {
            Ok(_) => {
                counted.accepted();
                self.telemetry.prompt_accepted();
                Ok(())
            }
            Err(problem) => {
                self.arrivals.forget(session, arrived);
                self.session_is_gone(session);
                counted.refused().await;
                Err(problem)
            }
        }
    }

    /// Stops the child's turn and its own children, in the name of who asked for it.
    async fn stop_child(
        self: &Arc<Self>,
        parent: &SessionHandle,
        child: &Child,
        (by, seq): (PersonId, u64),
    ) -> Result<()> {
        let handle = {
            // Under its lock, so that it is not made meanwhile.
            let track = self.snapshots.track(child.session);
            let _one = track.turn.lock().await;
            match self.session_handle(child.session).await {
                Ok(handle) => handle,
                Err(problem) if problem.code == ErrorCode::SessionUnknown => {
                    return note_end(parent, child.session, ended(ChildOutcome::NotStarted, None)).await;
                }
                Err(problem) => return Err(problem),
            }
        };
        let Some(person) = self.directory.person(by).await? else { return Ok(()) };
        stop_with_children(&handle, asking_of(&person), &format!("{}/{seq}", parent.id())).await
    }

    async fn tell_parent(self: &Arc<Self>, child: &SessionHandle, point: &ParentPoint) -> Result<()> {
        let words = last_words(child).await?;
        let Some(end) = child.look(move |state| state.child_end(&words)).await? else { return Ok(()) };
        let parent = match self.session_handle(point.session).await {
            Ok(parent) => parent,
            // It was deleted: there is nobody to be told.
            Err(problem) if problem.code == ErrorCode::SessionUnknown => return Ok(()),
            Err(problem) => return Err(problem),
        };
        let session = child.id();
        let known = parent.look(move |state| state.child(session).cloned()).await?;
        let Some(known) = known.filter(|known| known.told != end.turn) else { return Ok(()) };
        let notice = match known.request.notify && !known.has_notified {
            true => self.notice(&parent, &known, &end).await?,
            false => None,
        };
        let ids = self.new_ids();
        parent
            .decide(move |state| {
                if state.child(session).is_none_or(|known| known.told == end.turn) {
                    return Ok(vec![]);
                }
                let prompt = notice.filter(|_| !state.is_archived);
                let prompt = prompt.and_then(|(command, asking)| state.decide(&command, &asking, ids).ok());
                let ended = Event::ChildEnded { child: session, end, notifies: prompt.is_some() };
                Ok(std::iter::once(ended).chain(prompt.into_iter().flatten()).collect())
            })
            .await
    }

    /// The prompt that tells a parent of a child's end; `None`: whoever it would be from may not send it now.
    async fn notice(
        self: &Arc<Self>,
        parent: &SessionHandle,
        child: &Child,
        end: &ChildEnd,
    ) -> Result<Option<(Command, Asking)>> {
        let whose = child.request.author.on_behalf_of;
        let Ok(person) = self.member(whose).await else { return Ok(None) };
        self.may_begin()?;
        let Ok(counted) = self.admit_prompt(whose, &format!("notice/{}", child.session)).await else {
            return Ok(None);
        };
        counted.accepted();
        let choice = parent.look(|state| state.choice.clone()).await?;
        let author = Author { via: Via::Child, ..person.as_author() };
        let asking = Asking { author, model: self.model_label(&choice).await, ..asking_of(&person) };
        let change = end.change.map_or(String::new(), |number| format!(", with change #{number}"));
        let text = format!(
            "(The session {} that you began in {}, “{}”, has ended: {}{change}.)\n{}",
            child.session,
            child.request.repository,
            child.request.title,
            end.outcome.as_str(),
            end.words
        );
        Ok(Some((Command::Prompt { text, delivery: Delivery::Insert, attachments: vec![] }, asking)))
    }

    /// A parent is told that there is nothing to wait for any more. Who waits finds it out in any case.
    pub(crate) async fn tell_deleted(&self, parent: SessionId, child: SessionId) {
        self.families.rested.notify_waiters();
        let told = match self.session_handle(parent).await {
            Ok(parent) => note_end(&parent, child, ended(ChildOutcome::Deleted, None)).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = told
            && problem.code != ErrorCode::SessionUnknown
        {
            tracing::warn!(%parent, %child, %problem, "a parent does not know that a child was deleted");
        }
    }

    /// The person as of now, who may still have sessions work.
    async fn member(&self, id: PersonId) -> Result<Person> {
        let person = self.directory.person(id).await?;
        let person = person.ok_or_else(|| {
            Problem::new(
                ErrorCode::NotAllowed,
                "Whoever asked for it is not a person of this installation any more.",
            )
        })?;
        require(&person, Role::Member)?;
        Ok(person)
    }
}

/// Everyone else whose words or work the session has.
fn co_workers(state: &SessionState, whose: PersonId) -> Vec<Event> {
    let others = state.contributors().filter(|author| author.on_behalf_of != whose);
    others.map(|author| Event::CommandsBegun { by: author.clone() }).collect()
}

/// `key`: the same for a repetition.
async fn stop_with_children(handle: &SessionHandle, asking: Asking, key: &str) -> Result<()> {
    let commands =
        [("stop", Command::Stop { hold_queue: true }), ("stop-children", Command::StopChildren {})];
    for (what, command) in commands {
        let key: CommandId = format!("{what}/{key}")
            .parse()
            .map_err(|_| Problem::new(ErrorCode::Internal, "A key of ours is not one."))?;
        let receipt = handle.command(key, command, asking.clone()).await?;
        match receipt.problem {
            Some(problem) if problem.code != ErrorCode::NotRunning => return Err(problem),
            _ => {}
        }
    }
    Ok(())
}

fn ended(outcome: ChildOutcome, problem: Option<Problem>) -> ChildEnd {
    ChildEnd { turn: None, outcome, problem, words: String::new(), change: None, usage: Usage::default() }
}

/// Where the parent takes the child for one at work.
async fn note_end(parent: &SessionHandle, child: SessionId, end: ChildEnd) -> Result<()> {
    let decide = move |state: &SessionState| {
        let is_open = state.child(child).is_some_and(Child::is_at_work);
        Ok(is_open.then_some(Event::ChildEnded { child, end, notifies: false }).into_iter().collect())
    };
    parent.decide(decide).await
}

/// It may be done later; anything else is the answer.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ShuttingDown
            | ErrorCode::Deadline
            | ErrorCode::DiskFull
            | ErrorCode::Internal
            | ErrorCode::Fenced
    )
}

/// The newest answer that says something.
async fn last_words(session: &SessionHandle) -> Result<String> {
    let head = session.look(|state| state.head_seq).await?;
    let entries = session.entries_before(head + 1, LOOKED_AT).await?;
    let said = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::AssistantMessage { content, .. } => {
            let text: Vec<&str> = content
                .iter()
                .filter_map(|part| match part {
                    Content::Text { text } if !text.trim().is_empty() => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            (!text.is_empty()).then(|| text.join("\n"))
        }
        _ => None,
    });
    Ok(said.unwrap_or_default())
}
