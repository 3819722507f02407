//! Who may use which session, over a whole app: every use of a private one, and the life of a link.

use crate::testing::{Bounds, SHOWN_PORT, SPOKEN_PORT, UNDECLARED_PORT, World, until};
use crate::{App, PreviewUse, RightsOf, StatisticsRange};
use greenroom_domain::{
    Command, Delivery, ErrorCode, Person, Problem, Right, Role, SessionId, SessionRole, ShareKind, TeamAccess,
};
use greenroom_wire::{
    ClientKind, CreateShareLink, Exec, ForkSession, SessionsFrame, ShareLinkCreated, ShareLinkState,
    SubmitCommand, UseShareLink, WriteDraft,
};

struct Place {
    world: World,
    session: SessionId,
    ada: Person,
    ben: Person,
}

impl Place {
    /// A session of Ada's that is private to her.
    async fn private() -> Self {
        let place = Self::open().await;
        place.command(&place.ada, Command::SetTeamAccess { access: TeamAccess::None }).await.unwrap();
        until("the list knows", async || {
            place.listed(&place.ada).await == [place.session] && place.listed(&place.ben).await.is_empty()
        })
        .await;
        place
    }

    async fn open() -> Self {
        let world = World::start(Bounds::without_pool()).await;
        let row = world.add_repository("sample").await;
        let (ada, ben) = (world.member("ada").await, world.member("ben").await);
        let session = world.session(&ada, &row).await;
        Self { world, session, ada, ben }
    }

    fn app(&self) -> &App {
        &self.world.app
    }

    async fn command(&self, by: &Person, command: Command) -> Result<(), Problem> {
        self.command_in(by, self.session, command).await
    }

    async fn command_in(&self, by: &Person, id: SessionId, command: Command) -> Result<(), Problem> {
        let key = format!("key-{:032x}", self.world.inner().id_parts().1).parse().unwrap();
        let body = SubmitCommand { key, command };
        match self.app().submit_command(by, id, body).await?.problem {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    async fn listed(&self, by: &Person) -> Vec<SessionId> {
        let sessions = self.app().sessions(by, None, crate::Archived::Hidden, 10).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect()
    }

    async fn found(&self, by: &Person) -> Vec<SessionId> {
        let hits = self.app().search(by, "session", None, 10).await.unwrap();
        hits.into_iter().map(|hit| hit.session.id).collect()
    }

    async fn link(&self, by: &Person, kind: ShareKind, life_s: Option<u64>) -> ShareLinkCreated {
        self.app().create_share_link(by, self.session, CreateShareLink { kind, life_s }).await.unwrap()
    }

    async fn follow(&self, by: &Person, link: &ShareLinkCreated) -> Result<Vec<Right>, ErrorCode> {
        let body = UseShareLink { secret: link.secret.clone() };
        let followed = self.app().use_share_link(by, body).await;
        followed.map(|session| session.my_rights).map_err(|problem| problem.code)
    }

    async fn state_of(&self, link: &ShareLinkCreated) -> (ShareLinkState, u32) {
        let links = self.app().share_links(&self.world.admin, self.session).await.unwrap();
        let found = links.into_iter().find(|view| view.id == link.link.id).unwrap();
        (found.state, found.joined)
    }

    /// Every use of a session that only looks, by name.
    async fn looks(&self, by: &Person) -> Vec<(&'static str, Option<ErrorCode>)> {
        codes(self.looks_at(by, self.session).await)
    }

    async fn looks_at(&self, by: &Person, id: SessionId) -> Uses {
        let app = self.app();
        vec![
            ("session", app.session(by, id).await.err()),
            ("people", app.session_people(by, id).await.err()),
            ("queue", app.queue(by, id).await.err()),
            ("entries", app.entries(by, id, 0, 10).await.err()),
            ("entries_before", app.entries_before(by, id, 9, 10).await.err()),
            ("subscribe", app.subscribe(by, id, 0, None, ClientKind::Api).await.err()),
            ("trace", app.session_trace(by, id, None).await.err()),
            ("artifacts", app.artifacts(by, id).await.err()),
            ("environment", app.session_environment(by, id).await.err()),
            ("presence", app.presence(by, id).await.err()),
            ("mark_read", app.mark_read(by, id, 1).await.err()),
        ]
    }

    /// Every use that steers the work.
    async fn steers(&self, by: &Person) -> Vec<(&'static str, Option<ErrorCode>)> {
        codes(self.steers_in(by, self.session).await)
    }

    async fn steers_in(&self, by: &Person, id: SessionId) -> Uses {
        let app = self.app();
        let exec = Exec { command: "true".into(), timeout_ms: None };
        let draft = WriteDraft { text: "x".into(), revision: 0 };
        let bytes: crate::Upload = Box::new(&b"x"[..]);
        let rename = Command::Rename { title: "Other".into() };
        vec![
            ("rename", self.command_in(by, id, rename).await.err()),
            ("exec", app.exec(by, id, exec).await.err()),
            ("attach", app.attach(by, Some(id), "a.txt", Some(1), bytes).await.err()),
            ("typing", app.say_typing(by, id, ClientKind::Web, true).await.err()),
            ("draft", app.draft(by, Some(id), None).await.err()),
            ("write_draft", app.write_draft(by, Some(id), None, draft).await.err()),
        ]
    }

    async fn shares(&self, by: &Person) -> Vec<(&'static str, Option<ErrorCode>)> {
        codes(self.shares_of(by, self.session).await)
    }

    async fn shares_of(&self, by: &Person, id: SessionId) -> Uses {
        let app = self.app();
        let link = CreateShareLink { kind: ShareKind::View, life_s: None };
        vec![
            ("share", app.create_share_link(by, id, link).await.err()),
            ("links", app.share_links(by, id).await.err()),
        ]
    }

    /// Every use by somebody who may do none of them.
    async fn refusals(&self, by: &Person, id: SessionId) -> Uses {
        let app = self.app();
        let leave = Command::RemoveParticipant { person: by.id };
        let close = Command::SetTeamAccess { access: TeamAccess::None };
        let others = vec![
            ("leave", self.command_in(by, id, leave).await.err()),
            ("close", self.command_in(by, id, close).await.err()),
            (
                "revoke",
                app.revoke_share_link(by, id, greenroom_domain::ShareLinkId::from_parts(1, 1)).await.err(),
            ),
            ("diff", app.session_diff(by, id).await.err()),
            ("blame", app.session_blame(by, id, "a.txt").await.err()),
            ("preview", app.preview(by, id, 80, PreviewUse::Look).await.err()),
            ("outbox", app.session_outbox(by, id).await.err()),
            ("fork", self.fork_of(by, id).await.err()),
            ("delete", app.delete_session(by, id).await.err()),
        ];
        let (looks, steers) = (self.looks_at(by, id).await, self.steers_in(by, id).await);
        [looks, steers, self.shares_of(by, id).await, others].concat()
    }

    async fn fork(&self, by: &Person) -> Option<ErrorCode> {
        self.fork_of(by, self.session).await.err().map(|problem| problem.code)
    }

    async fn fork_of(&self, by: &Person, id: SessionId) -> Result<SessionId, Problem> {
        let body = ForkSession { turn: None, title: None, prompt: None };
        let key = format!("fork-{:032x}", self.world.inner().id_parts().1).parse().unwrap();
        self.app().fork_session(by, &key, id, body).await.map(|fork| fork.id)
    }
}

/// By name, with the refusals.
type Uses = Vec<(&'static str, Option<Problem>)>;

fn codes(uses: Uses) -> Vec<(&'static str, Option<ErrorCode>)> {
    uses.into_iter().map(|(name, problem)| (name, problem.map(|problem| problem.code))).collect()
}

fn all_are(uses: Vec<(&'static str, Option<ErrorCode>)>, expected: Option<ErrorCode>) {
    for (name, code) in uses {
        assert_eq!(code, expected, "{name}");
    }
}

fn prompt() -> Command {
    Command::Prompt { text: "do".into(), delivery: Delivery::Queue, attachments: vec![] }
}

#[tokio::test]
async fn for_who_has_no_part_in_it_a_private_session_is_not_there() {
    let place = Place::private().await;
    let unknown = Some(ErrorCode::SessionUnknown);
    all_are(place.looks(&place.ben).await, unknown);
    all_are(place.steers(&place.ben).await, unknown);
    all_are(place.shares(&place.ben).await, unknown);
    assert_eq!(place.fork(&place.ben).await, unknown);
    let deleted = place.app().delete_session(&place.ben, place.session).await;
    assert_eq!(deleted.unwrap_err().code, ErrorCode::SessionUnknown);
    assert_eq!(place.listed(&place.ada).await, [place.session]);
    assert_eq!(place.listed(&place.world.admin).await, [place.session], "an admin sees all");
    place.world.inner().drain_outbox().await;
    assert_eq!(place.found(&place.ben).await, [], "nor is it found");
    assert_eq!(place.found(&place.ada).await, [place.session]);
    all_are(place.looks(&place.world.admin).await, None);
}

#[tokio::test]
async fn a_private_session_is_answered_as_one_that_never_was_and_is_not_woken_for_it() {
    let mut place = Place::private().await;
    let never = SessionId::from_parts(1, 1);
    for is_asleep in [false, true] {
        if is_asleep {
            place.world = place.world.restart().await;
        }
        assert_ne!(place.world.inner().sessions().is_awake(place.session), is_asleep);
        let unknown = place.refusals(&place.ben, never).await;
        assert_eq!(place.refusals(&place.ben, place.session).await, unknown);
        assert!(
            unknown.iter().all(|(_, problem)| *problem == unknown[0].1 && problem.is_some()),
            "{unknown:#?}"
        );
        assert_ne!(place.world.inner().sessions().is_awake(place.session), is_asleep);
    }
    assert_eq!(place.app().session(&place.ada, place.session).await.unwrap().id, place.session);
}

#[tokio::test]
async fn a_viewer_of_a_session_looks_and_steers_nothing() {
    let place = Place::private().await;
    let link = place.link(&place.ada, ShareKind::View, None).await;
    assert_eq!(place.follow(&place.ben, &link).await, Ok(vec![Right::View]));
    all_are(place.looks(&place.ben).await, None);
    all_are(place.steers(&place.ben).await, Some(ErrorCode::NotAllowed));
    all_are(place.shares(&place.ben).await, Some(ErrorCode::NotAllowed));
    assert_eq!(place.fork(&place.ben).await, Some(ErrorCode::NotAllowed));
    assert_eq!(place.command(&place.ben, prompt()).await.unwrap_err().code, ErrorCode::NotAllowed);
    until("it is on the list", async || place.listed(&place.ben).await == [place.session]).await;
}

#[tokio::test]
async fn who_may_only_look_leaves_no_receipt_and_what_they_did_before_is_answered_as_it_was() {
    let place = Place::private().await;
    let role = SessionRole::Viewer;
    place.command(&place.ada, Command::SetParticipant { person: place.ben.id, role }).await.unwrap();
    let cid = place.world.member("cid").await;
    let submit = async |by: &Person, key: &str, command: Command| {
        let body = SubmitCommand { key: key.parse().unwrap(), command };
        place
            .app()
            .submit_command(by, place.session, body)
            .await
            .map(|receipt| receipt.problem.map(|p| p.code))
    };
    let open = |access| Command::SetTeamAccess { access };
    let refused = Ok(Some(ErrorCode::NotAllowed));
    assert_eq!(submit(&place.ben, "k", open(TeamAccess::View)).await, refused);
    // Kept, it would be another body with the same key.
    assert_eq!(submit(&place.ben, "k", open(TeamAccess::Contribute)).await, refused);
    let member = |person, role| Command::SetParticipant { person, role };
    assert_eq!(submit(&place.ben, "k", member(place.ben.id, SessionRole::Owner)).await, refused);
    assert_eq!(submit(&place.ada, "k", open(TeamAccess::View)).await, Ok(None));
    // Not a participant, but let in to look: there is nothing to leave, and nothing is written of it.
    let leave = Command::RemoveParticipant { person: cid.id };
    assert_eq!(submit(&cid, "l", leave).await, Ok(Some(ErrorCode::PersonUnknown)));
    assert_eq!(submit(&cid, "l", open(TeamAccess::None)).await, refused);
    // Who left is answered the same when they ask again.
    let leave = Command::RemoveParticipant { person: place.ben.id };
    assert_eq!(submit(&place.ben, "m", leave.clone()).await, Ok(None));
    assert_eq!(submit(&place.ben, "m", leave).await, Ok(None));
}

#[tokio::test]
async fn what_somebody_does_in_private_is_in_nobodys_figures_but_theirs_and_admins() {
    let place = Place::private().await;
    place.command(&place.ada, prompt()).await.unwrap();
    let prompts = async |by: &Person| {
        let of_ada = StatisticsRange { person: Some("ada".parse().unwrap()), ..StatisticsRange::default() };
        place.app().statistics(by, of_ada).await.unwrap().totals.prompts
    };
    until("it is counted", async || prompts(&place.ada).await == 1).await;
    assert_eq!([prompts(&place.world.admin).await, prompts(&place.ben).await], [1, 0]);
}

/// Why a person is refused each way of seeing what is in the sandbox.
async fn refusals(place: &Place, by: &Person) -> [Option<ErrorCode>; 6] {
    let (app, id) = (place.app(), place.session);
    let code = |problem: Problem| problem.code;
    let preview = async |port, wanted| app.preview(by, id, port, wanted).await.err().map(code);
    [
        preview(SHOWN_PORT, PreviewUse::Look).await,
        preview(SHOWN_PORT, PreviewUse::Act).await,
        preview(SPOKEN_PORT, PreviewUse::Look).await,
        preview(UNDECLARED_PORT, PreviewUse::Look).await,
        app.session_diff(by, id).await.err().map(code),
        app.session_blame(by, id, "a.txt").await.err().map(code),
    ]
}

#[tokio::test]
async fn whoever_only_looks_starts_no_sandbox_and_sees_of_one_that_runs_what_the_recipe_shows() {
    let place = Place::private().await;
    let link = place.link(&place.ada, ShareKind::View, None).await;
    place.follow(&place.ben, &link).await.unwrap();
    let no = Some(ErrorCode::NotAllowed);
    assert_eq!(refusals(&place, &place.ben).await, [no; 6]);
    let refused = place.app().session_diff(&place.ben, place.session).await.unwrap_err();
    assert!(refused.message.contains("not running") && refused.hint.unwrap().contains("ada"));
    assert_eq!(place.world.sandboxes.count().await, 0, "none was started");

    // The fake's git says nothing, which is no diff and no blame.
    let mute = Some(ErrorCode::SandboxFailed);
    assert_eq!(refusals(&place, &place.ada).await, [None, None, None, None, mute, mute]);
    assert_eq!(refusals(&place, &place.ben).await, [None, no, no, no, mute, mute]);
    let rests_on = async |by: &Person| {
        place.app().preview(by, place.session, SHOWN_PORT, PreviewUse::Look).await.unwrap().1
    };
    assert_eq!([rests_on(&place.ada).await, rests_on(&place.ben).await], [Right::Prompt, Right::View]);
}

#[tokio::test]
async fn whoever_takes_part_by_a_link_prompts_and_is_out_when_it_is_revoked() {
    let place = Place::private().await;
    let link = place.link(&place.ada, ShareKind::TakePart, None).await;
    assert!(link.secret.starts_with("grl_"), "never with what begins an option");
    place.follow(&place.ben, &link).await.unwrap();
    all_are(place.steers(&place.ben).await, None);
    place.command(&place.ben, prompt()).await.unwrap();
    assert_eq!(place.state_of(&link).await, (ShareLinkState::Active, 1));
    let mut changes = place.app().rights_changes();
    let told = changes.concerning(None, Some(place.session));
    // Neither the other's link, nor anybody's that one did not make.
    let refused = place.app().revoke_share_link(&place.ben, place.session, link.link.id).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::NotAllowed);
    place.app().revoke_share_link(&place.ada, place.session, link.link.id).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("open streams are told");
    all_are(place.looks(&place.ben).await, Some(ErrorCode::SessionUnknown));
    assert_eq!(place.follow(&place.ben, &link).await, Err(ErrorCode::ShareLinkUnknown));
    assert_eq!(place.state_of(&link).await, (ShareLinkState::Revoked, 0));
    place.app().revoke_share_link(&place.ada, place.session, link.link.id).await.expect("again is no error");
}

#[tokio::test]
async fn nobody_stays_by_a_link_of_their_own_or_anothers_making_when_theirs_is_revoked() {
    let place = Place::private().await;
    let cid = place.world.member("cid").await;
    let first = place.link(&place.ada, ShareKind::TakePart, None).await;
    // Links of a time when they might share: the session was open, or an owner had let them.
    place.command(&place.ada, Command::SetTeamAccess { access: TeamAccess::Contribute }).await.unwrap();
    let bens = place.link(&place.ben, ShareKind::TakePart, None).await;
    let cids = place.link(&cid, ShareKind::TakePart, None).await;
    place.command(&place.ada, Command::SetTeamAccess { access: TeamAccess::None }).await.unwrap();
    place.follow(&place.ben, &first).await.unwrap();
    place.follow(&cid, &first).await.unwrap();
    for by in [&place.ben, &cid] {
        all_are(place.shares(by).await, Some(ErrorCode::NotAllowed));
        for link in [&bens, &cids] {
            assert_eq!(place.follow(by, link).await, Err(ErrorCode::ShareLinkUnknown));
            assert_eq!(place.state_of(link).await, (ShareLinkState::Disowned, 0));
        }
    }
    place.app().revoke_share_link(&place.ada, place.session, first.link.id).await.unwrap();
    for by in [&place.ben, &cid] {
        all_are(place.looks(by).await, Some(ErrorCode::SessionUnknown));
    }
}

#[tokio::test]
async fn a_link_ends_with_its_time_and_with_its_makers_own_part() {
    let place = Place::private().await;
    let role = SessionRole::Contributor;
    place.command(&place.ada, Command::SetParticipant { person: place.ben.id, role }).await.unwrap();
    let bens = place.link(&place.ben, ShareKind::TakePart, None).await;
    let cid = place.world.member("cid").await;
    place.command(&place.ada, Command::RemoveParticipant { person: place.ben.id }).await.unwrap();
    assert_eq!(place.follow(&cid, &bens).await, Err(ErrorCode::ShareLinkUnknown));
    assert_eq!(place.state_of(&bens).await.0, ShareLinkState::Disowned);

    let brief = place.link(&place.ada, ShareKind::View, Some(60)).await;
    let inner = place.world.inner();
    let digest = crate::secrets::digest("past");
    let row = inner.directory.share_links(place.session).await.unwrap().remove(0);
    let past = greenroom_directory::ShareLinkRow {
        id: greenroom_domain::ShareLinkId::from_parts(1, 1),
        made_at_ms: 1,
        expires_at_ms: 2,
        ..row
    };
    inner.directory.add_share_link(digest, past, 99).await.unwrap();
    let expired = place.app().use_share_link(&cid, UseShareLink { secret: "past".into() }).await;
    assert_eq!(expired.unwrap_err().code, ErrorCode::ShareLinkUnknown);
    assert_eq!(place.follow(&cid, &brief).await, Ok(vec![Right::View]));
}

#[tokio::test]
async fn links_are_bounded_in_number_and_life_and_their_secrets_are_kept_nowhere() {
    let place = Place::private().await;
    for life_s in [Some(0), Some(59), Some(90 * 24 * 3600 + 1), Some(u64::MAX)] {
        let body = CreateShareLink { kind: ShareKind::View, life_s };
        let refused = place.app().create_share_link(&place.ada, place.session, body).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest, "{life_s:?}");
    }
    let first = place.link(&place.ada, ShareKind::View, None).await;
    for _ in 1..super::LIVING_LINKS {
        place.link(&place.ada, ShareKind::View, None).await;
    }
    let body = || CreateShareLink { kind: ShareKind::View, life_s: None };
    let refused = place.app().create_share_link(&place.ada, place.session, body()).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::QuotaReached);
    place.app().revoke_share_link(&place.ada, place.session, first.link.id).await.unwrap();
    place.app().create_share_link(&place.ada, place.session, body()).await.expect("there is room again");
    for file in ["greenroom.db", "greenroom.db-wal"] {
        let bytes = std::fs::read(place.world.data.path().join(file)).unwrap_or_default();
        let secret = first.secret.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{file}");
    }
    assert!(!format!("{first:?}").contains(&first.secret));
}

#[tokio::test]
async fn a_list_that_is_followed_loses_what_becomes_private_and_never_hears_of_it_again() {
    let place = Place::open().await;
    until("it is listed", async || place.listed(&place.ben).await == [place.session]).await;
    let mut list = place.app().follow_sessions(&place.ben, None).await.unwrap();
    assert!(
        matches!(list.next().await.unwrap(), SessionsFrame::Snapshot { sessions, .. } if sessions.len() == 1)
    );
    place.command(&place.ada, Command::SetTeamAccess { access: TeamAccess::None }).await.unwrap();
    loop {
        match list.next().await.unwrap() {
            SessionsFrame::Changed { session } => assert_eq!(session.id, place.session),
            told => {
                assert!(matches!(told, SessionsFrame::Removed { session } if session == place.session));
                break;
            }
        }
    }
    place.command(&place.ada, Command::Rename { title: "Secret".into() }).await.unwrap();
    let role = SessionRole::Viewer;
    place.command(&place.ada, Command::SetParticipant { person: place.ben.id, role }).await.unwrap();
    let told = list.next().await.unwrap();
    assert!(matches!(&told, SessionsFrame::Changed { session } if session.title == "Secret"), "{told:?}");
    let people = place.app().session_people(&place.ben, place.session).await.unwrap();
    assert_eq!(people.my_role, Some(SessionRole::Viewer));
}

#[tokio::test]
async fn a_session_that_is_private_from_its_beginning_was_never_on_a_list() {
    let place = Place::open().await;
    let mut list = place.app().follow_sessions(&place.ben, None).await.unwrap();
    list.next().await.unwrap();
    let body = greenroom_wire::CreateSession {
        repository: "sample".parse().unwrap(),
        prompt: None,
        attachments: vec![],
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: TeamAccess::None,
    };
    let hidden = place.app().create_session(&place.ada, &"hidden".parse().unwrap(), body).await.unwrap().id;
    until("its maker has it", async || place.listed(&place.ada).await.contains(&hidden)).await;
    place.command(&place.ada, Command::Rename { title: "Seen".into() }).await.unwrap();
    loop {
        let SessionsFrame::Changed { session } = list.next().await.unwrap() else {
            panic!("nothing is removed")
        };
        assert_eq!(session.id, place.session);
        if session.title == "Seen" {
            break;
        }
    }
}

#[tokio::test]
async fn a_role_is_given_to_people_of_the_installation_only_and_within_its_frame() {
    let place = Place::private().await;
    let set = |person| Command::SetParticipant { person, role: SessionRole::Contributor };
    let nobody = greenroom_domain::PersonId::from_parts(1, 1);
    assert_eq!(place.command(&place.ada, set(nobody)).await.unwrap_err().code, ErrorCode::PersonUnknown);
    let guest = greenroom_wire::AddPerson {
        login: "guest".parse().unwrap(),
        name: "Guest".into(),
        email: "guest@test.invalid".into(),
        role: Role::Viewer,
    };
    let guest = place.app().add_person(&place.world.admin, guest).await.unwrap().person;
    assert_eq!(place.command(&place.ada, set(guest.id)).await.unwrap_err().code, ErrorCode::NotAllowed);
    let link = place.link(&place.ada, ShareKind::TakePart, None).await;
    assert_eq!(place.follow(&guest, &link).await, Ok(vec![Right::View]));
}

/// Who changes a person's role for the whole installation tells it by the person.
#[tokio::test]
async fn a_change_in_one_session_is_not_told_to_another() {
    let place = Place::private().await;
    let mut changes = place.app().rights_changes();
    place.link(&place.ada, ShareKind::View, None).await;
    place.app().rights_changed(RightsOf::Session(SessionId::from_parts(1, 1)));
    let other = changes.concerning(None, Some(place.session));
    assert!(futures::FutureExt::now_or_never(other).is_none());
}
