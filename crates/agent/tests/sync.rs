//! Work that begins before the newest commits have arrived: reads go on, changes wait, and the model is told what the
//! commits changed of what it read.
#![allow(clippy::unwrap_used, reason = "tests say what went wrong by panicking")]

mod support;

use greenroom_domain::event::{Event, TurnOutcome};
use greenroom_domain::message::Message;
use serde_json::json;
use std::sync::Arc;
use support::*;

/// A stand whose sync is on its way: the reader has the old text of `a.py`.
fn syncing(steps: Vec<Step>) -> (Stand, Arc<FakeSandbox>) {
    let stand = Stand::new(steps);
    let reader = Arc::new(FakeSandbox::default());
    reader.put("/workspace/a.py", "old\n");
    stand.sandbox.put("/workspace/z.py", "moves the clock\n");
    stand.sandbox.put("/workspace/a.py", "new\n");
    *stand.hands.reader.lock().unwrap() = Some(reader.clone());
    stand.hands.is_synced.send_replace(false);
    (stand, reader)
}

fn land(stand: &Stand) {
    stand.files.synced(&["a.py".to_owned()], &[]);
    stand.hands.is_synced.send_replace(true);
}

fn users(stand: &Stand) -> Vec<String> {
    let text = |message| match message {
        Message::User { text, .. } => Some(text),
        _ => None,
    };
    stand.requests().pop().unwrap().messages.into_iter().filter_map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn reads_do_not_wait_for_the_sync_and_commands_do() {
    let (stand, reader) = syncing(vec![
        calls(vec![
            call("c1", "read", json!({"path": "a.py"})),
            call("c2", "bash", json!({"command": "look", "read_only": true})),
        ]),
        calls(vec![bash("c3", "build")]),
        say("Done."),
    ]);
    reader.prints("look", "seen early\n", 0);
    stand.sandbox.prints("build", "built\n", 0);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().iter().filter(|name| *name == "tool_started").count() == 3).await;
    let early = stand.log.results();
    assert!(early[0].2.contains("old") && early[1].2.contains("seen early"), "{early:?}");
    assert!(stand.sandbox.ran.lock().unwrap().is_empty());
    assert!(reader.ran.lock().unwrap().iter().all(|spec| spec.is_read_only));
    land(&stand);
    assert_eq!(running.await.unwrap().unwrap().outcome, TurnOutcome::Completed);
    assert!(stand.told()[2].text.contains("built"));
    assert_eq!(users(&stand).iter().filter(|text| text.contains("/workspace/a.py")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_bound_to_reading_when_and_only_when_it_says_so() {
    let look = call("c1", "bash", json!({"command": "look", "read_only": true}));
    let not = call("c2", "bash", json!({"command": "build", "read_only": false}));
    let stand = Stand::new(vec![calls(vec![look, not, bash("c3", "test")]), say("Done.")]);
    for command in ["look", "build", "test"] {
        stand.sandbox.prints(command, "done\n", 0);
    }
    stand.run().await;
    let ran = stand.sandbox.ran.lock().unwrap().clone();
    let bound: Vec<(&str, bool)> =
        ran.iter().map(|spec| (spec.argv[2].as_str(), spec.is_read_only)).collect();
    assert_eq!(bound, [("look", true), ("build", false), ("test", false)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_rests_on_files_that_changed_is_not_the_last_word() {
    let (stand, _) =
        syncing(vec![calls(vec![call("c1", "read", json!({"path": "a.py"}))]), Step::Hang(vec![])]);
    let running = stand.start();
    stand.log.wait_until(|log| log.results().len() == 1).await;
    land(&stand);
    running.abort();
    stand.script(vec![say("It says old."), say("It says new.")]);
    stand.run().await;
    assert!(users(&stand).last().unwrap().contains("Read them again"));
    let notices = stand.log.events().into_iter().filter(|event| matches!(event, Event::NoticeGiven { .. }));
    assert_eq!(notices.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_edit_after_the_sync_asks_for_the_new_text_first() {
    let (stand, _) = syncing(vec![
        calls(vec![call("c1", "read", json!({"path": "a.py"}))]),
        calls(vec![call("c2", "edit", json!({"path": "a.py", "old": "old", "new": "x"}))]),
        say("Done."),
    ]);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().iter().filter(|name| *name == "tool_started").count() == 2).await;
    land(&stand);
    running.await.unwrap().unwrap();
    assert_eq!(stand.sandbox.text("/workspace/a.py"), "new\n");
    assert!(stand.told()[1].is_error);
}
