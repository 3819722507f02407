//! Who may do what in a session. Everyone of the installation has what the session is open for (`TeamAccess`); a
//! participant has the role that they were given, or that a share link gives while it lives, whichever of the two, the
//! session's openness or their own role, is more. The installation's roles are the frame: its viewers only look, wherever;
//! its admins may do everything.

use crate::{ErrorCode, PersonId, Problem, Role, ShareLinkId, TurnId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Participants of a session; and of those who were removed from it or left it, whom it remembers what they may come
/// back as.
pub const PARTICIPANTS_LIMIT: usize = 200;

/// What a participant may do in one session. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionRole {
    /// Looks.
    Viewer,
    /// Prompts, stops, runs commands; shares, unless they are here by a link only.
    Contributor,
    /// Also decides who takes part, and deletes.
    Owner,
}

/// What everyone of the installation may do in a session without being a participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TeamAccess {
    /// Look and prompt.
    #[default]
    Contribute,
    /// Look.
    View,
    /// Nothing: the session is private to its participants and to admins.
    None,
}

impl TeamAccess {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn role(self) -> Option<SessionRole> {
        match self {
            Self::Contribute => Some(SessionRole::Contributor),
            Self::View => Some(SessionRole::Viewer),
            Self::None => None,
        }
    }
}

/// What a share link lets in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareKind {
    View,
    TakePart,
}

impl ShareKind {
    pub fn role(self) -> SessionRole {
        match self {
            Self::View => SessionRole::Viewer,
            Self::TakePart => SessionRole::Contributor,
        }
    }
}

/// What can be asked of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    View,
    /// Prompt, and everything else that steers the work: the queue, stops, commands, files, the title.
    Prompt,
    /// Make links that let others in. Nobody has it by a link: else it would outlive that one by another of one's own.
    Share,
    /// Decide who takes part and what the session is open for; delete it.
    Manage,
}

impl Right {
    pub const ALL: [Self; 4] = [Self::View, Self::Prompt, Self::Share, Self::Manage];

    /// The least role that has it.
    pub fn role(self) -> SessionRole {
        match self {
            Self::View => SessionRole::Viewer,
            Self::Prompt | Self::Share => SessionRole::Contributor,
            Self::Manage => SessionRole::Owner,
        }
    }
}

/// A person's role in a session, where `own` is their role as a participant. `None`: for them there is no such session.
pub fn role_in(team: TeamAccess, own: Option<SessionRole>, installation: Role) -> Option<SessionRole> {
    let given = own.max(team.role());
    match installation {
        Role::Admin => Some(SessionRole::Owner),
        Role::Member => given,
        Role::Viewer => given.map(|_| SessionRole::Viewer),
    }
}

/// The one answer for a session that never was, that was deleted, and that the asking person has no part in: nobody learns
/// which of them it is.
pub fn unknown_session() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "There is no such session.").hint(
        "List sessions with `greenroom session list`; a private one is only there for its participants.",
    )
}

/// Somebody who takes part in a session, or was let in to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub person: PersonId,
    /// As of when they came.
    pub name: String,
    /// Given by an owner or an admin, or had by making the session or prompting in it. Counts before what links give.
    pub given: Option<SessionRole>,
    /// Links that they followed, and that live.
    pub links: Vec<(ShareLinkId, SessionRole)>,
}

impl Participant {
    pub fn role(&self) -> SessionRole {
        let by_link = || self.links.iter().map(|(_, role)| *role).max();
        self.given.or_else(by_link).unwrap_or(SessionRole::Viewer)
    }
}

/// Who takes part in a session, and what it is open for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub team: TeamAccess,
    /// In order of their coming.
    pub participants: Vec<Participant>,
    /// Removed by somebody else: only who may manage the session brings them back, neither a link nor a prompt does.
    pub(crate) barred: Vec<PersonId>,
    /// Were given less than a contributor's role, and left: coming back by themselves gives them no more.
    pub(crate) capped: Vec<(PersonId, SessionRole)>,
    /// A fork's log begins with what people said elsewhere, up to this turn: that makes nobody a participant.
    pub(crate) inherits_until: Option<TurnId>,
}

impl Access {
    pub fn participant(&self, person: PersonId) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.person == person)
    }

    /// What this person may come to have by their own doing, where `role` is what it would give.
    pub(crate) fn within_cap(&self, person: PersonId, role: SessionRole) -> SessionRole {
        let cap = self.capped.iter().find(|(capped, _)| *capped == person);
        cap.map_or(role, |(_, cap)| role.min(*cap))
    }

    /// `None`: for this person there is no such session.
    pub fn role_of(&self, person: PersonId, installation: Role) -> Option<SessionRole> {
        role_in(self.team, self.participant(person).map(Participant::role), installation)
    }

    pub fn may(&self, person: PersonId, installation: Role, right: Right) -> bool {
        let role = match right {
            Right::Share => {
                let given = self.participant(person).and_then(|participant| participant.given);
                role_in(self.team, given, installation)
            }
            Right::View | Right::Prompt | Right::Manage => self.role_of(person, installation),
        };
        role.is_some_and(|role| role >= right.role())
    }

    pub fn rights(&self, person: PersonId, installation: Role) -> Vec<Right> {
        Right::ALL.into_iter().filter(|right| self.may(person, installation, *right)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_of_openness_and_own_role_counts_within_the_installations_frame() {
        use SessionRole::{Contributor, Owner, Viewer};
        let cases = [
            (TeamAccess::Contribute, None, Role::Member, Some(Contributor)),
            (TeamAccess::Contribute, None, Role::Viewer, Some(Viewer)),
            (TeamAccess::Contribute, Some(Viewer), Role::Member, Some(Contributor)),
            (TeamAccess::View, None, Role::Member, Some(Viewer)),
            (TeamAccess::View, Some(Contributor), Role::Member, Some(Contributor)),
            (TeamAccess::None, None, Role::Member, None),
            (TeamAccess::None, None, Role::Viewer, None),
            (TeamAccess::None, Some(Owner), Role::Member, Some(Owner)),
            (TeamAccess::None, Some(Owner), Role::Viewer, Some(Viewer)),
            (TeamAccess::None, None, Role::Admin, Some(Owner)),
        ];
        for (team, own, installation, expected) in cases {
            assert_eq!(role_in(team, own, installation), expected, "{team:?} {own:?} {installation:?}");
        }
    }

    #[test]
    fn a_given_role_counts_before_what_links_give() {
        let link = |n| ShareLinkId::from_parts(1, n);
        let mut participant = Participant {
            person: PersonId::from_parts(1, 1),
            name: "Ada".into(),
            given: None,
            links: vec![(link(1), SessionRole::Contributor), (link(2), SessionRole::Viewer)],
        };
        assert_eq!(participant.role(), SessionRole::Contributor);
        participant.given = Some(SessionRole::Viewer);
        assert_eq!(participant.role(), SessionRole::Viewer);
    }
}
