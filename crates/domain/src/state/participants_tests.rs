//! Who takes part: the rules, one sentence each, and what holds whatever people do.

use super::*;
use crate::event::{Entry, ForkPoint};
use crate::money::Budget;
use crate::state::{Ids, Subject};
use crate::{Delivery, PersonId, PromptId, RepositoryId, SessionId, TurnId};
use proptest::prelude::*;
use std::collections::HashMap;

const ADMIN: u128 = 9;
/// A viewer of the installation.
const GUEST: u128 = 8;

fn id(n: u128) -> PersonId {
    PersonId::from_parts(1, n)
}

fn link(n: u128) -> ShareLinkId {
    ShareLinkId::from_parts(1, n)
}

fn role_of(n: u128) -> Role {
    match n {
        ADMIN => Role::Admin,
        GUEST => Role::Viewer,
        _ => Role::Member,
    }
}

fn author(n: u128) -> Author {
    Author {
        on_behalf_of: id(n),
        via: Via::Person,
        name: format!("P{n}"),
        email: format!("p{n}@test.invalid"),
    }
}

fn asking(n: u128, subject: Option<u128>) -> Asking {
    let subject = subject.map(|n| Subject { person: id(n), name: format!("P{n}"), role: role_of(n) });
    Asking { author: author(n), role: role_of(n), model: None, attachments: vec![], subject }
}

fn created(team_access: TeamAccess, forked_from: Option<ForkPoint>) -> Event {
    Event::SessionCreated {
        repository: RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().unwrap(),
        title: "t".into(),
        author: author(1),
        branch: "b".parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        model: None,
        effort: None,
        budget: Budget::default(),
        image: None,
        forked_from,
        imported_from: None,
        parent: None,
        team_access,
    }
}

#[derive(Default)]
struct Play {
    state: SessionState,
    log: Vec<Entry>,
}

impl Play {
    /// Made by person 1.
    fn new(team: TeamAccess) -> Self {
        let mut play = Self::default();
        play.append(vec![created(team, None)]);
        play
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            let entry = Entry { seq: self.log.len() as u64 + 1, at_ms: 1, epoch: 1, event };
            let _ = self.state.step(&entry);
            self.log.push(entry);
        }
    }

    fn command(&mut self, by: u128, command: Command) -> Result<usize, ErrorCode> {
        let subject = match &command {
            Command::SetParticipant { person, .. } => (1..=ADMIN).find(|n| id(*n) == *person),
            _ => None,
        };
        let at = self.log.len() as u128;
        let ids = Ids { prompt: PromptId::from_parts(1, at), turn: TurnId::from_parts(1, at) };
        let decided = self.state.decide(&command, &asking(by, subject), ids);
        let events = decided.map_err(|problem| problem.code)?;
        let count = events.len();
        self.append(events);
        Ok(count)
    }

    fn set(&mut self, by: u128, whom: u128, role: SessionRole) -> Result<usize, ErrorCode> {
        self.command(by, Command::SetParticipant { person: id(whom), role })
    }

    fn remove(&mut self, by: u128, whom: u128) -> Result<usize, ErrorCode> {
        self.command(by, Command::RemoveParticipant { person: id(whom) })
    }

    fn prompt(&mut self, by: u128) -> Result<usize, ErrorCode> {
        let command = Command::Prompt { text: "do".into(), delivery: Delivery::Queue, attachments: vec![] };
        self.command(by, command)
    }

    fn join(&mut self, by: u128, link: ShareLinkId, kind: ShareKind) -> Result<usize, ErrorCode> {
        let decided = self.state.decide_join(link, kind, &asking(by, None));
        let events = decided.map_err(|problem| problem.code)?;
        let count = events.len();
        self.append(events);
        Ok(count)
    }

    fn revoke(&mut self, link: ShareLinkId) {
        let events = self.state.decide_revoked(link, &asking(1, None));
        self.append(events);
    }

    fn role(&self, n: u128) -> Option<SessionRole> {
        self.state.access.role_of(id(n), role_of(n))
    }
}

#[test]
fn whoever_makes_a_session_owns_it_and_whoever_prompts_takes_part() {
    let mut play = Play::new(TeamAccess::Contribute);
    play.prompt(2).unwrap();
    play.command(1, Command::SetTeamAccess { access: TeamAccess::None }).unwrap();
    assert_eq!(play.role(1), Some(SessionRole::Owner));
    assert_eq!(play.role(2), Some(SessionRole::Contributor), "also when nobody else may any more");
    assert_eq!(play.role(3), None);
}

#[test]
fn prompting_does_not_change_a_role_that_was_given() {
    let mut play = Play::new(TeamAccess::Contribute);
    play.set(1, 2, SessionRole::Viewer).unwrap();
    play.prompt(2).unwrap();
    play.command(1, Command::SetTeamAccess { access: TeamAccess::None }).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Viewer));
}

#[test]
fn a_viewer_of_the_session_looks_and_a_stranger_finds_nothing() {
    let mut play = Play::new(TeamAccess::None);
    play.set(1, 2, SessionRole::Viewer).unwrap();
    assert_eq!(play.prompt(2), Err(ErrorCode::NotAllowed));
    assert_eq!(play.command(2, Command::Rename { title: "x".into() }), Err(ErrorCode::NotAllowed));
    assert_eq!(play.prompt(3), Err(ErrorCode::SessionUnknown));
    assert_eq!(play.set(3, 3, SessionRole::Owner), Err(ErrorCode::SessionUnknown));
    assert_eq!(play.log.len(), 2, "refusals leave nothing");
}

#[test]
fn owners_and_admins_decide_who_takes_part_and_nobody_else() {
    let mut play = Play::new(TeamAccess::Contribute);
    play.prompt(2).unwrap();
    assert_eq!(play.set(2, 3, SessionRole::Contributor), Err(ErrorCode::NotAllowed));
    assert_eq!(play.remove(2, 1), Err(ErrorCode::NotAllowed));
    let close = Command::SetTeamAccess { access: TeamAccess::None };
    assert_eq!(play.command(2, close.clone()), Err(ErrorCode::NotAllowed));
    assert_eq!(play.set(ADMIN, 3, SessionRole::Owner), Ok(1));
    assert_eq!(play.command(3, close), Ok(1));
}

#[test]
fn the_only_owner_neither_leaves_nor_becomes_less_not_even_by_an_admin() {
    let mut play = Play::new(TeamAccess::Contribute);
    assert_eq!(play.remove(1, 1), Err(ErrorCode::LastOwner));
    assert_eq!(play.remove(ADMIN, 1), Err(ErrorCode::LastOwner));
    assert_eq!(play.set(1, 1, SessionRole::Viewer), Err(ErrorCode::LastOwner));
    play.set(1, 2, SessionRole::Owner).unwrap();
    assert_eq!(play.remove(1, 1), Ok(1));
}

#[test]
fn anyone_may_leave_and_only_whom_somebody_removed_stays_out_of_links() {
    let mut play = Play::new(TeamAccess::None);
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    play.join(3, link(1), ShareKind::TakePart).unwrap();
    assert_eq!(play.remove(2, 2), Ok(1));
    assert_eq!(play.remove(1, 3), Ok(1));
    assert_eq!(play.join(2, link(1), ShareKind::TakePart), Ok(1));
    assert_eq!(play.join(3, link(1), ShareKind::TakePart), Err(ErrorCode::NotAllowed));
    play.set(1, 3, SessionRole::Viewer).unwrap();
    assert_eq!(play.role(3), Some(SessionRole::Viewer), "an owner lets them in again");
}

#[test]
fn a_link_gives_its_kind_and_its_end_takes_just_that() {
    let mut play = Play::new(TeamAccess::None);
    play.join(2, link(1), ShareKind::View).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Viewer));
    play.join(2, link(2), ShareKind::TakePart).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Contributor));
    assert_eq!(play.join(2, link(2), ShareKind::TakePart), Ok(0), "the same again is nothing new");
    play.prompt(2).unwrap();
    play.revoke(link(2));
    assert_eq!(play.role(2), Some(SessionRole::Viewer), "the other link still holds");
    play.revoke(link(1));
    assert_eq!(play.role(2), None, "prompting did not make it theirs");
}

#[test]
fn who_is_here_by_a_link_only_lets_nobody_in() {
    let mut play = Play::new(TeamAccess::None);
    let may_share = |play: &Play, n| play.state.access.may(id(n), role_of(n), Right::Share);
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    assert!(!may_share(&play, 2));
    let refused = play.state.require(id(2), Role::Member, Right::Share).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotAllowed);
    play.prompt(2).unwrap();
    assert!(!may_share(&play, 2), "also after a prompt");
    play.command(1, Command::SetTeamAccess { access: TeamAccess::Contribute }).unwrap();
    assert!(may_share(&play, 2), "where everyone may, they may");
    play.command(1, Command::SetTeamAccess { access: TeamAccess::View }).unwrap();
    assert!(!may_share(&play, 2));
    play.set(1, 2, SessionRole::Contributor).unwrap();
    assert!(may_share(&play, 2), "it was given to them");
    assert!(may_share(&play, ADMIN) && may_share(&play, 1) && !may_share(&play, 3));
}

#[test]
fn who_was_given_a_role_keeps_it_when_links_end_and_links_give_them_no_more() {
    let mut play = Play::new(TeamAccess::None);
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    play.set(1, 2, SessionRole::Viewer).unwrap();
    assert_eq!(play.join(2, link(1), ShareKind::TakePart), Ok(0));
    assert_eq!(play.role(2), Some(SessionRole::Viewer));
    play.revoke(link(1));
    assert_eq!(play.role(2), Some(SessionRole::Viewer));
}

#[test]
fn an_owners_word_is_not_undone_by_leaving_and_coming_again() {
    let mut play = Play::new(TeamAccess::None);
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    play.set(1, 2, SessionRole::Viewer).unwrap();
    play.remove(2, 2).unwrap();
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Viewer));
    play.remove(2, 2).unwrap();
    play.command(1, Command::SetTeamAccess { access: TeamAccess::Contribute }).unwrap();
    play.prompt(2).unwrap();
    play.command(1, Command::SetTeamAccess { access: TeamAccess::None }).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Viewer), "nor by a prompt while it was open");
    play.remove(2, 2).unwrap();
    play.set(1, 2, SessionRole::Contributor).unwrap();
    play.remove(2, 2).unwrap();
    play.join(2, link(1), ShareKind::TakePart).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Contributor), "the last word counts");
}

#[test]
fn who_was_removed_does_not_come_back_by_a_prompt_while_the_session_is_open() {
    let mut play = Play::new(TeamAccess::Contribute);
    play.prompt(2).unwrap();
    play.remove(1, 2).unwrap();
    play.prompt(2).unwrap();
    assert!(play.state.access.participant(id(2)).is_none());
    assert_eq!(play.join(2, link(1), ShareKind::TakePart), Err(ErrorCode::NotAllowed));
    play.command(1, Command::SetTeamAccess { access: TeamAccess::None }).unwrap();
    assert_eq!(play.role(2), None);
    play.set(1, 2, SessionRole::Contributor).unwrap();
    assert_eq!(play.role(2), Some(SessionRole::Contributor));
}

#[test]
fn a_viewer_of_the_installation_only_looks_whatever_a_session_says() {
    let mut play = Play::new(TeamAccess::None);
    assert_eq!(play.set(1, GUEST, SessionRole::Contributor), Err(ErrorCode::NotAllowed));
    play.join(GUEST, link(1), ShareKind::TakePart).unwrap();
    assert_eq!(play.role(GUEST), Some(SessionRole::Viewer));
    assert_eq!(play.prompt(GUEST), Err(ErrorCode::NotAllowed));
}

#[test]
fn nobody_takes_part_in_a_fork_for_having_prompted_before_it() {
    let mut play = Play::default();
    let point =
        ForkPoint { session: SessionId::from_parts(1, 1), turn: TurnId::from_parts(1, 7), snapshot: None };
    let prompt = PromptId::from_parts(1, 1);
    let said = Event::PromptAccepted {
        prompt,
        author: author(2),
        text: "before".into(),
        delivery: Delivery::Queue,
        attachments: vec![],
    };
    let finished = Event::TurnFinished {
        turn: point.turn,
        outcome: crate::event::TurnOutcome::Completed,
        usage: Default::default(),
        duration_ms: 1,
    };
    let started = Event::TurnStarted { turn: point.turn, prompts: vec![prompt] };
    play.append(vec![created(TeamAccess::None, Some(point)), said, started, finished]);
    assert_eq!((play.role(1), play.role(2)), (Some(SessionRole::Owner), None));
    play.prompt(ADMIN).unwrap();
    assert!(play.state.access.participant(id(ADMIN)).is_some(), "what is said in the fork counts");
}

#[test]
fn the_number_of_participants_is_bounded() {
    let mut play = Play::new(TeamAccess::None);
    for n in 0..PARTICIPANTS_LIMIT as u128 - 1 {
        play.join(100 + n, link(1), ShareKind::View).unwrap();
    }
    assert_eq!(play.join(99, link(1), ShareKind::View), Err(ErrorCode::QuotaReached));
    assert_eq!(play.set(1, 2, SessionRole::Viewer), Err(ErrorCode::QuotaReached));
}

#[derive(Clone, Debug)]
enum Act {
    Prompt(u128),
    Set(u128, u128, SessionRole),
    Remove(u128, u128),
    Open(u128, TeamAccess),
    Join(u128, u128, ShareKind),
    Revoke(u128),
}

fn any_act() -> impl Strategy<Value = Act> {
    let who = || prop_oneof![4 => 1..5u128, 1 => Just(GUEST), 1 => Just(ADMIN)];
    let role =
        prop_oneof![Just(SessionRole::Viewer), Just(SessionRole::Contributor), Just(SessionRole::Owner)];
    let team = prop_oneof![Just(TeamAccess::Contribute), Just(TeamAccess::View), Just(TeamAccess::None)];
    let kind = prop_oneof![Just(ShareKind::View), Just(ShareKind::TakePart)];
    prop_oneof![
        2 => who().prop_map(Act::Prompt),
        3 => (who(), who(), role).prop_map(|(by, whom, role)| Act::Set(by, whom, role)),
        2 => (who(), who()).prop_map(|(by, whom)| Act::Remove(by, whom)),
        1 => (who(), team).prop_map(|(by, team)| Act::Open(by, team)),
        3 => (who(), 1..4u128, kind).prop_map(|(by, of, kind)| Act::Join(by, of, kind)),
        1 => (1..4u128).prop_map(Act::Revoke),
    ]
}

proptest! {
    #[test]
    fn there_is_always_an_owner_and_nobody_gains_by_their_own_doing_alone(
        acts in proptest::collection::vec(any_act(), 1..60)
    ) {
        let mut play = Play::new(TeamAccess::None);
        // What somebody who may manage the session last said of each: a role, or that they are out.
        let mut words: HashMap<u128, Option<SessionRole>> = HashMap::new();
        for act in &acts {
            let before = play.state.clone();
            let roles: Vec<_> = (1..=ADMIN).map(|n| play.role(n)).collect();
            let (by, done) = match act.clone() {
                Act::Prompt(by) => (by, play.prompt(by)),
                Act::Set(by, whom, role) => (by, play.set(by, whom, role)),
                Act::Remove(by, whom) => (by, play.remove(by, whom)),
                Act::Open(by, access) => (by, play.command(by, Command::SetTeamAccess { access })),
                Act::Join(by, of, kind) => (by, play.join(by, link(of), kind)),
                Act::Revoke(of) => {
                    play.revoke(link(of));
                    (1, Ok(0))
                }
            };
            match act {
                _ if done.is_err() => prop_assert_eq!(&play.state, &before, "a refusal changes nothing"),
                Act::Set(_, whom, role) => drop(words.insert(*whom, Some(*role))),
                Act::Remove(by, whom) if by != whom => drop(words.insert(*whom, None)),
                _ => {}
            }
            for (whom, word) in &words {
                let role = play.state.access.participant(id(*whom)).map(Participant::role);
                prop_assert!(role <= *word, "{:?}: {} is {:?}, and the word was {:?}", act, whom, role, word);
            }
            let owners = play.state.access.participants.iter().filter(|of| of.role() == SessionRole::Owner);
            prop_assert!(owners.count() > 0, "{:?}", act);
            for n in 1..=ADMIN {
                let (was, is) = (roles[n as usize - 1], play.role(n));
                let by_a_link = match act {
                    Act::Join(who, _, kind) => *who == n && is <= Some(kind.role()),
                    _ => false,
                };
                let by_whom_may = before.access.may(id(by), role_of(by), Right::Manage);
                prop_assert!(is <= was || by_a_link || by_whom_may, "{:?}: {:?} to {:?} of {}", act, was, is, n);
            }
            prop_assert!(play.role(GUEST) <= Some(SessionRole::Viewer));
        }
        let mut replayed = SessionState::default();
        play.log.iter().for_each(|entry| drop(replayed.step(entry)));
        prop_assert_eq!(replayed, play.state, "the log says it all");
    }
}
