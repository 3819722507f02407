//! The tools for other sessions, over children that end when a test says so.

mod support;

use greenroom_domain::event::{ToolOutcome, TurnOutcome};
use greenroom_domain::{Delivery, SessionId};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use support::*;

fn stand(steps: Vec<Step>) -> Stand {
    Stand { can_spawn: true, ..Stand::new(steps) }
}

fn spawn(id: &str, input: Value) -> Step {
    calls(vec![call(id, "spawn_session", input)])
}

fn child(n: u128) -> SessionId {
    SessionId::from_parts(1, n)
}

#[tokio::test(start_paused = true)]
async fn sessions_are_begun_at_once_and_waited_for_together() {
    let stand = stand(vec![
        calls(vec![
            call("a", "spawn_session", json!({"prompt": "one", "repository": "other", "budget_percent": 40})),
            call("b", "spawn_session", json!({"prompt": "two", "notify": true})),
        ]),
        calls(vec![call("w", "wait_session", json!({}))]),
        say("Both are done."),
    ]);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().iter().filter(|name| *name == "tool_started").count() == 3).await;
    assert!(!running.is_finished(), "one has not ended");
    stand.children.ended.send_replace(1);
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    stand.children.ended.send_replace(2);
    assert_eq!(running.await.unwrap().unwrap().outcome, TurnOutcome::Completed);
    let spawned = stand.children.spawned.lock().unwrap().clone();
    assert_eq!(spawned.iter().map(|(call, _)| call.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((spawned[0].1.share, spawned[1].1.share), (Some(40), None));
    assert!(spawned[1].1.notify && !spawned[0].1.notify);
    let waited = &stand.told().last().unwrap().clone();
    assert!(waited.text.contains("I did part 0.") && waited.text.contains("I did part 1."), "{waited:?}");
    assert!(waited.text.contains("change #7 of other"), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_and_says_who_is_at_work() {
    let stand = stand(vec![
        spawn("a", json!({"prompt": "one"})),
        calls(vec![call("w", "wait_session", json!({"until": "any", "timeout_seconds": 5}))]),
        say("It takes long."),
    ]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let told = stand.told().last().unwrap().text.clone();
    assert!(told.starts_with("5 s are over") && told.contains("at work"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_wait() {
    let stand =
        stand(vec![spawn("a", json!({"prompt": "one"})), calls(vec![call("w", "wait_session", json!({}))])]);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().iter().filter(|name| *name == "tool_started").count() == 2).await;
    stand.cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap().outcome, TurnOutcome::Stopped);
    let (_, outcome, text) = stand.log.results().pop().unwrap();
    assert_eq!((outcome, text.as_str()), (ToolOutcome::Cancelled, "Stopped by a person."));
    assert!(stand.children.cancelled.lock().unwrap().is_empty(), "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_bad_input_are_words_that_the_model_can_act_on() {
    let id = child(1).to_string();
    let stand = stand(vec![
        spawn("a", json!({"prompt": "x", "repository": "secret"})),
        spawn("b", json!({"prompt": "x", "budget_percent": 95})),
        spawn("c", json!({"prompt": "x", "title": "two\nlines"})),
        calls(vec![call("d", "message_session", json!({"session": "nobody", "text": "hi"}))]),
        calls(vec![call("e", "wait_session", json!({"timeout_seconds": 0}))]),
        calls(vec![call("f", "list_sessions", json!({"session": id}))]),
        calls(vec![call("g", "message_session", json!({"session": id, "text": "x".repeat(32 * 1024 + 1)}))]),
        say("I give up."),
    ]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let results = stand.log.results();
    assert!(results.iter().all(|(_, outcome, _)| *outcome == ToolOutcome::Failed), "{results:?}");
    let wanted = [
        "Use one of: sample.",
        "budget_percent is 1 to 90",
        "one line",
        "list_sessions names",
        "timeout_seconds is 1 to 1800",
        "list_sessions names",
        "1 to 32768 bytes",
    ];
    for ((_, _, text), wanted) in results.iter().zip(wanted) {
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_stops_and_the_list_reach_the_named_session() {
    let id = child(1).to_string();
    let stand = stand(vec![
        spawn("a", json!({"prompt": "one"})),
        calls(vec![call(
            "m",
            "message_session",
            json!({"session": id, "text": "also this", "delivery": "insert"}),
        )]),
        calls(vec![call("l", "list_sessions", json!({}))]),
        calls(vec![call("c", "cancel_session", json!({"session": id}))]),
        say("Stopped it."),
    ]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let messages = stand.children.messages.lock().unwrap().clone();
    assert_eq!(messages, [(child(1), "also this".to_owned(), Delivery::Insert)]);
    assert_eq!(*stand.children.cancelled.lock().unwrap(), [child(1)]);
    let results = stand.log.results();
    assert!(
        results[2].2.contains("at work") && results[2].2.contains("Repositories: sample, other."),
        "{results:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_begun_there_are_no_such_tools() {
    let stand = Stand::new(vec![spawn("a", json!({"prompt": "one"})), say("Then I do it.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let (_, outcome, text) = stand.log.results().pop().unwrap();
    assert_eq!(outcome, ToolOutcome::Failed);
    assert!(text.starts_with("There is no tool named \"spawn_session\""), "{text}");
    assert!(stand.children.spawned.lock().unwrap().is_empty());
    let request = &stand.requests()[0];
    assert!(request.tools.iter().all(|tool| !tool.name.ends_with("_session")), "{:?}", request.tools);
    assert!(!request.system.contains("Other sessions"));
    let offered = self::stand(vec![say("No need.")]);
    offered.run().await;
    let request = &offered.requests()[0];
    assert!(request.system.contains("# Other sessions"));
    assert!(request.tools.iter().any(|tool| tool.name == "spawn_session"));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_to_other_sessions_is_not_there_for_the_turn() {
    let stand = stand(vec![spawn("a", json!({"prompt": "one"}))]);
    stand.children.promised.store(stand.budget.tokens - 100, Ordering::Relaxed);
    let TurnOutcome::BudgetReached { problem } = stand.run().await.outcome else { panic!("it went on") };
    assert!(problem.message.contains("100 tokens"), "{problem:?}");
}
