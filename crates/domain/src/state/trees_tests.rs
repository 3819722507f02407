//! Steps of a session and files put back, as its state knows them.

use super::*;
use crate::event::{Entry, TurnOutcome};
use crate::state::Ids;
use crate::{Author, Command, PersonId, PromptId, Role, TeamAccess, Via};

fn author() -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".into(),
        email: "ada@test.invalid".into(),
    }
}

fn asking() -> Asking {
    Asking { author: author(), role: Role::Member, model: None, attachments: vec![], subject: None }
}

struct Session(SessionState, u64);

impl Session {
    fn new() -> Self {
        let mut session = Self(SessionState::default(), 0);
        session.0.access.team = TeamAccess::Contribute;
        session
    }

    fn tell(&mut self, event: Event) {
        self.1 += 1;
        self.0.step(&Entry { seq: self.1, at_ms: 1, epoch: 1, event });
    }

    fn ask(&self, command: &Command) -> Result<Vec<Event>, Problem> {
        let ids = Ids { prompt: PromptId::from_parts(1, 1), turn: TurnId::from_parts(1, 1) };
        self.0.decide(command, &asking(), ids)
    }

    fn step(&mut self) -> u64 {
        let (step, from) = (self.0.trees.next, self.0.trees.at.as_ref().map(|at| at.step));
        let (files, additions, deletions) = (1, 1, 0);
        let (commit, of) = (commit(step), StepOf::Outside);
        self.tell(Event::StepTree { step, from, commit, of, files, additions, deletions });
        step
    }

    /// As it is carried out where nothing changed since the last step.
    fn revert(&mut self, command: &Command) {
        self.ask(command).unwrap().into_iter().for_each(|event| self.tell(event));
        let asked = self.0.trees.reverting.clone().unwrap();
        let (to, from) = (asked.to, self.0.trees.at.as_ref().unwrap().step);
        self.tell(Event::RevertBegun { to, from });
        assert_eq!(self.0.trees.reverting.as_ref().unwrap().from, Some(from));
        let forward = self.0.forward_after(to, from);
        self.tell(Event::Reverted {
            to,
            from,
            by: asked.by,
            name: asked.name,
            commit: commit(to),
            of: StepOf::Outside,
            changed: vec!["a".into()],
            changed_count: 1,
            forward,
            mark: Some(commit(99)),
            mark_of: None,
        });
    }
}

fn commit(step: u64) -> CommitHash {
    format!("{step:040x}").parse().unwrap()
}

#[test]
fn forward_leads_to_where_reverts_in_a_row_began_until_a_step_changes_files() {
    let mut session = Session::new();
    for _ in 0..4 {
        session.step();
    }
    assert_eq!(session.ask(&Command::Forward {}).unwrap_err().code, ErrorCode::StepUnknown);
    session.revert(&Command::Revert { to: 2 });
    session.revert(&Command::Revert { to: 0 });
    assert_eq!((session.0.trees.at.clone().unwrap().step, session.0.trees.forward), (0, Some(3)));
    session.revert(&Command::Forward {});
    assert_eq!((session.0.trees.at.clone().unwrap().step, session.0.trees.forward), (3, None));
    session.revert(&Command::Revert { to: 1 });
    assert_eq!(session.step(), 4);
    assert_eq!(session.0.trees.forward, None);
    assert_eq!(session.0.workspace.marks.last(), Some(&commit(99)), "later marks stand on it");
}

#[test]
fn files_are_put_back_only_between_turns_one_at_a_time_and_to_steps_there_are() {
    let mut session = Session::new();
    session.step();
    let to_it = Command::Revert { to: 0 };
    assert_eq!(session.ask(&Command::Revert { to: 1 }).unwrap_err().code, ErrorCode::StepUnknown);
    let turn = TurnId::from_parts(1, 1);
    session.tell(Event::TurnStarted { turn, prompts: vec![] });
    assert_eq!(session.ask(&to_it).unwrap_err().code, ErrorCode::SessionBusy);
    let outcome = TurnOutcome::Completed;
    session.tell(Event::TurnFinished { turn, outcome, usage: Default::default(), duration_ms: 1 });
    session.ask(&to_it).unwrap().into_iter().for_each(|event| session.tell(event));
    assert_eq!(session.ask(&to_it).unwrap_err().code, ErrorCode::SessionBusy);
    let problem = Problem::new(ErrorCode::SandboxFailed, "It failed.");
    session.tell(Event::RevertFailed { to: 0, problem });
    session.revert(&to_it);
    assert!(session.0.trees.untold.is_some());
    session.tell(Event::NoticeGiven { turn, text: "told".into() });
    assert_eq!(session.0.trees.untold, None, "once");
    session.tell(Event::SessionArchived { by: None, name: "x".into() });
    assert_eq!(session.ask(&to_it).unwrap_err().code, ErrorCode::SessionBusy);
}

#[test]
fn the_state_does_not_grow_with_the_steps() {
    let mut session = Session::new();
    let size = |session: &Session| serde_json::to_string(&session.0).unwrap().len();
    session.step();
    let small = size(&session);
    for _ in 0..5000 {
        session.step();
    }
    assert!(size(&session) < small + 100);
}
