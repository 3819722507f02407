//! Through the whole app: what is told once, later, or not any more, whatever ended in between.

use crate::StatisticsRange;
use crate::testing::{Bounds, World, git, until};
use greenroom_directory::{Archived, RepositoryRow};
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::message::StopReason;
use greenroom_domain::money::Usage;
use greenroom_domain::{
    ChangeId, Command, CommandId, Consumer, Durability, ErrorCode, Event, Person, SessionId,
};
use greenroom_forge::OpenChange;
use greenroom_session::{Append, FileSessions, SessionDirectory};
use greenroom_telemetry::{Telemetry, TraceSettings};
use greenroom_wire::{ConsumerStatus, ConsumerView, SubmitCommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn command(world: &World, session: SessionId, command: Command) {
    let key: CommandId = format!("key-{:032x}", world.inner().id_parts().1).parse().unwrap();
    let receipt =
        world.app.submit_command(&world.admin, session, SubmitCommand { key, command }).await.unwrap();
    assert_eq!(receipt.problem, None);
}

async fn prompt(world: &World, session: SessionId) {
    command(
        world,
        session,
        Command::Prompt { text: "Do it.".into(), delivery: Default::default(), attachments: vec![] },
    )
    .await;
}

async fn title(world: &World, session: SessionId) -> Option<String> {
    world.inner().directory.session(session).await.unwrap().map(|row| row.title)
}

/// Appends to a session's log as a process would that ended before it told anybody.
async fn rename_in_the_file(world: &World, session: SessionId, title: &str) {
    append_in_the_file(world, session, vec![Event::TitleChanged { title: title.into(), by: None }]).await;
}

async fn append_in_the_file(world: &World, session: SessionId, events: Vec<Event>) {
    let files = FileSessions::open(world.data.path().join("sessions")).unwrap();
    let owned = files.acquire(session).await.unwrap();
    let expected_head = owned.log.read(0, 1000).await.unwrap().last().unwrap().seq;
    let durability = Durability::Synced;
    let append = Append {
        epoch: owned.epoch,
        expected_head,
        at_ms: world.inner().now_ms(),
        events,
        durability,
        receipt: None,
    };
    owned.log.append(append).await.unwrap();
    files.close().await;
}

#[tokio::test]
async fn a_start_opens_only_sessions_whose_consumers_are_behind() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let mut sessions = vec![];
    for _ in 0..200 {
        sessions.push(world.session(&world.admin, &row).await);
    }
    let world = world.restart().await;
    assert_eq!(world.inner().sessions().awake(), 0, "200 settled sessions, none of them opened");
    assert_eq!(world.app.sessions(&world.admin, None, Archived::Hidden, 200).await.unwrap().len(), 200);

    world.app.shutdown().await;
    rename_in_the_file(&world, sessions[7], "Not told").await;
    // Touched, and at the same entry as before.
    let files = FileSessions::open(world.data.path().join("sessions")).unwrap();
    files.acquire(sessions[8]).await.unwrap();
    files.close().await;
    let world = world.crash().await;
    assert_eq!(world.inner().sessions().awake(), 1);
    until("the list has it", async || title(&world, sessions[7]).await.as_deref() == Some("Not told")).await;
    let world = world.restart().await;
    assert_eq!(world.inner().sessions().awake(), 0, "and now it is settled");
}

#[tokio::test]
async fn a_summary_that_arrives_late_does_not_bring_a_deleted_session_back() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    let state = world.inner().sessions().get(session).await.unwrap().state().await.unwrap();
    world.app.delete_session(&world.admin, session).await.unwrap();
    let outbox = &world.inner().outbox;
    outbox.publish(&greenroom_session::Summary { session, state }, false);
    outbox.lane(Consumer::Directory).emptied().await;
    assert_eq!(title(&world, session).await, None);
    assert!(world.app.sessions(&world.admin, None, Archived::Hidden, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_by_the_next_start() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let (gone, kept) = (world.session(&world.admin, &row).await, world.session(&world.admin, &row).await);
    world.inner().directory.remove_session(gone, world.inner().now_ms()).await.unwrap();
    let world = world.crash().await;
    assert!(!world.data.path().join("sessions").join(gone.to_string()).exists());
    let problem = world.app.session(&world.admin, gone).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::SessionUnknown);
    world.app.session(&world.admin, kept).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_told_later() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.inner().outbox.lane(Consumer::Directory).emptied().await;
    let database = rusqlite::Connection::open(world.data.path().join("greenroom.db")).unwrap();
    database.execute_batch("ALTER TABLE cursors RENAME TO elsewhere").unwrap();
    command(&world, session, Command::Rename { title: "Later".into() }).await;
    let state = async || {
        let handle = world.inner().sessions().get(session).await.unwrap();
        handle.state().await.unwrap().dead_letters
    };
    until("it is given up", async || state().await.len() == 1).await;
    assert_eq!(title(&world, session).await.unwrap(), "New session");
    database.execute_batch("ALTER TABLE elsewhere RENAME TO cursors").unwrap();
    command(&world, session, Command::RetryDeadLetter { consumer: Consumer::Directory }).await;
    until("it is told", async || title(&world, session).await.unwrap() == "Later").await;
    assert_eq!(state().await, []);
}

/// A priced answer that ends its turn, or not, in a log whose process was killed before it counted anything.
async fn answered_and_killed(is_ended: bool) -> (World, u64) {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    let ids = world.inner().new_ids();
    world.app.shutdown().await;
    let usage = Usage { requests: 1, cost_microusd: 4_200, output_tokens: 7, ..Usage::default() };
    let mut events = vec![
        Event::PromptAccepted {
            prompt: ids.prompt,
            author: world.admin.as_author(),
            text: "Do it.".into(),
            delivery: Default::default(),
            attachments: vec![],
        },
        Event::TurnStarted { turn: ids.turn, prompts: vec![ids.prompt] },
        Event::AssistantMessage {
            turn: ids.turn,
            content: vec![],
            blocks: vec![],
            raw: None,
            stop_reason: StopReason::EndTurn,
            usage,
            model: "test".into(),
        },
    ];
    let finished =
        Event::TurnFinished { turn: ids.turn, outcome: TurnOutcome::Completed, usage, duration_ms: 5 };
    events.extend(is_ended.then_some(finished));
    append_in_the_file(&world, session, events).await;
    (world.crash().await, usage.cost_microusd)
}

#[tokio::test]
async fn an_answer_costs_its_person_though_the_server_was_killed_before_it_counted_it() {
    for is_ended in [true, false] {
        let (world, cost) = answered_and_killed(is_ended).await;
        let directory = &world.inner().directory;
        until("the cost is counted", async || directory.cost_since(world.admin.id, 0).await.unwrap() == cost)
            .await;
        let world = world.restart().await;
        let counted = world.inner().directory.cost_since(world.admin.id, 0).await.unwrap();
        assert_eq!(counted, cost, "and once, ended: {is_ended}");
    }
}

async fn of_collector(world: &World, session: SessionId) -> ConsumerView {
    let view = world.app.session_outbox(&world.admin, session).await.unwrap();
    view.consumers.into_iter().find(|one| one.consumer == Consumer::Collector).unwrap()
}

#[tokio::test]
async fn a_collector_that_is_away_becomes_a_dead_letter_and_gets_the_trace_when_somebody_asks() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let endpoint = format!("http://{address}").parse().unwrap();
    let telemetry = Telemetry::exporting(&TraceSettings { endpoint, version: "test" }).unwrap();
    let world = World::start_with(Bounds::without_pool(), telemetry).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    // Without a model the turn fails, which is a trace as well.
    prompt(&world, session).await;
    until("it is given up", async || of_collector(&world, session).await.status == ConsumerStatus::Dead)
        .await;
    let problem = of_collector(&world, session).await.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::CollectorUnreachable);
    assert!(problem.hint.is_some());
    let log = world.log(session).await;
    assert!(
        log.iter()
            .any(|entry| matches!(entry.event, Event::DeadLetterAdded { consumer: Consumer::Collector, .. }))
    );
    assert!(title(&world, session).await.is_some(), "nobody else waits for the collector");

    let collector = TcpListener::bind(address).await.unwrap();
    let taken = tokio::spawn(async move {
        let (mut connection, _) = collector.accept().await.unwrap();
        let mut head = [0; 64];
        connection.read_exact(&mut head).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        connection.write_all(answer).await.unwrap();
        // Until the sender has heard it.
        let _ = connection.read_to_end(&mut vec![]).await;
        String::from_utf8_lossy(&head).into_owned()
    });
    command(&world, session, Command::RetryDeadLetter { consumer: Consumer::Collector }).await;
    until("it is told", async || of_collector(&world, session).await.status == ConsumerStatus::Settled).await;
    assert!(taken.await.unwrap().starts_with("POST /v1/traces"));
}

/// A change of the session at the forge, which its log was not told of.
async fn open_untold(world: &World, row: &RepositoryRow, session: SessionId, author: &Person) -> ChangeId {
    let bare = world.data.path().join("repositories").join(format!("{}.git", row.id));
    let tree = git(&bare, &["rev-parse", "main^{tree}"]);
    let commit = git(&bare, &["commit-tree", tree.trim(), "-p", "main", "-m", "work"]);
    let branch = format!("greenroom/{session}");
    git(&bare, &["update-ref", &format!("refs/heads/{branch}"), commit.trim()]);
    let inner = world.inner();
    let (at, random) = inner.id_parts();
    inner.forge_owes(Some(session)).await.unwrap();
    let change = inner
        .forge
        .open_change(OpenChange {
            id: ChangeId::from_parts(at, random),
            repository: row.id,
            session: Some(session),
            title: "Work".into(),
            body: String::new(),
            branch: branch.parse().unwrap(),
            base: row.default_branch.clone(),
            author: author.as_author(),
            prompters: vec![author.id],
            at_ms: inner.now_ms(),
        })
        .await
        .unwrap();
    change.id
}

fn told(log: &[greenroom_domain::Entry]) -> Vec<&'static str> {
    let word = |entry: &greenroom_domain::Entry| match &entry.event {
        Event::ChangeOpened { .. } => Some("opened"),
        Event::ChangeApproved { .. } => Some("approved"),
        Event::ChangeMerged { .. } => Some("merged"),
        _ => None,
    };
    log.iter().filter_map(word).collect()
}

#[tokio::test]
async fn what_the_forge_did_before_a_crash_is_in_the_log_after_it_once() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let author = world.member("ada").await;
    let session = world.session(&author, &row).await;
    let change = open_untold(&world, &row, session, &author).await;
    let world = world.crash().await;
    until("it is told", async || told(&world.log(session).await) == ["opened"]).await;

    let inner = world.inner();
    inner.forge_owes(Some(session)).await.unwrap();
    let head = inner.forge.change(change).await.unwrap().unwrap().head;
    inner.forge.approve(change, &head, &world.admin, inner.now_ms()).await.unwrap();
    inner.forge.merge(change, &world.admin, inner.now_ms()).await.unwrap();
    let world = world.crash().await;
    let all = ["opened", "approved", "merged"];
    until("it is told", async || told(&world.log(session).await) == all).await;
    until("nothing is owed", async || world.inner().directory.owed().await.unwrap().is_empty()).await;
    // However often it is asked for.
    world.inner().tell_of_forge(Some(session)).await;
    assert_eq!(told(&world.log(session).await), all);
}

async fn found(world: &World, words: &str) -> Vec<SessionId> {
    let hits = world.app.search(&world.admin, words, None, 50).await.unwrap();
    hits.into_iter().map(|hit| hit.session.id).collect()
}

async fn turns(world: &World) -> (u64, u64, Option<u64>) {
    let totals = world.app.statistics(&world.admin, StatisticsRange::default()).await.unwrap().totals;
    (totals.prompts, totals.turns, totals.turn_ms.map(|_| totals.failed))
}

#[tokio::test]
async fn what_a_session_did_is_found_and_counted_once_whatever_is_told_again() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    assert_eq!(turns(&world).await, (0, 0, None), "nothing is known yet");
    prompt(&world, session).await;
    until("it is counted", async || turns(&world).await == (1, 1, Some(1))).await;
    assert_eq!(found(&world, "do it").await, [session]);
    let hits = world.app.search(&world.admin, "it", None, 50).await.unwrap();
    let marked: Vec<_> =
        hits[0].matches[0].snippet.iter().map(|part| (part.text.as_str(), part.is_match)).collect();
    assert_eq!(marked, [("Do ", false), ("it", true), (".", false)]);
    // The process ends before it notes how far it was: all is told again.
    let database = rusqlite::Connection::open(world.data.path().join("greenroom.db")).unwrap();
    database.execute_batch("DELETE FROM cursors; DELETE FROM settled;").unwrap();
    drop(database);
    let world = world.crash().await;
    let told = async || world.inner().directory.cursor(session, Consumer::Directory).await.unwrap() > 0;
    until("it is told again", told).await;
    assert_eq!(turns(&world).await, (1, 1, Some(1)));
    world.app.delete_session(&world.admin, session).await.unwrap();
    assert!(found(&world, "do").await.is_empty());
    assert_eq!(turns(&world).await, (1, 1, Some(1)), "figures stay");
}

#[tokio::test]
async fn an_archived_session_leaves_the_list_and_its_sandbox_and_comes_back_with_a_prompt() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, session).await;
    command(&world, session, Command::Archive {}).await;
    assert!(world.inner().workspaces.ready_sandbox(session).is_none(), "its sandbox is let go");
    let listed = async |archived| {
        let sessions = world.app.sessions(&world.admin, None, archived, 10).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    until("it is hidden", async || listed(Archived::Hidden).await.is_empty()).await;
    assert_eq!(listed(Archived::Only).await, [session]);
    assert_eq!(found(&world, "new session").await, [session], "it is found");
    assert!(world.app.session(&world.admin, session).await.unwrap().is_archived);
    prompt(&world, session).await;
    until("it is back", async || listed(Archived::Hidden).await == [session]).await;
}

#[tokio::test]
async fn searches_and_ranges_that_make_no_sense_are_refused_with_a_hint() {
    let world = World::start(Bounds::without_pool()).await;
    let many = "word ".repeat(13);
    for (words, code) in [(" \" ", ErrorCode::InvalidRequest), (&many, ErrorCode::TooLarge)] {
        let problem = world.app.search(&world.admin, words, None, 10).await.unwrap_err();
        assert_eq!((problem.code, problem.hint.is_some()), (code, true), "{words}");
    }
    let day = |text: &str| Some(text.to_owned());
    for (from, to) in [
        ("2026-11-02", "2026-11-01"),
        ("2025-01-01", "2026-01-02"),
        ("yesterday", "2026-01-02"),
        ("2026-W01-1", "2026-01-02"),
    ] {
        let range = StatisticsRange { from: day(from), to: day(to), ..StatisticsRange::default() };
        let problem = world.app.statistics(&world.admin, range).await.unwrap_err();
        assert_eq!((problem.code, problem.hint.is_some()), (ErrorCode::InvalidRequest, true), "{from} {to}");
    }
    let range =
        StatisticsRange { from: day("2025-01-02"), to: day("2026-01-02"), ..StatisticsRange::default() };
    assert_eq!(world.app.statistics(&world.admin, range).await.unwrap().from, "2025-01-02");
}

#[tokio::test]
async fn a_deletion_is_remembered_for_as_long_as_something_is_left_of_the_session() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    let long_ago = world.inner().now_ms() - 40 * 24 * 3_600_000;
    world.inner().directory.remove_session(session, long_ago).await.unwrap();
    let world = world.crash().await;
    let log = world.data.path().join("sessions").join(session.to_string());
    assert!(!log.exists());
    assert_eq!(title(&world, session).await, None);
    assert_eq!(world.inner().directory.remembered_deletions().await.unwrap(), [], "and then forgotten");
}

#[tokio::test]
async fn a_deleted_session_that_cannot_be_removed_is_not_opened_and_does_not_hold_up_a_start() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let (gone, kept) = (world.session(&world.admin, &row).await, world.session(&world.admin, &row).await);
    let long_ago = world.inner().now_ms() - 40 * 24 * 3_600_000;
    world.inner().directory.remove_session(gone, long_ago).await.unwrap();
    world.app.shutdown().await;
    let log = world.data.path().join("sessions").join(gone.to_string());
    // What is no directory cannot be removed as one: so it is with one that a mount is on, whoever asks.
    let aside = world.data.path().join("aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::write(&log, "").unwrap();
    let world = world.crash().await;
    assert_eq!(world.inner().directory.remembered_deletions().await.unwrap(), [gone]);
    world.app.session(&world.admin, kept).await.unwrap();
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    let problem = world.app.session(&world.admin, gone).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::SessionUnknown, "its log is there, and nobody's");
    let world = world.restart().await;
    assert!(!log.exists(), "the next start could");
    assert_eq!(world.inner().directory.remembered_deletions().await.unwrap(), []);
}

#[tokio::test]
async fn a_letter_whose_place_an_earlier_one_took_late_is_told_from_there() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    let inner = world.inner();
    let outbox = &inner.outbox;
    outbox.lane(Consumer::Directory).emptied().await;
    let handle = inner.sessions().get(session).await.unwrap();
    let about_to_tell = || outbox.about_to_tell.load(std::sync::atomic::Ordering::Relaxed);
    // Nobody's line is written meanwhile: each has read the cursor, and waits.
    let telling = outbox.telling().await;
    let mut before = about_to_tell();
    let mut letters = vec![];
    for title in ["first", "second"] {
        handle.record(vec![Event::TitleChanged { title: title.into(), by: None }]).await.unwrap();
        let state = handle.state().await.unwrap();
        let row = super::row_of(&greenroom_session::Summary { session, state }).map(Box::new);
        let upto = row.as_ref().unwrap().head_seq;
        letters.push(super::Letter { row, upto, inherited: None, was_dead: false });
    }
    let lane = {
        until("the lane's own attempt waits", async || about_to_tell() > before).await;
        before = about_to_tell();
        letters
    };
    let mut late = Box::pin(inner.tell_directory(session, &lane[0]));
    let mut newest = Box::pin(inner.tell_directory(session, &lane[1]));
    until("both wait", async || {
        assert!(futures::poll!(&mut late).is_pending() && futures::poll!(&mut newest).is_pending());
        about_to_tell() == before + 2
    })
    .await;
    drop(telling);
    late.await.unwrap();
    newest.await.unwrap();
    assert_eq!(title(&world, session).await.as_deref(), Some("second"));
}
