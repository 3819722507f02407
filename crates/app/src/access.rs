//! Who may use which session, asked in one place; who takes part in one, and the links that let others in. The rules
//! themselves are in `domain` (`access`, `SessionState::require`).
//!
//! A link lets in people of the installation only, never anybody who is not signed in. It lives until it expires or is
//! revoked, and as long as its maker may share the session.

use crate::secrets::{LINK_PREFIX, digest, new_secret};
use crate::{App, Inner, Result};
use greenroom_directory::{Onlooker, SessionRow, ShareLinkRow};
use greenroom_domain::access::{role_in, unknown_session};
use greenroom_domain::state::Subject;
use greenroom_domain::{
    Asking, Command, ErrorCode, Person, Problem, Right, Role, SessionId, SessionRole, ShareLinkId,
};
use greenroom_session::SessionHandle;
use greenroom_wire::{
    CreateShareLink, ParticipantView, SessionPeople, SessionView, ShareLinkCreated, ShareLinkState,
    ShareLinkView, UseShareLink,
};

/// Links of one session that live at a time.
pub(crate) const LIVING_LINKS: u32 = 20;
const LIFE_S: u64 = 7 * 24 * 3600;
const LIFE_LIMIT_S: std::ops::RangeInclusive<u64> = 60..=90 * 24 * 3600;
/// Longer than any secret of ours.
const SECRET_LIMIT: usize = 200;

impl App {
    /// The session, for who has this right in it: every use of a session comes by here.
    pub(crate) async fn open(&self, caller: &Person, right: Right, id: SessionId) -> Result<SessionHandle> {
        // Who has no part in one that sleeps does not wake it either.
        if let Some(row) = self.inner.line_of_sleeping(id).await?
            && role_by_line(&row, caller).is_none()
        {
            return Err(unknown_session());
        }
        let handle = self.inner.session_handle(id).await?;
        let (person, role) = (caller.id, caller.role);
        handle.look(move |state| state.require(person, role, right)).await??;
        Ok(handle)
    }

    /// For what stays open: whether the caller may still.
    pub async fn require_right(&self, caller: &Person, id: SessionId, right: Right) -> Result<()> {
        self.look_up(caller, right, id).await
    }

    /// As `open`, without waking a session that sleeps: its line in the index says who may. Who is refused by the line asks
    /// the session itself.
    pub(crate) async fn look_up(&self, caller: &Person, right: Right, id: SessionId) -> Result<()> {
        if !self.inner.has_log(id) {
            return Err(unknown_session());
        }
        if let Some(row) = self.inner.line_of_sleeping(id).await?
            && role_by_line(&row, caller).is_some_and(|role| role >= right.role())
        {
            return Ok(());
        }
        self.open(caller, right, id).await.map(drop)
    }

    pub async fn session_people(&self, caller: &Person, id: SessionId) -> Result<SessionPeople> {
        let handle = self.open(caller, Right::View, id).await?;
        let access = handle.look(|state| state.access.clone()).await?;
        let people = self.inner.directory.people().await?;
        let view = |of: &greenroom_domain::access::Participant| {
            let known = people.iter().find(|person| person.id == of.person);
            ParticipantView {
                person: of.person,
                login: known.map(|person| person.login.clone()),
                name: known.map_or_else(|| of.name.clone(), |person| person.name.clone()),
                role: of.role(),
                is_by_link: of.given.is_none(),
            }
        };
        Ok(SessionPeople {
            team_access: access.team,
            participants: access.participants.iter().map(view).collect(),
            my_role: access.role_of(caller.id, caller.role),
            my_rights: access.rights(caller.id, caller.role),
        })
    }

    /// The secret is answered this once.
    pub async fn create_share_link(
        &self,
        caller: &Person,
        session: SessionId,
        body: CreateShareLink,
    ) -> Result<ShareLinkCreated> {
        self.open(caller, Right::Share, session).await?;
        let life_s = body.life_s.unwrap_or(LIFE_S);
        if !LIFE_LIMIT_S.contains(&life_s) {
            return Err(Problem::new(ErrorCode::InvalidRequest, "A link lives from a minute to 90 days.")
                .hint("Make another one when it has expired."));
        }
        let secret = format!("{LINK_PREFIX}{}", new_secret(self.inner.clock.as_ref()));
        let (at, random) = self.inner.id_parts();
        let now = self.inner.now_ms();
        let row = ShareLinkRow {
            id: ShareLinkId::from_parts(at, random),
            session,
            kind: body.kind,
            made_by: caller.id,
            made_by_name: caller.name.clone(),
            made_at_ms: now,
            expires_at_ms: now + i64::try_from(life_s).unwrap_or(i64::MAX / 2000) * 1000,
            revoked_at_ms: None,
        };
        if !self.inner.directory.add_share_link(digest(&secret), row.clone(), LIVING_LINKS).await? {
            return Err(Problem::new(
                ErrorCode::QuotaReached,
                format!("This session has {LIVING_LINKS} links already."),
            )
            .hint("Revoke one that is not needed any more."));
        }
        let link = ShareLinkView { state: ShareLinkState::Active, joined: 0, ..view(&row) };
        // Behind `#` it reaches no server's log and no other site.
        Ok(ShareLinkCreated { link, path: format!("/share#{secret}"), secret })
    }

    /// Newest first, those that do not work any more included.
    pub async fn share_links(&self, caller: &Person, session: SessionId) -> Result<Vec<ShareLinkView>> {
        let handle = self.open(caller, Right::Share, session).await?;
        let access = handle.look(|state| state.access.clone()).await?;
        let people = self.inner.directory.people().await?;
        let rows = self.inner.directory.share_links(session).await?;
        let now = self.inner.now_ms();
        let view = |row: &ShareLinkRow| {
            let maker = people.iter().find(|person| person.id == row.made_by);
            let may_share = maker.is_some_and(|maker| access.may(maker.id, maker.role, Right::Share));
            let is_by_it = |of: &&greenroom_domain::access::Participant| {
                of.given.is_none() && of.links.iter().any(|(link, _)| *link == row.id)
            };
            let joined = access.participants.iter().filter(is_by_it).count();
            ShareLinkView {
                state: state_of(row, may_share, now),
                joined: u32::try_from(joined).unwrap_or(u32::MAX),
                ..view(row)
            }
        };
        Ok(rows.iter().map(view).collect())
    }

    /// Ends the link, and the part of those who have theirs only by it: their streams end at once. For its maker, and
    /// for the session's owners. A second time does what the first may have left undone.
    pub async fn revoke_share_link(
        &self,
        caller: &Person,
        session: SessionId,
        id: ShareLinkId,
    ) -> Result<()> {
        let handle = self.open(caller, Right::View, session).await?;
        let rows = self.inner.directory.share_links(session).await?;
        let row = rows.into_iter().find(|row| row.id == id).ok_or_else(|| {
            Problem::new(ErrorCode::ShareLinkUnknown, "This session has no such link.")
                .hint("List its links with `greenroom session share list`.")
        })?;
        if row.made_by != caller.id {
            self.open(caller, Right::Manage, session).await?;
        }
        // First, so that nobody comes by it who is not sent away below.
        self.inner.directory.revoke_share_link(id, self.inner.now_ms()).await?;
        let asking = asking_of(caller);
        handle.decide(move |state| Ok(state.decide_revoked(id, &asking))).await
    }

    /// Lets the caller into the link's session.
    pub async fn use_share_link(&self, caller: &Person, body: UseShareLink) -> Result<SessionView> {
        if body.secret.len() > SECRET_LIMIT {
            return Err(dead_link());
        }
        let directory = &self.inner.directory;
        let digest = digest(&body.secret);
        let row = directory.share_link_by_digest(digest).await?.ok_or_else(dead_link)?;
        let maker = directory.person(row.made_by).await?.ok_or_else(dead_link)?;
        let handle = self.inner.session_handle(row.session).await.map_err(|problem| match problem.code {
            ErrorCode::SessionUnknown => dead_link(),
            _ => problem,
        })?;
        let (asking, now) = (asking_of(caller), self.inner.now_ms());
        let joining = row.clone();
        handle
            .decide(move |state| {
                let may_share = state.access.may(maker.id, maker.role, Right::Share);
                match state_of(&joining, may_share, now) {
                    ShareLinkState::Active => state.decide_join(joining.id, joining.kind, &asking),
                    _ => Err(dead_link()),
                }
            })
            .await?;
        // It may have been revoked since it was looked up; whoever revokes it from here on sends the caller away.
        let is_revoked = |row: Option<ShareLinkRow>| row.is_none_or(|row| row.revoked_at_ms.is_some());
        if is_revoked(directory.share_link_by_digest(digest).await?) {
            let asking = asking_of(caller);
            handle.decide(move |state| Ok(state.decide_revoked(row.id, &asking))).await?;
            return Err(dead_link());
        }
        self.inner.session_view(caller, &handle).await
    }
}

impl Inner {
    /// The session's line in the index where it says what the session would: nothing happens in one that sleeps, and the
    /// index was told all that did.
    async fn line_of_sleeping(&self, id: SessionId) -> Result<Option<SessionRow>> {
        if self.sessions().is_awake(id) || self.outbox.is_telling_of(id) {
            return Ok(None);
        }
        Ok(self.directory.session(id).await?)
    }

    /// Without asking who it is for.
    pub(crate) async fn session_handle(&self, id: SessionId) -> Result<SessionHandle> {
        if self.unerased.has(id) {
            return Err(unknown_session());
        }
        self.sessions().get(id).await.map_err(|problem| match problem.code {
            ErrorCode::SessionUnknown => unknown_session(),
            _ => problem,
        })
    }

    /// The person that a command names.
    pub(crate) async fn subject_of(&self, command: &Command) -> Result<Option<Subject>> {
        let Command::SetParticipant { person, .. } = command else { return Ok(None) };
        let found = self.directory.person(*person).await?;
        Ok(found.map(|person| Subject { person: person.id, name: person.name, role: person.role }))
    }
}

pub(crate) fn asking_of(caller: &Person) -> Asking {
    Asking { author: caller.as_author(), role: caller.role, model: None, attachments: vec![], subject: None }
}

pub(crate) fn onlooker(caller: &Person) -> Onlooker {
    if caller.role == Role::Admin { Onlooker::All } else { Onlooker::Person(caller.id) }
}

/// What a link alone gives is not told apart there: not for the right to share.
fn role_by_line(row: &SessionRow, caller: &Person) -> Option<SessionRole> {
    let own = row.participants.iter().find(|(person, _)| *person == caller.id).map(|(_, role)| *role);
    role_in(row.team_access, own, caller.role)
}

fn view(row: &ShareLinkRow) -> ShareLinkView {
    ShareLinkView {
        id: row.id,
        kind: row.kind,
        state: ShareLinkState::Active,
        made_by: row.made_by,
        made_by_name: row.made_by_name.clone(),
        made_at_ms: row.made_at_ms,
        expires_at_ms: row.expires_at_ms,
        joined: 0,
    }
}

fn state_of(row: &ShareLinkRow, may_share: bool, now_ms: i64) -> ShareLinkState {
    match () {
        () if row.revoked_at_ms.is_some() => ShareLinkState::Revoked,
        () if row.expires_at_ms <= now_ms => ShareLinkState::Expired,
        () if !may_share => ShareLinkState::Disowned,
        () => ShareLinkState::Active,
    }
}

/// The same for one that never was.
fn dead_link() -> Problem {
    Problem::new(ErrorCode::ShareLinkUnknown, "This link does not work, or not any more.")
        .hint("Ask whoever sent it for a new one.")
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
