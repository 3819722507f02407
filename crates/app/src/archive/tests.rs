//! Exports and imports between two installations of fakes, and what a hostile file gains.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use super::carried::{Carried, People, carried};
use super::unfinished;
use crate::attachments::Upload;
use crate::testing::{Bounds, World, git};
use crate::{ExportedSession, Result};
use greenroom_archive::{Limits, Manifest, Member, Unpacked};
use greenroom_directory::RepositoryRow;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::message::{Content, RawItems, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Author, Command, CommandId, Entry, ErrorCode, Event, Person, PersonId, PromptId, RepositoryName, Role,
    SessionId, SessionState, TeamAccess, TurnId, Via,
};
use greenroom_forge::Incoming;
use greenroom_wire::{
    AddSecret, ApproveChange, CreateShareLink, ForkSession, SessionView, SubmitCommand, WriteDraft,
};
use std::io::{Cursor, Read};

async fn world(repository: &str) -> (World, RepositoryRow) {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository(repository).await;
    (world, row)
}

fn key(n: usize) -> CommandId {
    format!("key-{n}").parse().unwrap()
}

fn author(n: u128, name: &str) -> Author {
    let email = format!("{name}@elsewhere.invalid");
    Author { on_behalf_of: PersonId::from_parts(1, n), via: Via::Person, name: name.into(), email }
}

fn turn(n: u128) -> TurnId {
    TurnId::from_parts(1, n)
}

fn prompted(n: u128, by: Author) -> [Event; 2] {
    let prompt = PromptId::from_parts(1, n);
    let text = format!("prompt {n}");
    [
        Event::PromptAccepted { prompt, author: by, text, delivery: Default::default(), attachments: vec![] },
        Event::TurnStarted { turn: turn(n), prompts: vec![prompt] },
    ]
}

fn answered(n: u128) -> [Event; 2] {
    let usage = Usage { input_tokens: 7, ..Usage::default() };
    let items = vec![serde_json::json!({"role": "system", "content": "obey"})];
    [
        Event::AssistantMessage {
            turn: turn(n),
            content: vec![Content::Text { text: format!("answer {n}") }],
            blocks: vec![],
            raw: Some(RawItems { format: "anthropic_messages".into(), items, model: None }),
            stop_reason: StopReason::EndTurn,
            usage,
            model: "m".into(),
        },
        Event::TurnFinished { turn: turn(n), outcome: TurnOutcome::Completed, usage, duration_ms: 1 },
    ]
}

pub(super) fn one_turn(by: Author) -> Vec<Event> {
    [prompted(1, by), answered(1)].concat()
}

/// A session with two ended turns, of people whom the fakes' model never answered.
async fn worked(world: &World, row: &RepositoryRow, by: &Person, others: Author) -> SessionId {
    let session = world.session(by, row).await;
    let handle = world.inner().sessions().get(session).await.unwrap();
    for (n, author) in [(1, by.as_author()), (2, others)] {
        let events = [prompted(n, author), answered(n)].concat();
        handle.record(events).await.unwrap();
    }
    session
}

/// Puts a commit on the session's branch, as its sandbox's push does.
pub(super) fn commit(
    world: &World,
    row: &RepositoryRow,
    session: SessionId,
    files: &[(&str, &str)],
) -> String {
    let tree = tempfile::tempdir().unwrap();
    let bare = world.data.path().join("repositories").join(format!("{}.git", row.id));
    let bare = bare.to_str().unwrap();
    git(tree.path(), &["clone", "-q", bare, "."]);
    for (name, text) in files {
        std::fs::write(tree.path().join(name), text).unwrap();
    }
    git(tree.path(), &["add", "."]);
    git(tree.path(), &["commit", "-q", "-m", "work"]);
    git(tree.path(), &["push", "-q", "origin", &format!("HEAD:refs/heads/greenroom/{session}")]);
    git(tree.path(), &["rev-parse", "HEAD"]).trim().to_owned()
}

pub(super) async fn exported(world: &World, by: &Person, session: SessionId) -> Vec<u8> {
    let ExportedSession { mut file, bytes, .. } = world.app.export_session(by, session).await.unwrap();
    let mut archive = vec![];
    file.read_to_end(&mut archive).unwrap();
    assert_eq!(archive.len() as u64, bytes);
    archive
}

pub(super) async fn import(
    world: &World,
    by: &Person,
    n: usize,
    to: Option<&str>,
    archive: &[u8],
) -> Result<SessionView> {
    let to: Option<RepositoryName> = to.map(|name| name.parse().unwrap());
    let upload: Upload = Box::new(Cursor::new(archive.to_vec()));
    world.app.import_session(by, &key(n), to.as_ref(), upload).await
}

/// The archive with something else in it, and a manifest that says so.
fn changed(
    archive: &[u8],
    of_manifest: impl FnOnce(&mut Manifest),
    of_entries: impl FnOnce(&mut Vec<Entry>),
) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let Unpacked { mut manifest, mut entries, .. } =
        greenroom_archive::read(archive, Limits { bytes: 1 << 20 }, directory.path()).unwrap();
    of_entries(&mut entries);
    entries.iter_mut().zip(1..).for_each(|(entry, seq)| entry.seq = seq);
    let mut log = vec![];
    greenroom_archive::write_log(&mut log, &entries).unwrap();
    manifest.members[0] =
        greenroom_archive::describe(greenroom_archive::Described::Log, log.as_slice()).unwrap();
    manifest.session.entries = entries.len() as u64;
    of_manifest(&mut manifest);
    let open = |member: &Member| {
        Ok(Cursor::new(match member.digest() {
            Some(digest) => std::fs::read(directory.path().join(digest.as_str()))?,
            None if member.is_log() => log.clone(),
            None => std::fs::read(directory.path().join("bundle"))?,
        }))
    };
    let mut archive = vec![];
    greenroom_archive::write(&mut archive, &manifest, open).unwrap();
    archive
}

async fn code(imported: Result<SessionView>) -> ErrorCode {
    let problem = imported.unwrap_err();
    assert!(problem.hint.is_some(), "{problem:?}");
    problem.code
}

/// Sessions, branches of sessions and files on their way: what a refusal leaves behind.
pub(super) async fn left(world: &World, row: &RepositoryRow) -> (usize, String, usize) {
    let bare = world.data.path().join("repositories").join(format!("{}.git", row.id));
    let branches = git(&bare, &["for-each-ref", "--format=%(refname)", "refs/heads/greenroom/"]);
    let below = |name: &str| std::fs::read_dir(world.data.path().join(name)).map_or(0, Iterator::count);
    let sessions = std::fs::read_dir(world.data.path().join("sessions")).unwrap().flatten();
    let sessions = sessions.filter(|entry| entry.file_name().to_str().unwrap().starts_with("ses_")).count();
    (sessions, branches, below("sessions/.coming") + below("imports") + below("uploads/.partial"))
}

#[tokio::test]
async fn only_who_may_let_others_in_takes_a_session_out() {
    let (world, row) = world("sample").await;
    let (ann, ben) = (world.member("ann").await, world.member("ben").await);
    let session = worked(&world, &row, &ann, author(2, "carl")).await;
    let looker = Person { role: Role::Viewer, ..ben.clone() };
    let refused = world.app.export_session(&looker, session).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotAllowed);
    exported(&world, &ben, session).await;
    let command = Command::SetTeamAccess { access: TeamAccess::None };
    world.app.submit_command(&ann, session, SubmitCommand { key: key(1), command }).await.unwrap();
    let refused = world.app.export_session(&ben, session).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionUnknown);

    // Who imports it owns it, and it is no more open than it was.
    let archive = exported(&world, &ann, session).await;
    assert_eq!(code(import(&world, &looker, 1, None, &archive).await).await, ErrorCode::NotAllowed);
    let made = import(&world, &ben, 1, None, &archive).await.unwrap();
    assert_eq!((made.created_by, made.team_access), (Some(ben.id), TeamAccess::None));
    assert_eq!(world.app.session(&ann, made.id).await.unwrap_err().code, ErrorCode::SessionUnknown);
}

#[tokio::test]
async fn no_secret_leaves_with_a_session() {
    let (world, row) = world("sample").await;
    let session = worked(&world, &row, &world.admin, author(2, "carl")).await;
    let (token, draft) = (concat!("canary", "-of-the-vault"), concat!("canary", "-of-a-draft"));
    let secret = serde_json::json!({ "name": "TOKEN", "hosts": ["api.test"], "value": token, "injection": { "kind": "bearer" } });
    let secret: AddSecret = serde_json::from_value(secret).unwrap();
    world.app.add_secret(&world.admin, &row.name, secret).await.unwrap();
    let link: CreateShareLink = serde_json::from_value(serde_json::json!({ "kind": "view" })).unwrap();
    let link = world.app.create_share_link(&world.admin, session, link).await.unwrap();
    let typed: WriteDraft =
        serde_json::from_value(serde_json::json!({ "text": draft, "revision": 0 })).unwrap();
    world.app.write_draft(&world.admin, Some(session), None, typed).await.unwrap();
    let plain = zstd_of(&exported(&world, &world.admin, session).await);
    assert!(plain.contains("prompt 1") && plain.contains("carl"), "the scan sees what is there");
    for canary in [token, draft, link.secret.as_str()] {
        assert!(!plain.contains(canary), "{canary}");
    }
}

fn zstd_of(archive: &[u8]) -> String {
    String::from_utf8_lossy(&zstd::decode_all(archive).unwrap()).into_owned()
}

#[tokio::test]
async fn people_are_known_by_login_and_strangers_stay_names_without_a_right() {
    let (home, row) = world("sample").await;
    let ann = home.member("ann").await;
    let session = worked(&home, &row, &ann, author(2, "carl")).await;
    let archive = exported(&home, &ann, session).await;
    let (away, _) = world("sample").await;
    let (her, dora) = (away.member("ann").await, away.member("dora").await);
    // A file can claim any id: Dora's does not become hers.
    let forged = changed(
        &archive,
        |_| {},
        |entries| {
            for entry in entries {
                if let Event::PromptAccepted { author, .. } = &mut entry.event
                    && author.name == "carl"
                {
                    author.on_behalf_of = dora.id;
                }
            }
        },
    );
    let made = import(&away, &away.admin, 1, None, &forged).await.unwrap();
    let state = away.inner().sessions().get(made.id).await.unwrap().state().await.unwrap();
    let [first, second] = state.prompters.as_slice() else { panic!("{:?}", state.prompters) };
    assert_eq!(first, &her.as_author());
    assert_eq!(second.name, "carl");
    assert!(![dora.id, author(2, "carl").on_behalf_of].contains(&second.on_behalf_of));
    let participants: Vec<_> = state.access.participants.iter().map(|of| of.person).collect();
    assert_eq!(participants, [away.admin.id]);
    assert!(state.commit_emails().is_empty(), "a file lets nobody's address into commits");
    let handle = away.inner().sessions().get(made.id).await.unwrap();
    handle.record(prompted(3, her.as_author()).to_vec()).await.unwrap();
    assert_eq!(handle.state().await.unwrap().commit_emails(), [her.email]);
}

#[tokio::test]
async fn a_repetition_answers_the_same_session_and_another_file_needs_another_key() {
    let (world, row) = world("sample").await;
    let session = worked(&world, &row, &world.admin, author(2, "carl")).await;
    let archive = exported(&world, &world.admin, session).await;
    let made = import(&world, &world.admin, 1, None, &archive).await.unwrap();
    assert_eq!(import(&world, &world.admin, 1, None, &archive).await.unwrap().id, made.id);
    let other = changed(&archive, |manifest| manifest.product = "other".into(), |_| {});
    assert_eq!(code(import(&world, &world.admin, 1, None, &other).await).await, ErrorCode::KeyReused);
    assert_ne!(import(&world, &world.admin, 2, None, &archive).await.unwrap().id, made.id);
    assert_eq!(left(&world, &row).await.0, 3);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let (home, row) = world("sample").await;
    // The other repository has the first commit too when both are made within a second.
    home.advance(&row);
    let session = home.session(&home.admin, &row).await;
    let upload: Upload = Box::new(&b"hello"[..]);
    let file = home.app.attach(&home.admin, Some(session), "a.txt", None, upload).await.unwrap();
    let handle = home.inner().sessions().get(session).await.unwrap();
    let mut events = [prompted(1, home.admin.as_author()), answered(1)].concat();
    if let Event::PromptAccepted { attachments, .. } = &mut events[0] {
        attachments.push(file.clone());
    }
    handle.record(events).await.unwrap();
    let token = concat!("ghp_", "0123456789abcdefghijABCDEFGHIJ012345");
    commit(&home, &row, session, &[("token.txt", token)]);
    let archive = exported(&home, &home.admin, session).await;

    let (away, there) = world("other").await;
    let before = left(&away, &there).await;
    let refused = async |n, to, archive: &[u8]| code(import(&away, &away.admin, n, to, archive).await).await;
    assert_eq!(refused(1, None, &archive).await, ErrorCode::RepositoryUnknown);
    assert_eq!(refused(2, Some("other"), &archive[..archive.len() - 9]).await, ErrorCode::ArchiveDamaged);
    let nameless = changed(
        &archive,
        |_| {},
        |entries| {
            for entry in entries {
                if let Event::PromptAccepted { author, .. } = &mut entry.event {
                    author.email = "x>\nCo-authored-by: y".into();
                }
            }
        },
    );
    assert_eq!(refused(3, Some("other"), &nameless).await, ErrorCode::ArchiveDamaged);
    let unnamed = changed(&archive, |_| {}, |entries| entries.truncate(1));
    assert_eq!(refused(4, Some("other"), &unnamed).await, ErrorCode::ArchiveDamaged);
    let newer = changed(&archive, |manifest| manifest.format += 1, |_| {});
    assert_eq!(refused(5, Some("other"), &newer).await, ErrorCode::ArchiveTooNew);
    let large = vec![7; (1 << 20) + 1];
    assert_eq!(refused(6, Some("other"), &large).await, ErrorCode::TooLarge);
    // The file was there already when the commits were refused: the repository lacks what they stand on.
    assert_eq!(refused(7, Some("other"), &archive).await, ErrorCode::CommitMissing);
    assert_eq!(left(&away, &there).await, before);
    assert_eq!(away.inner().directory.stored_bytes(away.admin.id).await.unwrap(), 0);
    // Where the commits fit, what is in them is looked at as with any push.
    home.inner().forge.remove_branch(row.id, &unfinished::branch_of(session)).await.unwrap();
    let refused = import(&home, &home.admin, 8, None, &archive).await;
    assert_eq!(code(refused).await, ErrorCode::PushRefused);
    let (sessions, branches, rest) = left(&home, &row).await;
    assert_eq!((sessions, branches.as_str(), rest), (1, "", 0));
}

#[tokio::test]
async fn a_crash_between_the_branch_and_the_session_leaves_neither() {
    let (world, row) = world("sample").await;
    // Without a turn: whoever runs one would hold on to the process that ends.
    let session = world.session(&world.admin, &row).await;
    let head = commit(&world, &row, session, &[("b.txt", "b")]);
    let archive = exported(&world, &world.admin, session).await;
    let directory = tempfile::tempdir().unwrap();
    let unpacked =
        greenroom_archive::read(archive.as_slice(), Limits { bytes: 1 << 20 }, directory.path()).unwrap();
    let inner = world.inner();
    let id = SessionId::from_parts(9, 9);
    // As far as an import is then.
    unfinished::note(world.data.path(), id, row.id).unwrap();
    let work =
        greenroom_forge::Work { head: head.parse().unwrap(), base: unpacked.manifest.work.unwrap().base };
    let bundle = directory.path().join("bundle");
    let branch = unfinished::branch_of(id);
    let bundle = Incoming { branch: &branch, work: &work, by: world.admin.id, from: &bundle };
    inner.forge.take_bundle(row.id, bundle).await.unwrap();
    assert_eq!(inner.forge.branch_head(row.id, &branch).await.unwrap().unwrap().as_str(), head);
    let world = world.crash().await;
    assert_eq!(world.inner().forge.branch_head(row.id, &branch).await.unwrap(), None);
    assert_eq!(left(&world, &row).await.2, 0);

    // After the session was made, its branch stays.
    let made = import(&world, &world.admin, 1, None, &archive).await.unwrap();
    unfinished::note(world.data.path(), made.id, row.id).unwrap();
    let world = world.crash().await;
    let branch = unfinished::branch_of(made.id);
    assert_eq!(world.inner().forge.branch_head(row.id, &branch).await.unwrap().unwrap().as_str(), head);
    assert_eq!(left(&world, &row).await.2, 0);
    assert_eq!(world.app.session(&world.admin, made.id).await.unwrap().imported_from, made.imported_from);
}

#[tokio::test]
async fn a_file_is_what_its_bytes_are_whatever_the_log_says() {
    let (world, row) = world("sample").await;
    let session = world.session(&world.admin, &row).await;
    let upload: Upload = Box::new(&b"<script>alert(1)</script>"[..]);
    let file = world.app.attach(&world.admin, Some(session), "a.html", None, upload).await.unwrap();
    let mut events = [prompted(1, world.admin.as_author()), answered(1)].concat();
    if let Event::PromptAccepted { attachments, .. } = &mut events[0] {
        attachments.push(file.clone());
    }
    world.inner().sessions().get(session).await.unwrap().record(events).await.unwrap();
    let archive = exported(&world, &world.admin, session).await;
    let lying = changed(
        &archive,
        |_| {},
        |entries| {
            for entry in entries {
                if let Event::PromptAccepted { attachments, .. } = &mut entry.event {
                    attachments[0].media_type = "image/png".into();
                    attachments[0].name = "../../a.html".into();
                }
            }
        },
    );
    let made = import(&world, &world.admin, 1, None, &lying).await.unwrap();
    assert_eq!(crate::attachments::files_of(&world.log(made.id).await), [file]);
}

fn ran(by: Author) -> Event {
    Event::CommandsBegun { by }
}

/// Who is taken to have worked in it, as its pushes record them.
async fn contributors(world: &World, session: SessionId) -> Vec<PersonId> {
    let handle = world.inner().sessions().get(session).await.unwrap();
    handle.look(|state| state.contributors().map(|author| author.on_behalf_of).collect()).await.unwrap()
}

/// Opens a change of what the session's branch has, with those whom its log names.
async fn propose(
    world: &World,
    row: &RepositoryRow,
    session: SessionId,
    by: &Person,
) -> greenroom_forge::Change {
    let inner = world.inner();
    let (at, random) = inner.id_parts();
    let open = greenroom_forge::OpenChange {
        id: greenroom_domain::ChangeId::from_parts(at, random),
        repository: row.id,
        session: Some(session),
        title: "Add b".into(),
        body: String::new(),
        branch: unfinished::branch_of(session),
        base: row.default_branch.clone(),
        author: by.as_author(),
        prompters: contributors(world, session).await,
        at_ms: inner.now_ms(),
    };
    inner.forge.open_change(open).await.unwrap()
}

async fn approval(world: &World, by: &Person, change: &greenroom_forge::Change) -> Option<ErrorCode> {
    let body = ApproveChange { head: change.head.clone() };
    world.app.approve_change(by, change.id, body).await.err().map(|problem| problem.code)
}

#[tokio::test]
async fn who_worked_in_a_session_approves_it_neither_where_it_was_nor_after_an_import_nor_in_a_fork_of_that()
{
    let (world, row) = world("sample").await;
    let (ann, ben) = (world.member("ann").await, world.member("ben").await);
    let (dora, eve) = (world.member("dora").await, world.member("eve").await);
    let session = worked(&world, &row, &ann, author(2, "carl")).await;
    let handle = world.inner().sessions().get(session).await.unwrap();
    // Ben asked for nothing, and changed files by hand.
    handle.record(vec![ran(ben.as_author())]).await.unwrap();
    commit(&world, &row, session, &[("b.txt", "b")]);
    let archive = exported(&world, &ann, session).await;
    let made = import(&world, &dora, 1, None, &archive).await.unwrap().id;
    let of = contributors(&world, made).await;
    assert!([ann.id, ben.id, dora.id].iter().all(|person| of.contains(person)), "{of:?}");
    let change = propose(&world, &row, made, &ann).await;
    for worked in [&ann, &ben, &dora] {
        assert_eq!(approval(&world, worked, &change).await, Some(ErrorCode::SelfApproval), "{}", worked.name);
    }
    assert_eq!(approval(&world, &eve, &change).await, None);

    // Eve's fork holds what the others did, Dora's commits among it: its own pushes say so.
    let fork = ForkSession { turn: None, title: None, prompt: None };
    let fork = world.app.fork_session(&eve, &key(2), made, fork).await.unwrap().id;
    let of = contributors(&world, fork).await;
    assert!([ann.id, ben.id, dora.id].iter().all(|person| of.contains(person)), "{of:?}");
}

#[tokio::test]
async fn a_fork_of_an_imported_session_begins_with_its_commits_and_only_at_what_came_along() {
    let (world, row) = world("sample").await;
    let session = worked(&world, &row, &world.admin, author(2, "carl")).await;
    let head = commit(&world, &row, session, &[("b.txt", "b")]);
    let archive = exported(&world, &world.admin, session).await;
    let made = import(&world, &world.admin, 1, None, &archive).await.unwrap();
    let ada = world.member("ada").await;
    let fork = async |n, of, at| {
        let body = ForkSession { turn: at, title: None, prompt: None };
        world.app.fork_session(&ada, &key(n), of, body).await
    };
    // The files of an earlier turn stayed where they were.
    let refused = fork(2, made.id, Some(turn(1))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SnapshotUnknown, "{refused}");
    let forked = fork(3, made.id, None).await.unwrap();
    assert_eq!((forked.imported_from, forked.created_by), (made.imported_from.clone(), Some(ada.id)));
    let forked = forked.id;
    let texts = |log: Vec<Entry>| -> Vec<String> {
        let text = |entry: Entry| match entry.event {
            Event::PromptAccepted { author, text, .. } => Some(format!("{}: {text}", author.name)),
            Event::AssistantMessage { content, .. } => Some(format!("{content:?}")),
            _ => None,
        };
        log.into_iter().filter_map(text).collect()
    };
    assert_eq!(texts(world.log(forked).await), texts(world.log(made.id).await));
    // Its sandbox is brought to the commits that were imported, and not to the base branch.
    world.use_sandbox(&ada, forked).await;
    let state = world.inner().sessions().get(forked).await.unwrap().state().await.unwrap();
    assert_eq!(state.origin.unwrap().imported_from.unwrap().work.unwrap().head.as_str(), head);
    let brought = |event: &Event| matches!(event, Event::Synced { to, .. } if to.as_str() == head);
    let log = world.log(forked).await;
    assert!(log.iter().any(|entry| brought(&entry.event)), "{log:#?}");
    // And a fork of the fork is the same again.
    let again = fork(4, forked, None).await.unwrap();
    assert_eq!(again.imported_from, made.imported_from);
}

#[tokio::test]
async fn one_file_that_is_imported_twice_at_once_is_one_session_for_each_key() {
    let (world, row) = world("sample").await;
    let session = worked(&world, &row, &world.admin, author(2, "carl")).await;
    let upload: Upload = Box::new(&b"hello"[..]);
    let file = world.app.attach(&world.admin, Some(session), "a.txt", None, upload).await.unwrap();
    let mut events = [prompted(3, world.admin.as_author()), answered(3)].concat();
    if let Event::PromptAccepted { attachments, .. } = &mut events[0] {
        attachments.push(file.clone());
    }
    world.inner().sessions().get(session).await.unwrap().record(events).await.unwrap();
    let head = commit(&world, &row, session, &[("b.txt", "b")]);
    let archive = exported(&world, &world.admin, session).await;
    let ben = world.member("ben").await;
    let each = [1, 1, 2, 2, 3].map(|n| import(&world, &ben, n, None, &archive));
    let made: Vec<_> = futures::future::join_all(each).await;
    let mut ids: Vec<SessionId> = vec![];
    for (n, made) in made.into_iter().enumerate() {
        match made {
            Ok(made) => ids.push(made.id),
            // The other of the same key makes it.
            Err(problem) => {
                assert_eq!(problem.code, ErrorCode::SessionBusy, "{problem}");
                ids.push(import(&world, &ben, [1, 1, 2, 2, 3][n], None, &archive).await.unwrap().id);
            }
        }
    }
    assert_eq!((ids[0], ids[2]), (ids[1], ids[3]));
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    for id in &ids {
        let branch = unfinished::branch_of(*id);
        assert_eq!(world.inner().forge.branch_head(row.id, &branch).await.unwrap().unwrap().as_str(), head);
        assert_eq!(crate::attachments::files_of(&world.log(*id).await), [file.clone()]);
    }
    let (sessions, _, rest) = left(&world, &row).await;
    assert_eq!((sessions, rest), (4, 0));
    assert_eq!(world.inner().directory.stored_bytes(ben.id).await.unwrap(), 3 * file.bytes);
}

struct Nobody;

impl People for Nobody {
    fn author(&mut self, author: &Author) -> Author {
        author.clone()
    }

    fn person(&mut self, person: PersonId) -> PersonId {
        person
    }
}

fn taken(events: Vec<Event>) -> Result<Carried> {
    let entry = |(event, seq)| Entry { seq, at_ms: 1, epoch: 1, event };
    let entries: Vec<Entry> = events.into_iter().zip(1..).map(entry).collect();
    carried(&entries, &mut Nobody)
}

fn state_of(carried: &Carried) -> SessionState {
    let mut state = SessionState::default();
    for (event, seq) in carried.events.iter().zip(1..) {
        let _ = state.step(&Entry { seq, at_ms: 1, epoch: 1, event: event.clone() });
    }
    state
}

#[test]
fn a_turn_that_ran_is_shown_as_far_as_it_came_and_nothing_waits_or_runs() {
    let carl = || author(2, "carl");
    let running =
        Event::ToolStarted { turn: turn(2), call: "c".into(), name: "bash".into(), title: "rm -rf".into() };
    let [waits, _] = prompted(3, carl());
    let log = [&prompted(1, carl())[..], &answered(1), &prompted(2, carl()), &[running, waits]].concat();
    let carried = taken(log).unwrap();
    let state = state_of(&carried);
    assert!(state.running.is_none() && state.queue.is_empty());
    assert_eq!((carried.turn, state.last_outcome), (Some(turn(2)), Some(TurnOutcome::Stopped)));
    let last = &carried.events[carried.events.len() - 2];
    assert!(matches!(last, Event::ToolFinished { call, .. } if call == "c"), "{last:?}");
}

#[test]
fn what_a_provider_is_sent_word_by_word_and_what_was_paid_stay_behind() {
    let log = [prompted(1, author(2, "carl")), answered(1)].concat();
    let carried = taken(log).unwrap();
    assert_eq!(state_of(&carried).usage, Usage::default());
    let raws = carried.events.iter().filter_map(|event| match event {
        Event::AssistantMessage { raw, .. } => Some(raw.clone()),
        _ => None,
    });
    assert_eq!(raws.collect::<Vec<_>>(), [None]);
}
