//! Who takes part in a session: how that changes, and what each command needs. The rules in words are at
//! [`Command`](crate::Command) and [`access`](crate::access).

use super::{Asking, SessionState};
use crate::access::unknown_session;
use crate::access::{Access, PARTICIPANTS_LIMIT, Participant, Right, SessionRole, ShareKind, TeamAccess};
use crate::event::Event;
use crate::{Author, Command, ErrorCode, PersonId, Problem, Role, ShareLinkId, Via};

impl SessionState {
    /// The one rule that every use of a session asks.
    pub fn require(&self, person: PersonId, installation: Role, right: Right) -> Result<(), Problem> {
        match self.access.role_of(person, installation) {
            Some(_) if self.access.may(person, installation, right) => Ok(()),
            Some(_) => Err(self.refusal(installation, right)),
            None => Err(unknown_session()),
        }
    }

    fn refusal(&self, installation: Role, right: Right) -> Problem {
        if installation == Role::Viewer {
            return Problem::new(ErrorCode::NotAllowed, "A viewer of this installation can only look.")
                .hint("Ask an admin of this installation to become a member.");
        }
        let message = match right {
            Right::View | Right::Prompt => "You can look at this session, but not take part in it.",
            Right::Share => "Only who takes part in this session, and not just by a link, can share it.",
            Right::Manage => "Only an owner of this session or an admin can do this.",
        };
        let owners = self.access.participants.iter().filter(|of| of.role() == SessionRole::Owner);
        let whom = owners.map(|owner| owner.name.as_str()).next().unwrap_or("an admin");
        Problem::new(ErrorCode::NotAllowed, message).hint(format!("Ask {whom} for a part in it."))
    }

    pub(super) fn require_for(&self, command: &Command, asking: &Asking) -> Result<(), Problem> {
        let person = asking.author.on_behalf_of;
        let right = match command {
            // Whoever is in may leave.
            Command::RemoveParticipant { person: whom } if *whom == person => Right::View,
            Command::SetParticipant { .. }
            | Command::RemoveParticipant { .. }
            | Command::SetTeamAccess { .. } => Right::Manage,
            _ => Right::Prompt,
        };
        self.require(person, asking.role, right)
    }

    pub(super) fn decide_participant(
        &self,
        person: PersonId,
        role: SessionRole,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        let Some(subject) = asking.subject.as_ref().filter(|subject| subject.person == person) else {
            return Err(Problem::new(ErrorCode::PersonUnknown, "There is no such person.")
                .hint("List people with `greenroom person list`."));
        };
        if subject.role == Role::Viewer && role > SessionRole::Viewer {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                format!("{} is a viewer of this installation and can only look.", subject.name),
            )
            .hint("An admin can make them a member; until then give them the role `viewer`."));
        }
        let known = self.access.participant(person);
        if known.is_some_and(|known| known.given == Some(role) && known.links.is_empty()) {
            return Ok(vec![]);
        }
        if role < SessionRole::Owner {
            self.keeps_an_owner_without(person)?;
        }
        if known.is_none() {
            self.has_room()?;
        }
        Ok(vec![changed(person, &subject.name, Some(role), asking, None)])
    }

    pub(super) fn decide_removal(&self, person: PersonId, asking: &Asking) -> Result<Vec<Event>, Problem> {
        let Some(known) = self.access.participant(person) else {
            return Err(Problem::new(ErrorCode::PersonUnknown, "This person takes no part in the session.")
                .hint("`greenroom session people list` names those who do."));
        };
        self.keeps_an_owner_without(person)?;
        Ok(vec![changed(person, &known.name, None, asking, None)])
    }

    pub(super) fn decide_team_access(&self, access: TeamAccess, asking: &Asking) -> Vec<Event> {
        if access == self.access.team {
            return vec![];
        }
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        vec![Event::TeamAccessChanged { access, by, name }]
    }

    /// The asking person follows a link that is known to live. Empty when it gives them nothing new.
    pub fn decide_join(
        &self,
        link: ShareLinkId,
        kind: ShareKind,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        let person = asking.author.on_behalf_of;
        if self.access.barred.contains(&person) {
            return Err(Problem::new(ErrorCode::NotAllowed, "You were removed from this session.")
                .hint("Ask one of its owners to add you again."));
        }
        let role = if asking.role == Role::Viewer { SessionRole::Viewer } else { kind.role() };
        let role = self.access.within_cap(person, role);
        match self.access.participant(person) {
            Some(known) if known.given.is_some() || known.links.contains(&(link, role)) => Ok(vec![]),
            Some(known) if known.role() >= role && known.links.len() >= LINKS_OF_ONE => Ok(vec![]),
            Some(_) => Ok(vec![changed(person, &asking.author.name, Some(role), asking, Some(link))]),
            None => {
                self.has_room()?;
                Ok(vec![changed(person, &asking.author.name, Some(role), asking, Some(link))])
            }
        }
    }

    /// The link was revoked: who is here only by it is out. Empty when nobody is here by it.
    pub fn decide_revoked(&self, link: ShareLinkId, asking: &Asking) -> Vec<Event> {
        let is_by_it = |of: &Participant| of.links.iter().any(|(known, _)| *known == link);
        if !self.access.participants.iter().any(is_by_it) {
            return vec![];
        }
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        vec![Event::ShareLinkRevoked { link, by, name }]
    }

    fn keeps_an_owner_without(&self, person: PersonId) -> Result<(), Problem> {
        let owner = |of: &&Participant| of.role() == SessionRole::Owner;
        let mut owners = self.access.participants.iter().filter(owner);
        let is_owner = self.access.participant(person).as_ref().is_some_and(owner);
        if !is_owner || owners.any(|of| of.person != person) {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::LastOwner, "This person is the session's only owner.")
            .hint("Make somebody else an owner first."))
    }

    fn has_room(&self) -> Result<(), Problem> {
        if self.access.participants.len() < PARTICIPANTS_LIMIT {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::QuotaReached,
            format!("A session has at most {PARTICIPANTS_LIMIT} participants."),
        )
        .hint("Remove somebody, or open the session for everyone of the installation."))
    }

    pub(super) fn step_access(&mut self, event: &Event) {
        match event {
            Event::ParticipantChanged { person, name, role, link, by, .. } => {
                self.access.change(*person, name, *role, *link, *by);
            }
            Event::TeamAccessChanged { access, .. } => self.access.team = *access,
            Event::ShareLinkRevoked { link, .. } => self.access.drop_link(*link),
            _ => {}
        }
    }
}

/// Links by which one person may be here at once.
const LINKS_OF_ONE: usize = 8;

/// In place of what is known of the same person; the oldest gives way.
fn remember<T>(known: &mut Vec<T>, new: T, is_of_them: impl Fn(&T) -> bool) {
    known.retain(|one| !is_of_them(one));
    if known.len() >= PARTICIPANTS_LIMIT {
        known.remove(0);
    }
    known.push(new);
}

fn changed(
    person: PersonId,
    name: &str,
    role: Option<SessionRole>,
    asking: &Asking,
    link: Option<ShareLinkId>,
) -> Event {
    let (by, by_name) = (asking.author.on_behalf_of, asking.author.name.clone());
    Event::ParticipantChanged { person, name: name.to_owned(), role, by, by_name, link }
}

impl Access {
    /// Whoever makes the session owns it; whoever prompts takes part from then on, with the role they have if they have one.
    /// An owner's word stands: who was removed does not come back by it, and who left as less than this is no more.
    pub(super) fn note(&mut self, author: &Author, role: SessionRole) {
        let person = author.on_behalf_of;
        // Whose agent begins a session has it as if they had.
        let is_here = matches!(author.via, Via::Person | Via::Parent) && self.inherits_until.is_none();
        let is_out = self.participant(person).is_some() || self.barred.contains(&person);
        if !is_here || is_out || self.participants.len() >= PARTICIPANTS_LIMIT {
            return;
        }
        let given = Some(self.within_cap(person, role));
        self.participants.push(Participant { person, name: author.name.clone(), given, links: vec![] });
    }

    fn change(
        &mut self,
        person: PersonId,
        name: &str,
        role: Option<SessionRole>,
        link: Option<ShareLinkId>,
        by: PersonId,
    ) {
        let Some(role) = role else {
            let given = self.participant(person).and_then(|of| of.given);
            self.participants.retain(|of| of.person != person);
            if by != person {
                remember(&mut self.barred, person, |barred| *barred == person);
            } else if let Some(given) = given.filter(|given| *given < SessionRole::Contributor) {
                remember(&mut self.capped, (person, given), |(capped, _)| *capped == person);
            }
            return;
        };
        if self.participant(person).is_none() {
            let name = name.to_owned();
            self.participants.push(Participant { person, name, given: None, links: vec![] });
        }
        if link.is_none() {
            self.barred.retain(|barred| *barred != person);
            self.capped.retain(|(capped, _)| *capped != person);
        }
        let Some(known) = self.participants.iter_mut().find(|of| of.person == person) else { return };
        match link {
            Some(link) => {
                known.links.retain(|(known, _)| *known != link);
                // The oldest gives way: it is one that gives no more than the others, or is followed again.
                if known.links.len() >= LINKS_OF_ONE {
                    known.links.remove(0);
                }
                known.links.push((link, role));
            }
            None => {
                known.given = Some(role);
                known.links.clear();
            }
        }
    }

    fn drop_link(&mut self, link: ShareLinkId) {
        for participant in &mut self.participants {
            participant.links.retain(|(known, _)| *known != link);
        }
        self.participants.retain(|of| of.given.is_some() || !of.links.is_empty());
    }
}

#[cfg(test)]
#[path = "participants_tests.rs"]
mod tests;
