//! Through the whole app, on a clock that stands still: what goes and when, what stays, and what a crash leaves.

use super::Retired;
use crate::App;
use crate::testing::{Bounds, World, until};
use greenroom_directory::{DraftPlace, Expiring, ImageRow, ImageState, ReadRow, RepositoryRow, ShareLinkRow};
use greenroom_domain::{
    ChangeId, Command, CommandId, ErrorCode, Event, ImageId, KeptBy, RetentionSettings, SessionId, ShareKind,
    ShareLinkId,
};
use greenroom_wire::{ClientKind, RetentionReport, RowKind, SubmitCommand};
use std::collections::BTreeMap;
use std::path::Path;

const DAY_MS: i64 = 86_400_000;
const T0: i64 = 1_800_000_000_000;
const SETTINGS: RetentionSettings = RetentionSettings {
    archive_idle_days: 7,
    delete_archived_days: 30,
    statistics_days: 100,
    share_links_days: 10,
};

async fn world(retention: RetentionSettings) -> World {
    World::start(Bounds { retention, began_ms: Some(T0), ..Bounds::without_pool() }).await
}

async fn pass(world: &World) -> RetentionReport {
    told(world).await;
    world.app.run_retention(&world.admin).await.unwrap()
}

/// The index knows everything.
async fn told(world: &World) {
    until("the index is told", async || world.inner().outbox.waiting_count() == 0).await;
}

async fn command(world: &World, session: SessionId, command: Command) {
    let key: CommandId = format!("key-{:032x}", world.inner().id_parts().1).parse().unwrap();
    let receipt =
        world.app.submit_command(&world.admin, session, SubmitCommand { key, command }).await.unwrap();
    assert_eq!(receipt.problem, None);
}

async fn record(world: &World, session: SessionId, event: Event) {
    world.inner().session_handle(session).await.unwrap().record(vec![event]).await.unwrap();
}

async fn is_archived(world: &World, session: SessionId) -> bool {
    world.app.session(&world.admin, session).await.unwrap().is_archived
}

fn is_on_disk(world: &World, session: SessionId) -> bool {
    world.data.path().join("sessions").join(session.to_string()).exists()
}

fn kept(report: &RetentionReport) -> Vec<(KeptBy, u64)> {
    report.kept.iter().map(|kept| (kept.by, kept.sessions)).collect()
}

fn rows(report: &RetentionReport, kind: RowKind) -> u64 {
    report.rows.iter().filter(|rows| rows.kind == kind).map(|rows| rows.rows).sum()
}

#[tokio::test]
async fn a_session_is_archived_and_deleted_when_it_rested_for_so_long_and_not_a_millisecond_before() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.clock.set(T0 + 7 * DAY_MS - 1);
    assert_eq!(pass(&world).await.archived.sessions, 0);
    assert!(!is_archived(&world, session).await);

    world.clock.set(T0 + 7 * DAY_MS);
    assert_eq!(pass(&world).await.archived.sessions, 1);
    assert!(is_archived(&world, session).await);
    let log = world.log(session).await;
    let archived = Event::SessionArchived { by: None, name: "Greenroom".into() };
    assert_eq!(log.iter().filter(|entry| entry.event == archived).count(), 1);

    world.clock.set(T0 + 37 * DAY_MS - 1);
    assert_eq!(pass(&world).await.deleted.sessions, 0);
    assert!(is_on_disk(&world, session));

    world.clock.set(T0 + 37 * DAY_MS);
    let report = pass(&world).await;
    assert_eq!((report.deleted.sessions, report.failed, report.is_complete), (1, 0, true));
    assert!(report.deleted.bytes > 0);
    assert!(report.deleted.listed.is_empty(), "what is deleted is not kept in a report");
    assert!(!is_on_disk(&world, session));
    let problem = world.app.session(&world.admin, session).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::SessionUnknown);
    assert_eq!(world.app.retention(&world.admin).await.unwrap().last, Some(report));
}

#[tokio::test]
async fn by_default_no_session_goes_however_old() {
    let world = world(RetentionSettings::default()).await;
    let row = world.add_repository("sample").await;
    let (open, archived) = (world.session(&world.admin, &row).await, world.session(&world.admin, &row).await);
    command(&world, archived, Command::Archive {}).await;
    world.clock.set(T0 + 3650 * DAY_MS);
    let report = pass(&world).await;
    assert_eq!((report.archived.sessions, report.deleted.sessions), (0, 0));
    assert!(!is_archived(&world, open).await && is_archived(&world, archived).await);
}

/// Opens a change in the session's log only.
async fn with_open_change(world: &World, session: SessionId) {
    let (at, random) = world.inner().id_parts();
    let event = Event::ChangeOpened {
        change: ChangeId::from_parts(at, random),
        number: 1,
        title: "Work".into(),
        branch: "work".parse().unwrap(),
        commit: "0".repeat(40).parse().unwrap(),
        author: world.admin.as_author(),
    };
    record(world, session, event).await;
}

async fn with_waiting_prompt(world: &World, session: SessionId) {
    let event = Event::PromptAccepted {
        prompt: world.inner().new_ids().prompt,
        author: world.admin.as_author(),
        text: "Later.".into(),
        delivery: Default::default(),
        attachments: vec![],
    };
    record(world, session, event).await;
}

#[tokio::test]
async fn what_somebody_still_needs_is_not_archived() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let new = async || world.session(&world.admin, &row).await;
    let (free, changed, waiting, watched, alive) =
        (new().await, new().await, new().await, new().await, new().await);
    with_open_change(&world, changed).await;
    with_waiting_prompt(&world, waiting).await;
    let stream = world.app.subscribe(&world.admin, watched, 0, None, ClientKind::Web).await.unwrap();
    world.use_sandbox(&world.admin, alive).await;
    world.clock.set(T0 + 400 * DAY_MS);
    told(&world).await;
    let plan = world.app.retention_plan(&world.admin).await.unwrap();
    let report = pass(&world).await;
    assert_eq!(report.archived.sessions, 1);
    let expected = vec![(KeptBy::Queue, 1), (KeptBy::Change, 1), (KeptBy::Viewer, 1), (KeptBy::Sandbox, 1)];
    assert_eq!(kept(&report), expected);
    assert_eq!(kept(&plan), expected, "the plan says the same");
    assert!(is_archived(&world, free).await);
    for session in [changed, waiting, watched, alive] {
        assert!(!is_archived(&world, session).await);
    }

    drop(stream);
    assert_eq!(pass(&world).await.archived.sessions, 1, "once nobody looks it is a session like any other");
}

#[tokio::test]
async fn an_archived_session_that_somebody_needs_is_not_deleted() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let mut sessions = vec![];
    for _ in 0..4 {
        let session = world.session(&world.admin, &row).await;
        command(&world, session, Command::Archive {}).await;
        sessions.push(session);
    }
    let [free, changed, typed, typed_long_ago] = sessions[..] else { unreachable!() };
    with_open_change(&world, changed).await;
    let draft = async |session, at_ms| {
        let (place, directory) = (DraftPlace::Session(session), &world.inner().directory);
        directory.write_draft(world.admin.id, place, "And then".into(), 0, at_ms).await.unwrap();
    };
    let now = T0 + 60 * DAY_MS;
    draft(typed, now - 30 * DAY_MS + 1).await;
    draft(typed_long_ago, now - 30 * DAY_MS).await;
    world.clock.set(now);
    let report = pass(&world).await;
    assert_eq!(report.deleted.sessions, 2);
    assert_eq!(kept(&report), [(KeptBy::Change, 1), (KeptBy::Draft, 1)]);
    assert!(is_on_disk(&world, changed) && is_on_disk(&world, typed));
    assert!(!is_on_disk(&world, free) && !is_on_disk(&world, typed_long_ago));
}

#[tokio::test]
async fn a_session_that_is_used_after_it_was_chosen_stays() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let (idle, archived) = (world.session(&world.admin, &row).await, world.session(&world.admin, &row).await);
    command(&world, archived, Command::Archive {}).await;
    world.clock.set(T0 + 90 * DAY_MS);
    // As if the index had been read before these.
    command(&world, idle, Command::Rename { title: "Still of use".into() }).await;
    command(&world, archived, Command::Unarchive {}).await;
    let before_ms = T0 + 10 * DAY_MS;
    let inner = world.inner();
    let retired = [
        inner.archive_resting(idle, before_ms).await.unwrap(),
        inner.delete_resting(archived, before_ms).await.unwrap(),
        // Even where the time would do.
        inner.delete_resting(archived, i64::MAX).await.unwrap(),
    ];
    for retired in retired {
        assert!(matches!(retired, Retired::Kept(KeptBy::Use)));
    }
    assert!(!is_archived(&world, idle).await && !is_archived(&world, archived).await);
    command(&world, archived, Command::Rename { title: "As lively as ever".into() }).await;
}

/// Every row of the directory, and every byte of the sessions.
fn everything(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let database = rusqlite::Connection::open(world.data.path().join("greenroom.db")).unwrap();
    let mut tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'search_index%'")
        .unwrap();
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for table in tables {
        let mut query = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = query.column_count();
        let mut rows = query.query([]).unwrap();
        let mut text = String::new();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                text += &format!("{:?};", row.get_ref(column).unwrap());
            }
        }
        found.insert(table, text.into_bytes());
    }
    add_files(&world.data.path().join("sessions"), &mut found);
    found
}

fn add_files(directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let is_spare = path.file_name().unwrap().to_string_lossy().starts_with('.');
        match path.is_dir() {
            true if is_spare => {}
            true => add_files(&path, found),
            false => drop(found.insert(path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_says_what_the_pass_then_does() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let idle = world.session(&world.admin, &row).await;
    let archived = world.session(&world.admin, &row).await;
    command(&world, archived, Command::Archive {}).await;
    with_old_rows(&world, &row, idle).await;
    let world = world.restart().await;
    world.clock.set(T0 + 200 * DAY_MS);
    let before = everything(&world);
    let plan = world.app.retention_plan(&world.admin).await.unwrap();
    assert!(before == everything(&world), "a plan changed something");
    assert_eq!(world.inner().sessions().awake(), 0, "it wakes nobody");
    assert!(plan.is_plan);
    assert_eq!(plan.archived.listed[0].session, idle);
    assert_eq!(plan.deleted.listed[0].session, archived);
    assert_eq!(plan.deleted.listed[0].rests_since_ms, T0);

    let mut done = pass(&world).await;
    assert!(before != everything(&world));
    assert!(done.deleted.bytes > 0);
    // Opened, a session's journal is longer.
    done.deleted.bytes = plan.deleted.bytes;
    let mut expected = plan;
    expected.is_plan = false;
    expected.archived.listed.clear();
    expected.deleted.listed.clear();
    assert_eq!(done, expected);
}

/// One of each kind that is older than a hundred days at `T0 + 200 days`, and is due.
async fn with_old_rows(world: &World, row: &RepositoryRow, session: SessionId) {
    let directory = &world.inner().directory;
    with_waiting_prompt(world, session).await;
    let prompt = world.inner().session_handle(session).await.unwrap().state().await.unwrap().queue[0].prompt;
    command(world, session, Command::WithdrawPrompt { prompt }).await;
    told(world).await;
    assert_eq!(directory.count_expired(Expiring::Statistics, T0).await.unwrap(), 1, "of the prompt");
    let link = ShareLinkRow {
        id: ShareLinkId::from_parts(1, 1),
        session,
        kind: ShareKind::View,
        made_by: world.admin.id,
        made_by_name: String::new(),
        made_at_ms: T0,
        expires_at_ms: T0 + 40 * DAY_MS,
        revoked_at_ms: None,
    };
    assert!(directory.add_share_link([1; 32], link, 20).await.unwrap());
    directory.add_sign_in_link([2; 32], Some(world.admin.id), T0 + 1).await.unwrap();
    directory.add_web_session([3; 32], world.admin.id, T0 + 2).await.unwrap();
    let build = ImageRow {
        id: ImageId::from_parts(1, 5),
        repository: row.id,
        state: ImageState::Failed,
        commit: None,
        steps: serde_json::json!([]),
        problem: None,
        started_at_ms: T0,
        finished_at_ms: Some(T0),
    };
    let log = world.inner().images.layers().image_directory(build.id);
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("build.log"), "It failed.").unwrap();
    directory.put_image(build).await.unwrap();
}

#[tokio::test]
async fn rows_go_when_they_are_old_enough_and_not_a_millisecond_before() {
    let settings = RetentionSettings { archive_idle_days: 0, delete_archived_days: 0, ..SETTINGS };
    let world = world(settings).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    with_old_rows(&world, &row, session).await;
    let first_admin = rows(&pass(&world).await, RowKind::SignIns);
    assert_eq!(first_admin, 0, "nothing is due yet");
    // When each goes, in their order.
    let steps = [
        (T0 + 1, RowKind::SignIns, 1),
        (T0 + 2, RowKind::SignIns, 1),
        (T0 + 50 * DAY_MS, RowKind::ShareLinks, 1),
        (T0 + 100 * DAY_MS, RowKind::Statistics, 1),
    ];
    for (at_ms, kind, count) in steps {
        world.clock.set(at_ms - 1);
        assert_eq!(rows(&pass(&world).await, kind), 0, "{kind:?} a millisecond early");
        world.clock.set(at_ms);
        let report = pass(&world).await;
        assert_eq!(rows(&report, kind), count, "{kind:?}");
        assert_eq!(report.rows.iter().map(|rows| rows.rows).sum::<u64>(), count, "{kind:?} alone");
    }
}

#[tokio::test]
async fn the_log_of_a_failed_build_goes_without_another_build() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    with_old_rows(&world, &row, session).await;
    let (image, layers) = (ImageId::from_parts(1, 5), world.inner().images.layers().clone());
    world.clock.set(T0 + 14 * DAY_MS);
    assert_eq!(pass(&world).await.failed_builds, 0);
    assert!(layers.image_directory(image).exists());
    world.clock.set(T0 + 14 * DAY_MS + 1);
    let report = pass(&world).await;
    assert_eq!(report.failed_builds, 1);
    assert!(report.failed_builds_bytes > 0);
    assert!(!layers.image_directory(image).exists());
    let images = world.inner().directory.images(row.id, 10).await.unwrap();
    assert_eq!(images.len(), 1, "the good one stays");
}

#[tokio::test]
async fn rows_go_in_bites() {
    let world = world(SETTINGS).await;
    let directory = &world.inner().directory;
    for number in 0..5 {
        directory.add_web_session([number; 32], world.admin.id, T0).await.unwrap();
    }
    for left in [3, 1, 0] {
        directory.remove_expired(Expiring::WebSessions, T0, 2).await.unwrap();
        assert_eq!(directory.count_expired(Expiring::WebSessions, T0).await.unwrap(), left);
    }
}

#[tokio::test]
async fn what_was_written_of_a_session_after_its_end_goes_too() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let (gone, stays) = (world.session(&world.admin, &row).await, world.session(&world.admin, &row).await);
    world.app.delete_session(&world.admin, gone).await.unwrap();
    let directory = &world.inner().directory;
    let read = |session| ReadRow { person: world.admin.id, session, seq: 1 };
    directory.put_reads(vec![read(stays)]).await.unwrap();
    // As a version did that still wrote after a session's end.
    let file = rusqlite::Connection::open(world.data.path().join("greenroom.db")).unwrap();
    let late = "INSERT INTO reads SELECT person, ?, seq FROM reads WHERE session = ?";
    assert_eq!(file.execute(late, [gone.to_string(), stays.to_string()]).unwrap(), 1);
    assert_eq!(rows(&pass(&world).await, RowKind::Leftovers), 1);
    assert_eq!(directory.read_position(world.admin.id, gone).await.unwrap(), None);
    assert_eq!(directory.read_position(world.admin.id, stays).await.unwrap(), Some(1));
    assert_eq!(directory.remembered_deletions().await.unwrap(), [gone]);
    world.clock.set(T0 + 30 * DAY_MS);
    assert_eq!(rows(&pass(&world).await, RowKind::Leftovers), 0);
    world.clock.set(T0 + 30 * DAY_MS + 1);
    assert_eq!(rows(&pass(&world).await, RowKind::Leftovers), 1, "the deletion itself is forgotten");
}

#[tokio::test]
async fn a_pass_that_is_cut_off_leaves_whole_sessions_and_the_next_one_finishes() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let mut sessions = vec![];
    for _ in 0..12 {
        let session = world.session(&world.admin, &row).await;
        command(&world, session, Command::Archive {}).await;
        sessions.push(session);
    }
    // All are as old: they are gone through by their ids.
    sessions.sort_unstable_by_key(ToString::to_string);
    told(&world).await;
    world.clock.set(T0 + 30 * DAY_MS);
    let inner = world.inner().clone();
    let track = inner.snapshots.track(sessions[5]);
    let held_up = track.turn.lock().await;
    let cut_off = tokio::spawn(async move { inner.retain().await });
    let gone = |world: &World| sessions.iter().filter(|session| !is_on_disk(world, **session)).count();
    until("those before are gone", async || gone(&world) == 5).await;
    cut_off.abort();
    assert!(cut_off.await.is_err(), "it was cut off, and did not end");
    drop(held_up);

    let world = world.crash().await;
    assert_eq!(gone(&world), 5);
    for session in &sessions {
        // Its line, its log, and what the app says of it agree.
        let line = world.inner().directory.session(*session).await.unwrap();
        assert_eq!(line.is_some(), is_on_disk(&world, *session));
        assert_eq!(world.app.session(&world.admin, *session).await.is_ok(), line.is_some());
    }
    let report = pass(&world).await;
    assert_eq!((report.deleted.sessions, report.failed), (7, 0));
    assert_eq!(gone(&world), 12);
}

#[tokio::test]
async fn a_prompt_that_comes_at_the_same_time_is_refused_or_keeps_its_session() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let (mut kept, mut gone) = (0, 0);
    for number in 0..20 {
        let session = world.session(&world.admin, &row).await;
        command(&world, session, Command::Archive {}).await;
        let prompt =
            Command::Prompt { text: "Go on.".into(), delivery: Default::default(), attachments: vec![] };
        let key: CommandId = format!("key-{number:032x}").parse().unwrap();
        let body = SubmitCommand { key, command: prompt };
        let prompted = async {
            // Later and later against the deletion.
            for _ in 0..number {
                tokio::task::yield_now().await;
            }
            world.app.submit_command(&world.admin, session, body).await
        };
        let deleted = world.inner().delete_resting(session, i64::MAX);
        match tokio::join!(prompted, deleted) {
            (Ok(receipt), Ok(Retired::Kept(_))) => {
                assert_eq!(receipt.problem, None);
                assert!(is_on_disk(&world, session));
                kept += 1;
            }
            (Err(problem), Ok(Retired::Gone { .. })) => {
                assert_eq!(problem.code, ErrorCode::SessionUnknown);
                assert!(!is_on_disk(&world, session));
                gone += 1;
            }
            (prompted, deleted) => panic!("{prompted:?}, deleted: {}", deleted.is_ok()),
        }
    }
    assert_eq!(kept + gone, 20);
}

#[tokio::test]
async fn the_files_of_a_deletion_that_broke_off_go_with_the_next_pass() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    told(&world).await;
    world.inner().part_with(session).await.unwrap();
    assert!(is_on_disk(&world, session));
    pass(&world).await;
    assert!(!is_on_disk(&world, session));
}

#[tokio::test]
async fn a_plan_does_not_count_the_memory_of_a_deletion_whose_files_are_left() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    told(&world).await;
    world.inner().part_with(session).await.unwrap();
    world.clock.set(T0 + 31 * DAY_MS);
    let planned = async || rows(&world.app.retention_plan(&world.admin).await.unwrap(), RowKind::Leftovers);
    let with_files = planned().await;
    std::fs::remove_dir_all(world.data.path().join("sessions").join(session.to_string())).unwrap();
    assert_eq!(planned().await, with_files + 1);
}

#[tokio::test]
async fn nothing_goes_while_the_server_stops() {
    let world = world(SETTINGS).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    told(&world).await;
    world.clock.set(T0 + 100 * DAY_MS);
    world.app.begin_drain();
    let problem = world.app.run_retention(&world.admin).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ShuttingDown);
    let report = world.inner().retain().await.unwrap();
    assert!(!report.is_complete);
    assert_eq!(report.archived.sessions, 0);
    assert!(!is_archived(&world, session).await);
}

#[tokio::test]
async fn retention_is_for_admins() {
    let world = world(SETTINGS).await;
    let member = world.member("grace").await;
    let refused = |code: Option<ErrorCode>| assert_eq!(code, Some(ErrorCode::NotAllowed));
    let app: &App = &world.app;
    refused(app.retention(&member).await.err().map(|problem| problem.code));
    refused(app.retention_plan(&member).await.err().map(|problem| problem.code));
    refused(app.run_retention(&member).await.err().map(|problem| problem.code));
}
