//! What every directory promises, whatever database is under it.

#![allow(clippy::unwrap_used)]

#[path = "contract/figures.rs"]
mod figures;
#[path = "contract/projected.rs"]
mod projected;
#[path = "contract/search.rs"]
mod search;

use greenroom_directory::{
    Archived, Directory, Error, Fact, ImageRow, ImageState, LINK_ROWS, ModelRow, Onlooker, Part, Projected,
    Projection, Remembered, RepositoryRow, SessionRow, SessionStatus, ShareLinkRow, TokenRow,
};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    ChangeId, Consumer, ErrorCode, ImageId, Person, PersonId, Problem, RepositoryId, Role, SessionId,
    SessionRole, ShareKind, ShareLinkId, TeamAccess, TokenId,
};
use serde_json::json;

struct Fresh {
    directory: Directory,
    folder: tempfile::TempDir,
}

impl std::ops::Deref for Fresh {
    type Target = Directory;
    fn deref(&self) -> &Directory {
        &self.directory
    }
}

async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(&folder.path().join("greenroom.db")).await.unwrap();
    Fresh { directory, folder }
}

fn person(n: u128, login: &str) -> Person {
    Person {
        id: PersonId::from_parts(1, n),
        login: login.parse().unwrap(),
        name: format!("Person {n}"),
        email: format!("{login}@example.org"),
        role: Role::Member,
    }
}

async fn with_ada() -> (Fresh, Person) {
    let directory = fresh().await;
    let ada = person(1, "ada");
    directory.add_person(ada.clone(), 5).await.unwrap();
    (directory, ada)
}

fn repository(n: u128, name: &str) -> RepositoryRow {
    RepositoryRow {
        id: RepositoryId::from_parts(1, n),
        name: name.parse().unwrap(),
        source: "/somewhere".into(),
        default_branch: "main".parse().unwrap(),
        required_approvals: 1,
        added_at_ms: 5,
    }
}

fn image(n: u128, of: &RepositoryRow, state: ImageState) -> ImageRow {
    ImageRow {
        id: ImageId::from_parts(1, n),
        repository: of.id,
        state,
        commit: Some("a".repeat(40).parse().unwrap()),
        steps: json!([{"name": "clone"}]),
        problem: None,
        started_at_ms: n as i64,
        finished_at_ms: None,
    }
}

fn session(n: u128, of: &RepositoryRow) -> SessionRow {
    SessionRow {
        id: SessionId::from_parts(1, n),
        repository: of.id,
        repository_name: of.name.clone(),
        title: "A title".into(),
        status: SessionStatus::Running,
        created_by: PersonId::from_parts(1, 1),
        created_by_name: "Ada".into(),
        branch: "greenroom/x".parse().unwrap(),
        model: None,
        queued_prompts: 2,
        usage: Usage { input_tokens: 7, ..Usage::default() },
        change: Some((ChangeId::from_parts(1, 1), 4, true)),
        news_seq: 1,
        head_seq: 10,
        created_at_ms: n as i64,
        updated_at_ms: 9,
        team_access: TeamAccess::View,
        participants: vec![(PersonId::from_parts(1, 1), SessionRole::Owner)],
        is_archived: false,
        open_asks: 3,
        parent: None,
    }
}

fn model(name: &str, is_default: bool) -> ModelRow {
    ModelRow { name: name.into(), config: json!({"model": name}), is_default, has_key: true }
}

async fn default_model(directory: &Directory) -> Option<String> {
    directory.model(None).await.unwrap().map(|row| row.name)
}

/// As the session's outbox does.
async fn put(directory: &Directory, row: SessionRow) {
    let after = directory.cursor(row.id, Consumer::Directory).await.unwrap();
    let upto = after.max(row.head_seq);
    let done = directory
        .project(Projection { row, after, upto, facts: vec![], parts: vec![], unconcerned: vec![] })
        .await
        .unwrap();
    assert_eq!(done, Projected::Done);
}

fn projection(row: &SessionRow, after: u64, facts: Vec<Fact>, parts: Vec<Part>) -> Projection {
    Projection { row: row.clone(), after, upto: row.head_seq, facts, parts, unconcerned: vec![] }
}

#[tokio::test]
async fn a_person_is_found_by_id_and_by_login() {
    let (directory, ada) = with_ada().await;
    assert_eq!(directory.person(ada.id).await.unwrap(), Some(ada.clone()));
    assert_eq!(directory.person_by_login(ada.login.clone()).await.unwrap(), Some(ada.clone()));
    assert_eq!(directory.people().await.unwrap(), vec![ada]);
    assert_eq!(directory.person_by_login("bob".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn a_login_belongs_to_one_person() {
    let (directory, _) = with_ada().await;
    let error = directory.add_person(person(2, "ada"), 6).await.unwrap_err();
    assert_eq!(error, Error::NameTaken);
    assert_eq!(Problem::from(error).code, ErrorCode::NameTaken);
}

#[tokio::test]
async fn renaming_a_person_changes_what_is_given_and_keeps_the_rest() {
    let (directory, ada) = with_ada().await;
    directory.rename_person(ada.id, Some("Ada King".into()), None).await.unwrap();
    let renamed = Person { name: "Ada King".into(), ..ada };
    assert_eq!(directory.person(renamed.id).await.unwrap(), Some(renamed));
}

#[tokio::test]
async fn a_person_has_no_password_until_one_is_set() {
    let (directory, ada) = with_ada().await;
    assert_eq!(directory.password(ada.login.clone()).await.unwrap(), Some((ada.clone(), None)));
    directory.set_password(ada.id, "$hash".into()).await.unwrap();
    assert_eq!(directory.password(ada.login.clone()).await.unwrap(), Some((ada, Some("$hash".into()))));
    assert_eq!(directory.password("bob".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn a_sign_in_link_may_be_looked_at_often_and_is_taken_once() {
    let (directory, ada) = with_ada().await;
    directory.add_sign_in_link([1; 32], Some(ada.id), 100).await.unwrap();
    directory.add_sign_in_link([2; 32], None, 100).await.unwrap();
    assert_eq!(directory.sign_in_link([1; 32], 50).await.unwrap(), Some(Some(ada.id)));
    assert_eq!(directory.sign_in_link([1; 32], 50).await.unwrap(), Some(Some(ada.id)));
    let (one, two) =
        tokio::join!(directory.take_sign_in_link([1; 32], 50), directory.take_sign_in_link([1; 32], 50));
    let taken = [one.unwrap(), two.unwrap()];
    assert_eq!(taken.iter().filter(|taken| taken.is_some()).count(), 1);
    assert_eq!(directory.sign_in_link([1; 32], 50).await.unwrap(), None);
    assert_eq!(directory.take_sign_in_link([2; 32], 50).await.unwrap(), Some(None));
}

#[tokio::test]
async fn an_expired_sign_in_link_is_unknown() {
    let (directory, ada) = with_ada().await;
    directory.add_sign_in_link([1; 32], Some(ada.id), 100).await.unwrap();
    assert_eq!(directory.sign_in_link([1; 32], 100).await.unwrap(), None);
    assert_eq!(directory.take_sign_in_link([1; 32], 100).await.unwrap(), None);
}

#[tokio::test]
async fn links_of_the_first_admin_are_removed_and_others_stay() {
    let (directory, ada) = with_ada().await;
    directory.add_sign_in_link([1; 32], Some(ada.id), 100).await.unwrap();
    directory.add_sign_in_link([2; 32], None, 100).await.unwrap();
    directory.remove_first_admin_links().await.unwrap();
    assert_eq!(directory.sign_in_link([2; 32], 1).await.unwrap(), None);
    assert!(directory.sign_in_link([1; 32], 1).await.unwrap().is_some());
}

#[tokio::test]
async fn a_web_session_ends_when_it_expires_or_is_removed() {
    let (directory, ada) = with_ada().await;
    directory.add_web_session([1; 32], ada.id, 100).await.unwrap();
    assert_eq!(directory.web_session([1; 32], 99).await.unwrap(), Some(ada));
    assert_eq!(directory.web_session([1; 32], 100).await.unwrap(), None);
    directory.remove_web_session([1; 32]).await.unwrap();
    assert_eq!(directory.web_session([1; 32], 50).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_acts_as_its_person_until_it_is_removed() {
    let (directory, ada) = with_ada().await;
    let token = TokenRow {
        id: TokenId::from_parts(1, 1),
        person: ada.id,
        name: "laptop".into(),
        digest: [7; 32],
        created_at_ms: 3,
        expires_at_ms: None,
    };
    directory.add_token(token.clone()).await.unwrap();
    assert_eq!(directory.token([7; 32], i64::MAX).await.unwrap(), Some(ada.clone()));
    assert_eq!(directory.token([8; 32], 4).await.unwrap(), None);
    let id = TokenId::from_parts(1, 2);
    let ends = TokenRow { id, digest: [9; 32], expires_at_ms: Some(100), ..token.clone() };
    directory.add_token(ends.clone()).await.unwrap();
    assert_eq!(directory.token([9; 32], 99).await.unwrap(), Some(ada.clone()));
    assert_eq!(directory.token([9; 32], 100).await.unwrap(), None);
    assert_eq!(directory.tokens(ada.id).await.unwrap(), vec![token.clone(), ends]);
    directory.remove_token(token.id).await.unwrap();
    assert_eq!(directory.token([7; 32], 4).await.unwrap(), None);
}

#[tokio::test]
async fn a_repository_is_found_by_id_and_by_name_and_its_name_is_unique() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    directory.add_repository(sample.clone()).await.unwrap();
    assert_eq!(directory.repository(sample.id).await.unwrap(), Some(sample.clone()));
    assert_eq!(directory.repository_by_name(sample.name.clone()).await.unwrap(), Some(sample.clone()));
    assert_eq!(directory.repositories().await.unwrap(), vec![sample]);
    assert_eq!(directory.add_repository(repository(2, "sample")).await.unwrap_err(), Error::NameTaken);
}

#[tokio::test]
async fn a_removed_repository_takes_its_images_along_and_frees_its_name() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    directory.add_repository(sample.clone()).await.unwrap();
    let built = image(1, &sample, ImageState::Ready);
    directory.put_image(built.clone()).await.unwrap();
    directory.remove_repository(sample.id).await.unwrap();
    assert_eq!(directory.image(built.id).await.unwrap(), None);
    directory.add_repository(repository(2, "sample")).await.unwrap();
}

#[tokio::test]
async fn while_there_are_models_exactly_one_is_the_default() {
    let directory = fresh().await;
    assert_eq!(default_model(&directory).await, None);
    for (put, default) in [
        (model("a", false), "a"),
        (model("b", false), "a"),
        (model("c", true), "c"),
        (model("c", false), "c"),
        (model("b", true), "b"),
    ] {
        directory.put_model(put).await.unwrap();
        assert_eq!(default_model(&directory).await.as_deref(), Some(default));
        let models = directory.models().await.unwrap();
        assert_eq!(models.iter().filter(|row| row.is_default).count(), 1);
    }
    assert!(directory.remove_model("b".into()).await.unwrap());
    assert_eq!(default_model(&directory).await.as_deref(), Some("a"));
    assert!(!directory.remove_model("b".into()).await.unwrap());
}

#[tokio::test]
async fn a_model_put_again_is_replaced() {
    let directory = fresh().await;
    directory.put_model(model("a", true)).await.unwrap();
    let changed = ModelRow { config: json!({"model": "z"}), has_key: false, ..model("a", true) };
    directory.put_model(changed.clone()).await.unwrap();
    assert_eq!(directory.model(Some("a".into())).await.unwrap(), Some(changed));
    assert_eq!(directory.models().await.unwrap().len(), 1);
    assert_eq!(directory.model(Some("b".into())).await.unwrap(), None);
}

#[tokio::test]
async fn a_failed_build_never_replaces_a_good_image() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    directory.add_repository(sample.clone()).await.unwrap();
    let good = image(1, &sample, ImageState::Ready);
    let failed = ImageRow {
        problem: Some(Problem::new(ErrorCode::StepFailed, "The step failed.")),
        finished_at_ms: Some(9),
        ..image(2, &sample, ImageState::Failed)
    };
    directory.put_image(good.clone()).await.unwrap();
    directory.put_image(image(2, &sample, ImageState::Building)).await.unwrap();
    directory.put_image(failed.clone()).await.unwrap();
    assert_eq!(directory.newest_ready_image(sample.id).await.unwrap(), Some(good.clone()));
    assert_eq!(directory.images(sample.id, 10).await.unwrap(), vec![failed.clone(), good]);
    assert_eq!(directory.images(sample.id, 1).await.unwrap(), vec![failed]);
}

#[tokio::test]
async fn builds_that_a_crash_cut_off_are_failed_with_the_reason() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    directory.add_repository(sample.clone()).await.unwrap();
    let cut_off = image(1, &sample, ImageState::Building);
    let good = image(2, &sample, ImageState::Ready);
    directory.put_image(cut_off.clone()).await.unwrap();
    directory.put_image(good.clone()).await.unwrap();
    let problem = Problem::new(ErrorCode::Interrupted, "The server stopped.").hint("Build it again.");
    assert_eq!(directory.fail_unfinished_images(problem.clone(), 77).await.unwrap(), 1);
    let failed = directory.image(cut_off.id).await.unwrap().unwrap();
    assert_eq!(
        (failed.state, failed.problem, failed.finished_at_ms),
        (ImageState::Failed, Some(problem), Some(77))
    );
    assert_eq!(directory.image(good.id).await.unwrap(), Some(good));
}

#[tokio::test]
async fn a_sessions_newer_summary_replaces_an_older_and_never_the_other_way() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let newer = session(1, &sample);
    let older = SessionRow { head_seq: 9, title: "Old".into(), ..newer.clone() };
    put(&directory, older.clone()).await;
    put(&directory, newer.clone()).await;
    put(&directory, older).await;
    assert_eq!(directory.session(newer.id).await.unwrap(), Some(newer.clone()));
    let again = SessionRow { title: "Said again".into(), change: None, ..newer };
    put(&directory, again.clone()).await;
    assert_eq!(directory.session(again.id).await.unwrap(), Some(again));
}

#[tokio::test]
async fn sessions_are_listed_newest_first_for_one_repository_or_all() {
    let directory = fresh().await;
    let (sample, other) = (repository(1, "sample"), repository(2, "other"));
    for (n, of) in [(1, &sample), (2, &other), (3, &sample)] {
        put(&directory, session(n, of)).await;
    }
    let ids = |rows: Vec<SessionRow>| rows.iter().map(|row| row.created_at_ms).collect::<Vec<_>>();
    assert_eq!(ids(directory.sessions(Onlooker::All, None, Archived::Hidden, 10).await.unwrap()), [3, 2, 1]);
    assert_eq!(ids(directory.sessions(Onlooker::All, None, Archived::Hidden, 2).await.unwrap()), [3, 2]);
    assert_eq!(
        ids(directory.sessions(Onlooker::All, Some(sample.id), Archived::Hidden, 10).await.unwrap()),
        [3, 1]
    );
    assert_eq!(directory.sessions_of_repository_count(sample.id).await.unwrap(), 2);
}

#[tokio::test]
async fn a_private_session_is_listed_for_its_participants_and_who_sees_all() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let (ada, ben) = (PersonId::from_parts(1, 1), PersonId::from_parts(1, 2));
    let open = SessionRow { participants: vec![], ..session(1, &sample) };
    let private = SessionRow {
        team_access: TeamAccess::None,
        participants: vec![(ada, SessionRole::Viewer)],
        ..session(2, &sample)
    };
    for row in [open, private.clone()] {
        put(&directory, row).await;
    }
    let seen = async |onlooker, repository| {
        let rows = directory.sessions(onlooker, repository, Archived::Hidden, 10).await.unwrap();
        rows.iter().map(|row| row.created_at_ms).collect::<Vec<_>>()
    };
    assert_eq!(seen(Onlooker::All, None).await, [2, 1]);
    assert_eq!(seen(Onlooker::Person(ada), Some(sample.id)).await, [2, 1]);
    assert_eq!(seen(Onlooker::Person(ben), None).await, [1]);
    put(&directory, SessionRow { participants: vec![], ..private }).await;
    assert_eq!(seen(Onlooker::Person(ada), None).await, [1], "not a participant any more");
}

#[tokio::test]
async fn share_links_are_found_by_digest_bounded_and_gone_with_their_session() {
    let directory = fresh().await;
    let maker = person(1, "ada");
    directory.add_person(maker.clone(), 1).await.unwrap();
    let session = SessionId::from_parts(1, 1);
    let link = |n: u128, made_at_ms: i64, expires_at_ms: i64| ShareLinkRow {
        id: ShareLinkId::from_parts(1, n),
        session,
        kind: ShareKind::TakePart,
        made_by: maker.id,
        made_by_name: maker.name.clone(),
        made_at_ms,
        expires_at_ms,
        revoked_at_ms: None,
    };
    let digest = |n: u8| [n; 32];
    assert!(directory.add_share_link(digest(1), link(1, 10, 20), 2).await.unwrap());
    assert!(directory.add_share_link(digest(2), link(2, 11, 99), 2).await.unwrap());
    assert!(!directory.add_share_link(digest(3), link(3, 12, 99), 2).await.unwrap(), "two live");
    assert!(directory.add_share_link(digest(3), link(3, 20, 99), 2).await.unwrap(), "one has expired");
    assert_eq!(directory.share_link_by_digest(digest(2)).await.unwrap(), Some(link(2, 11, 99)));
    assert_eq!(directory.share_link_by_digest(digest(9)).await.unwrap(), None);
    directory.revoke_share_link(link(2, 0, 0).id, 30).await.unwrap();
    directory.revoke_share_link(link(2, 0, 0).id, 40).await.unwrap();
    let revoked = directory.share_link_by_digest(digest(2)).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at_ms, Some(30), "the first time counts");
    for n in 4..100u8 {
        assert!(directory.add_share_link(digest(n), link(n.into(), 100 * i64::from(n), 0), 9).await.unwrap());
    }
    let kept = directory.share_links(session).await.unwrap();
    assert!(kept.len() <= LINK_ROWS as usize + 1, "{}", kept.len());
    assert_eq!(kept[0].id, link(99, 0, 0).id, "newest first");
    directory.remove_session(session, 1).await.unwrap();
    assert_eq!(directory.share_links(session).await.unwrap(), []);
}

#[tokio::test]
async fn running_sessions_are_found_after_a_restart_and_removed_ones_are_not() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let idle = SessionRow { status: SessionStatus::Idle, queued_prompts: 0, ..session(2, &sample) };
    for row in [session(1, &sample), idle, session(3, &sample)] {
        put(&directory, row).await;
    }
    directory.remove_session(SessionId::from_parts(1, 3), 1).await.unwrap();
    let again = Directory::open(&directory.folder.path().join("greenroom.db")).await.unwrap();
    assert_eq!(again.running_sessions().await.unwrap(), vec![SessionId::from_parts(1, 1)]);
}

#[tokio::test]
async fn the_keys_of_one_scope_are_bounded_and_push_out_no_others() {
    let directory = fresh().await;
    let remember = async |scope: &str, key: String| {
        directory.remember(scope.into(), key, [1; 32], "made".into(), 1).await.unwrap()
    };
    remember("bob", "first".into()).await;
    for n in 0..=greenroom_directory::SCOPE_LIMIT {
        remember("ada", format!("key {n}")).await;
    }
    let knows =
        async |scope: &str, key: &str| directory.is_remembered(scope.into(), key.into()).await.unwrap();
    assert!(!knows("ada", "key 0").await && knows("ada", "key 1").await);
    assert!(knows("bob", "first").await);
}

#[tokio::test]
async fn a_key_leads_to_its_first_result_and_is_refused_with_another_body() {
    let directory = fresh().await;
    let remember = |scope: &str, digest: u8, result: &str| {
        directory.remember(scope.into(), "key".into(), [digest; 32], result.into(), 1)
    };
    assert_eq!(remember("ada", 1, "first").await.unwrap(), Remembered::New);
    assert_eq!(remember("ada", 1, "second").await.unwrap(), Remembered::Same("first".into()));
    assert_eq!(remember("ada", 2, "third").await.unwrap(), Remembered::Different);
    assert_eq!(remember("bob", 2, "fourth").await.unwrap(), Remembered::New);
}

#[tokio::test]
async fn many_writers_and_readers_at_once_are_all_answered() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let work = (1..=400).map(|n| {
        let (directory, row) = (directory.clone(), session(n, &sample));
        tokio::spawn(async move {
            put(&directory, row.clone()).await;
            directory.session(row.id).await
        })
    });
    for answer in work.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().unwrap().is_some(), "a write is visible to the reads after it");
    }
}

#[tokio::test]
async fn archived_sessions_are_in_a_list_of_their_own() {
    let directory = fresh().await;
    let sample = repository(1, "sample");
    let hidden = SessionRow { is_archived: true, ..session(1, &sample) };
    put(&directory, hidden.clone()).await;
    put(&directory, session(2, &sample)).await;
    let ids = async |archived| {
        let rows = directory.sessions(Onlooker::All, None, archived, 10).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Archived::Only).await, [hidden.id]);
    assert_eq!(ids(Archived::Hidden).await, [SessionId::from_parts(1, 2)]);
    assert_eq!(ids(Archived::Shown).await.len(), 2);
    let open = directory.open_sessions_of(hidden.created_by).await.unwrap();
    assert_eq!(open, [SessionId::from_parts(1, 2)], "one that is archived takes no place of its maker's");
}
