//! A session against its real log: what is acknowledged is durable, commands run once, viewers miss nothing, and a
//! restart goes on where the process before stopped.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod world;

use greenroom_domain::event::{BlockKind, ToolOutcome, TurnOutcome};
use greenroom_domain::money::Usage;
use greenroom_domain::{BlockId, Command, Delivery, Durability, ErrorCode, Event, SessionId, SessionState};
use greenroom_session::{Append, FileSessions, Live, LogError, SessionDirectory, TurnEnded};
use std::time::Duration;
use world::{World, asking, author, created, next, prompt, send, session};

#[tokio::test]
async fn a_repeated_key_answers_the_same_receipt_and_runs_nothing_twice() {
    let world = World::new();
    let handle = world.create().await;
    let first = send(&handle, "k", prompt("do it")).await;
    let second = send(&handle, "k", prompt("do it")).await;
    assert_eq!(first, second);
    assert_eq!(handle.state().await.unwrap().head_seq, first.seq.unwrap());
    let other = handle.command("k".parse().unwrap(), prompt("something else"), asking(1)).await;
    assert_eq!(other.unwrap_err().code, ErrorCode::KeyReused);
}

#[tokio::test]
async fn a_key_is_remembered_over_a_restart_and_a_refusal_too() {
    let world = World::new();
    let handle = world.create().await;
    let refused = send(&handle, "stop", Command::Stop { hold_queue: false }).await;
    assert_eq!(refused.problem.as_ref().unwrap().code, ErrorCode::NotRunning);
    let accepted = send(&handle, "k", prompt("do it")).await;
    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    assert_eq!(send(&handle, "k", prompt("do it")).await, accepted);
    assert_eq!(send(&handle, "stop", Command::Stop { hold_queue: false }).await, refused);
}

#[tokio::test]
async fn a_restart_in_mid_turn_says_what_was_cut_off_and_runs_the_turn_again() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "k", prompt("do it")).await;
    let (turn, _) = world.turn().await;
    let block = BlockId::from_parts(1, 1);
    let started =
        Event::ToolStarted { turn: turn.turn(), call: "c".into(), name: "bash".into(), title: "Run".into() };
    let opened = Event::BlockOpened { turn: turn.turn(), block, kind: BlockKind::Text };
    turn.commit(vec![opened, started], Durability::Synced).await.unwrap();

    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    let (again, state) = world.turn().await;
    assert_eq!(again.turn(), turn.turn());
    assert!(state.running.unwrap().open_calls.is_empty());
    let entries = handle.entries(0, 100).await.unwrap();
    let has = |test: fn(&Event) -> bool| entries.iter().any(|entry| test(&entry.event));
    assert!(has(|event| matches!(event, Event::TurnInterrupted { open_calls, .. } if open_calls == &["c"])));
    assert!(has(|event| matches!(event, Event::BlockReset { .. })));
    assert!(has(|event| matches!(event, Event::ToolFinished { outcome: ToolOutcome::Unknown, .. })));
    assert!(handle.epoch() > 1, "the new owner has a higher epoch");
}

#[tokio::test]
async fn the_owner_before_is_fenced_by_the_one_that_took_the_session() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    let (old, _) = files.create(session(), 1, vec![created()]).await.unwrap();
    let new = files.acquire(session()).await.unwrap();
    let append = |epoch| Append {
        epoch,
        expected_head: 1,
        at_ms: 1,
        events: vec![created()],
        durability: Durability::Synced,
        receipt: None,
    };
    assert!(
        matches!(old.log.append(append(old.epoch)).await, Err(LogError::Fenced { owner }) if owner == new.epoch)
    );
    assert_eq!(new.log.append(append(new.epoch)).await.unwrap().len(), 1);
    let wrong_head = Append { expected_head: 7, ..append(new.epoch) };
    assert!(matches!(new.log.append(wrong_head).await, Err(LogError::Unknown { .. })));
}

#[tokio::test]
async fn many_sessions_are_made_at_once_more_than_are_made_in_advance() {
    let world = World::new();
    let ids: Vec<_> = (0..40).map(|number| SessionId::from_parts(7, number)).collect();
    let made = ids.iter().map(|id| world.registry.create(*id, vec![created()]));
    for handle in futures::future::join_all(made).await {
        assert_eq!(handle.unwrap().state().await.unwrap().head_seq, 1);
    }
    let world = world.restart();
    for id in ids {
        assert_eq!(world.registry.get(id).await.unwrap().state().await.unwrap().head_seq, 1);
    }
}

#[tokio::test]
async fn a_session_that_was_only_begun_is_none_and_one_that_was_made_stays() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    // As a kill leaves it between its place and its first entry.
    let spare = world.directory.path().join(".spare").read_dir().unwrap().next().unwrap().unwrap().path();
    std::fs::rename(spare, files.directory(session())).unwrap();
    assert!(matches!(files.acquire(session()).await, Err(LogError::Missing)));
    let (_, entries) = files.create(session(), 1, vec![created()]).await.unwrap();
    assert_eq!(entries.len(), 1);
    let again = files.create(session(), 2, vec![created()]).await;
    assert!(matches!(again, Err(LogError::Exists)), "{again:?}");
    let log = files.acquire(session()).await.unwrap().log;
    assert_eq!(log.read(0, 10).await.unwrap(), entries);
}

#[tokio::test]
async fn a_session_that_this_version_cannot_read_is_never_made_over() {
    let world = World::new();
    let files = FileSessions::open(world.directory.path()).unwrap();
    drop(files.create(session(), 1, vec![created()]).await.unwrap());
    let path = files.directory(session()).join("session.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = files.create(session(), 2, vec![created()]).await;
    assert!(matches!(refused, Err(LogError::Newer { found: 99, .. })), "{refused:?}");
    let refused = world.registry.get(session()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SessionTooNew);
    assert!(refused.message.contains("99"), "{refused}");
    let file = rusqlite::Connection::open(&path).unwrap();
    let entries: u64 = file.query_row("select count(*) from entries", [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn a_viewer_gets_every_entry_once_from_wherever_it_begins() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    for after in [0, 2, 99] {
        let mut viewer = handle.subscribe(after).await.unwrap();
        let head = viewer.head_seq;
        let mut seen = after.min(head);
        loop {
            match next(&mut viewer).await {
                Live::Entry(entry) => {
                    assert_eq!(entry.seq, seen + 1);
                    seen = entry.seq;
                }
                Live::CaughtUp { seq } => break assert_eq!((seq, seen), (head, head)),
                other => panic!("{other:?} during replay"),
            }
        }
        let block = BlockId::from_parts(1, u128::from(after));
        turn.commit(vec![Event::BlockReset { block }], Durability::Synced).await.unwrap();
        turn.delta(block, 0, "live");
        assert!(matches!(next(&mut viewer).await, Live::Entry(entry) if entry.seq == head + 1));
        assert!(matches!(next(&mut viewer).await, Live::Delta { .. }));
    }
}

#[tokio::test]
async fn a_viewer_who_comes_while_a_tool_runs_is_told_what_it_printed_so_far() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    turn.output("c1", 0, "one ");
    let mut early = handle.subscribe(0).await.unwrap();
    turn.output("c1", 4, "two");
    let mut late = handle.subscribe(0).await.unwrap();
    turn.output("c1", 7, " three");
    for (viewer, expected) in
        [(&mut early, ["one ", "two", " three"].as_slice()), (&mut late, &["one two", " three"])]
    {
        while !matches!(next(viewer).await, Live::CaughtUp { .. }) {}
        for text in expected {
            assert!(matches!(next(viewer).await, Live::Output { text: told, .. } if &*told == *text));
        }
    }
    let finished = TurnOutcome::Completed;
    turn.finish(finished, Usage::default(), 1).await;
    let mut after = handle.subscribe(0).await.unwrap();
    while !matches!(next(&mut after).await, Live::CaughtUp { .. }) {}
    send(&handle, "2", prompt("two")).await;
    assert!(matches!(next(&mut after).await, Live::Entry(_)), "nothing of what the log has now");
}

#[tokio::test]
async fn a_viewer_that_is_too_slow_is_told_where_to_go_on() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (turn, _) = world.turn().await;
    let mut viewer = handle.subscribe(0).await.unwrap();
    while !matches!(next(&mut viewer).await, Live::CaughtUp { .. }) {}
    for n in 0..5000 {
        // With gaps, so that nothing is merged.
        turn.delta(BlockId::from_parts(1, 1), n * 10, "x");
    }
    let head = handle.state().await.unwrap().head_seq;
    loop {
        match next(&mut viewer).await {
            Live::Delta { .. } => {}
            other => break assert_eq!(other, Live::Lagged { after_seq: head }),
        }
    }
    assert!(viewer.next().await.unwrap().is_none());
}

#[tokio::test]
async fn waiting_prompts_run_in_order_and_stop_reaches_the_turn() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    send(&handle, "2", prompt("two")).await;
    let (first, _) = world.turn().await;
    send(&handle, "3", Command::Stop { hold_queue: false }).await;
    first.cancelled().cancelled().await;
    first.finish(TurnOutcome::Stopped, Usage::default(), 1).await;
    let (second, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "two");
    assert!(!second.cancelled().is_cancelled());
    assert_eq!(
        first.commit(vec![], Durability::Synced).await,
        Ok(()),
        "nothing to append is nothing to refuse"
    );
    let late =
        Event::BlockOpened { turn: first.turn(), block: BlockId::from_parts(1, 1), kind: BlockKind::Text };
    assert_eq!(first.commit(vec![late], Durability::Synced).await, Err(TurnEnded));
}

#[tokio::test]
async fn the_queue_is_answered_in_the_order_it_was_given_and_what_a_stop_held_waits_over_a_restart() {
    let world = World::new();
    let handle = world.create().await;
    for (key, text) in [("1", "one"), ("2", "two"), ("3", "three"), ("4", "now")] {
        send(&handle, key, prompt(text)).await;
    }
    let (first, _) = world.turn().await;
    let waiting =
        |state: &SessionState| -> Vec<_> { state.queue.iter().map(|q| (q.prompt, q.text.clone())).collect() };
    let before = waiting(&handle.state().await.unwrap());
    let ids: Vec<_> = before.iter().map(|(prompt, _)| *prompt).collect();
    send(&handle, "5", Command::MovePrompt { prompt: ids[1], before: Some(ids[0]) }).await;
    send(&handle, "6", Command::SetDelivery { prompt: ids[2], delivery: Delivery::Insert }).await;
    let other =
        handle.command("7".parse().unwrap(), Command::WithdrawPrompt { prompt: ids[0] }, asking(2)).await;
    assert_eq!(other.unwrap().problem.unwrap().code, ErrorCode::NotAllowed);
    let inserted = first.take_inserts().await.unwrap();
    assert_eq!(inserted.iter().map(|prompt| prompt.text.as_str()).collect::<Vec<_>>(), ["now"]);
    send(&handle, "8", Command::Stop { hold_queue: true }).await;
    first.finish(TurnOutcome::Stopped, Usage::default(), 1).await;

    let world = world.restart();
    let handle = world.registry.get(session()).await.unwrap();
    let state = handle.state().await.unwrap();
    assert!(state.running.is_none(), "what is held is not answered");
    assert_eq!(state.queue.iter().map(|q| q.text.as_str()).collect::<Vec<_>>(), ["three", "two"]);
    send(&handle, "9", Command::ReleaseQueue {}).await;
    let (second, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "three");
    second.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    let (_, state) = world.turn().await;
    assert_eq!(state.running.unwrap().prompts[0].text, "two");
}

#[tokio::test]
async fn a_turn_is_handed_the_conversation_that_the_log_holds() {
    let world = World::new();
    let handle = world.create().await;
    send(&handle, "1", prompt("one")).await;
    let (first, _, conversation) = world.started().await;
    assert_eq!(conversation, Some(handle.conversation().await.unwrap()), "young: at hand, and the same");
    let text = |offset| Event::BlockText { block: BlockId::from_parts(1, 1), offset, text: "x".into() };
    first.commit((0..50).map(text).collect(), Durability::Buffered).await.unwrap();
    first.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    send(&handle, "2", prompt("two")).await;
    let (second, _, conversation) = world.started().await;
    assert_eq!(conversation, Some(handle.conversation().await.unwrap()), "streamed text is no part of it");
    let many = (0..200).map(|n| Event::BlockReset { block: BlockId::from_parts(1, n) });
    second.commit(many.collect(), Durability::Buffered).await.unwrap();
    second.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    send(&handle, "3", prompt("three")).await;
    assert_eq!(world.started().await.2, None, "grown: the log is asked");
}

#[tokio::test]
async fn a_removed_session_is_gone_with_its_files() {
    let world = World::new();
    world.create().await;
    world.registry.remove(session()).await.unwrap();
    world.registry.remove(session()).await.unwrap();
    assert_eq!(world.registry.get(session()).await.unwrap_err().code, ErrorCode::SessionUnknown);
    assert!(!world.directory.path().join(session().to_string()).exists());
}

#[tokio::test]
async fn a_session_that_was_never_acknowledged_does_not_exist() {
    let world = World::new();
    let directory = world.directory.path().join(session().to_string());
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("session.db"), b"").unwrap();
    assert_eq!(world.registry.get(session()).await.unwrap_err().code, ErrorCode::SessionUnknown);
}

#[tokio::test]
async fn a_log_that_begins_with_another_sessions_turns_runs_none_of_them_again() {
    let world = World::new();
    let turn = |n| greenroom_domain::TurnId::from_parts(1, n);
    let accepted = |n| Event::PromptAccepted {
        prompt: greenroom_domain::PromptId::from_parts(1, n),
        author: author(n),
        text: "go".into(),
        delivery: Delivery::Queue,
        attachments: vec![],
    };
    let started =
        |n| Event::TurnStarted { turn: turn(n), prompts: vec![greenroom_domain::PromptId::from_parts(1, n)] };
    let ended = Event::TurnFinished {
        turn: turn(1),
        outcome: TurnOutcome::Completed,
        usage: Usage::default(),
        duration_ms: 1,
    };
    let events = vec![created(), accepted(1), started(1), ended, accepted(2), started(2)];
    world.registry.create(session(), events).await.unwrap();
    let (running, state) = world.turn().await;
    assert_eq!((running.turn(), state.last_turn), (turn(2), Some(turn(1))));
    assert!(world.turns.lock().await.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_closed_registry_makes_nothing_more_in_the_directory() {
    let world = World::new();
    let spares = || world.directory.path().join(".spare").read_dir().unwrap().count();
    let before = spares();
    world.create().await;
    world.registry.close().await;
    // By then the spare that the session took would have been made again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(spares(), before - 1);
    let refused = world.registry.create(SessionId::from_parts(1, 2), vec![created()]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    assert_eq!(spares(), before - 1, "nor does who comes too late");
}

/// Turns of ten entries each, three of them streamed text that the answer repeats.
async fn long_log(world: &World, turns: u64) -> (greenroom_session::SessionHandle, u64) {
    let handle = world.create().await;
    for n in 0..turns {
        send(&handle, &format!("p{n}"), prompt(&format!("prompt {n}"))).await;
        let (turn, _) = world.turn().await;
        let block = BlockId::from_parts(1, n.into());
        let text = |offset| Event::BlockText { block, offset, text: "x".into() };
        let opened = Event::BlockOpened { turn: turn.turn(), block, kind: BlockKind::Text };
        let answer = Event::AssistantMessage {
            turn: turn.turn(),
            content: vec![greenroom_domain::message::Content::Text { text: "xxx".into() }],
            blocks: vec![block],
            raw: None,
            stop_reason: greenroom_domain::message::StopReason::EndTurn,
            usage: Usage { requests: 1, ..Usage::default() },
            model: "test".into(),
        };
        let todo = Event::NoticeGiven { turn: turn.turn(), text: "n".into() };
        let events = vec![opened, text(0), text(1), text(2), answer, todo];
        turn.commit(events, Durability::Synced).await.unwrap();
        turn.finish(TurnOutcome::Completed, Usage::default(), 1).await;
    }
    let head = handle.state().await.unwrap().head_seq;
    assert_eq!(head, 1 + turns * 10);
    (handle, head)
}

#[tokio::test]
async fn a_window_is_the_newest_turns_without_the_text_that_answers_repeat() {
    let world = World::new();
    let (handle, head) = long_log(&world, 6).await;
    let mut viewer = handle.subscribe_window(0, 16).await.unwrap();
    let Live::Opening(opening) = next(&mut viewer).await else { panic!("the opening comes first") };
    // Sixteen entries without text hold two whole turns of seven.
    assert_eq!((opening.from_seq, opening.head_seq), (head - 19, head));
    assert_eq!(opening.usage.requests, 4, "as it was where the window begins");
    assert!(matches!(opening.standing[..], [ref first] if first.seq == 1), "{:?}", opening.standing);
    let mut received = opening.from_seq - 1;
    let mut omitted = 0;
    loop {
        match next(&mut viewer).await {
            Live::Entry(entry) => {
                assert_eq!(entry.seq, received + 1);
                assert!(!matches!(entry.event, Event::BlockText { .. }));
                received = entry.seq;
            }
            Live::Omitted { through_seq } => {
                omitted += through_seq - received;
                received = through_seq;
            }
            Live::CaughtUp { seq } => break assert_eq!((seq, received), (head, head)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(omitted, 6);
    handle.record(vec![Event::TitleChanged { title: "live".into(), by: None }]).await.unwrap();
    assert!(matches!(next(&mut viewer).await, Live::Entry(entry) if entry.seq == head + 1));
    // Nobody needs a window who is behind by less.
    let mut near = handle.subscribe_window(head - 9, 10).await.unwrap();
    assert!(matches!(next(&mut near).await, Live::Entry(entry) if entry.seq == head - 8));
}

#[tokio::test]
async fn a_window_over_an_open_answer_has_what_was_streamed_of_it() {
    let world = World::new();
    let (handle, _) = long_log(&world, 4).await;
    send(&handle, "last", prompt("more")).await;
    let (turn, _) = world.turn().await;
    let block = BlockId::from_parts(9, 9);
    let opened = Event::BlockOpened { turn: turn.turn(), block, kind: BlockKind::Text };
    let text = Event::BlockText { block, offset: 0, text: "so far".into() };
    turn.commit(vec![opened], Durability::Synced).await.unwrap();
    turn.commit(vec![text.clone()], Durability::Buffered).await.unwrap();
    let mut viewer = handle.subscribe_window(0, 12).await.unwrap();
    let head = loop {
        match next(&mut viewer).await {
            Live::Entry(entry) => {
                assert!(!matches!(entry.event, Event::BlockText { .. }), "it is not synced");
            }
            Live::CaughtUp { seq } => break seq,
            _ => {}
        }
    };
    assert!(matches!(next(&mut viewer).await, Live::Delta { offset: 0, text, .. } if &*text == "so far"));
    // With the next sync everything before it is told, in order.
    turn.commit(vec![Event::BlockReset { block }], Durability::Synced).await.unwrap();
    for (seq, event) in [(head + 1, text), (head + 2, Event::BlockReset { block })] {
        assert!(
            matches!(next(&mut viewer).await, Live::Entry(entry) if entry.seq == seq && entry.event == event)
        );
    }
}

#[tokio::test]
async fn pages_lead_back_from_the_window_to_the_beginning() {
    let world = World::new();
    let (handle, head) = long_log(&world, 6).await;
    let (mut before, mut seen) = (head + 1, vec![]);
    loop {
        let page = handle.entries_before(before, 16).await.unwrap();
        let Some(first) = page.first().map(|entry| entry.seq) else { break };
        assert!(page.len() <= 16 && page.is_sorted_by_key(|entry| entry.seq));
        seen.splice(0..0, page.into_iter().map(|entry| entry.seq));
        before = first;
    }
    let whole = handle.conversation().await.unwrap();
    assert_eq!(seen, whole.iter().map(|entry| entry.seq).collect::<Vec<_>>());
}
