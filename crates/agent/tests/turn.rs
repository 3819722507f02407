//! The loop with a scripted model: tools, stops, limits and losses.

mod support;

use greenroom_domain::event::{Durability, Event, StartStage, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::ExitReason;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::*;
use tokio::sync::Barrier;

#[tokio::test(start_paused = true)]
async fn a_turn_reads_edits_checks_and_proposes() {
    let stand = Stand::new(vec![
        calls(vec![call("c1", "read", json!({"path": "x.py"}))]),
        calls(vec![call("c2", "edit", json!({"path": "x.py", "old": "1", "new": "2"}))]),
        calls(vec![bash("c3", "test")]),
        calls(vec![call("c4", "open_change", json!({"title": "Fix it", "body": "why"}))]),
        say("It works now."),
    ]);
    stand.sandbox.put("/workspace/x.py", "a = 1\n");
    stand.sandbox.prints("test", "OK\n", 0);
    let finished = stand.run().await;

    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert_eq!((finished.used.usage.requests, finished.used.tool_calls), (5, 4));
    assert_eq!(stand.sandbox.text("/workspace/x.py"), "a = 2\n");
    let told: Vec<String> = stand.told().into_iter().map(|result| result.text).collect();
    assert_eq!(told[0], "     1\ta = 1\n");
    assert_eq!(told[2], "OK");
    assert!(told[3].contains("#7 “Fix it” is open: http://localhost/changes/7"), "{}", told[3]);
    assert_eq!(*stand.log.marks.lock().unwrap(), [StartStage::ModelCalled, StartStage::FirstToken]);
    let spec = stand.sandbox.ran.lock().unwrap()[0].clone();
    assert!(spec.env.contains(&("GIT_AUTHOR_NAME".to_owned(), "Ada".to_owned())));
    assert_eq!((spec.call.as_str(), spec.cwd.as_str()), ("c3", "/workspace"));
    assert_eq!(*stand.sandbox.acknowledged.lock().unwrap(), ["c3"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_step_follows_from_is_durable_before_it() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "x")]), say("Done.")]);
    stand.sandbox.prints("x", "", 0);
    stand.run().await;
    let commits = stand.log.commits.lock().unwrap().clone();
    let commits: Vec<(Vec<String>, Durability)> = commits
        .into_iter()
        .map(|(events, durability)| (events.iter().map(name).collect(), durability))
        .collect();
    let synced: Vec<&Vec<String>> = commits
        .iter()
        .filter(|(_, durability)| *durability == Durability::Synced)
        .map(|(events, _)| events)
        .collect();
    assert_eq!(synced[0], &["assistant_message", "tool_started"]);
    assert_eq!(synced[1], &["tool_finished", "model_requested"]);
    // Viewers are shown text of blocks that they know of.
    assert_eq!(synced[2], &["block_opened"]);
    assert_eq!(synced[3], &["assistant_message"]);
    assert_eq!(synced.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn reads_overlap_and_keep_the_call_order() {
    let barrier = Arc::new(Barrier::new(3));
    let read_only = |id: &str| call(id, "bash", json!({"command": id, "read_only": true}));
    let stand = Stand::new(vec![calls(vec![read_only("a"), read_only("b"), read_only("c")]), say("Done.")]);
    for id in ["a", "b", "c"] {
        stand.sandbox.teach(id, Behaviour::Meets(barrier.clone()));
    }
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let told = stand.told();
    assert_eq!(told.iter().map(|result| result.call.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(told.iter().all(|result| !result.is_error), "{told:?}");
    let started = stand.log.commits.lock().unwrap()[0].0.iter().map(name).collect::<Vec<_>>();
    assert_eq!(started, ["assistant_message", "tool_started", "tool_started", "tool_started"]);
}

#[tokio::test(start_paused = true)]
async fn writes_never_overlap() {
    let stand = Stand::new(vec![calls(vec![bash("1", "a"), bash("2", "b"), bash("3", "c")]), say("Done.")]);
    for command in ["a", "b", "c"] {
        stand.sandbox.prints(command, command, 0);
    }
    stand.run().await;
    assert_eq!(stand.sandbox.most_active.load(Ordering::SeqCst), 1);
    let ran: Vec<String> = stand.sandbox.ran.lock().unwrap().iter().map(|spec| spec.call.clone()).collect();
    assert_eq!(ran, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_run_at_most_eight_at_once() {
    let read_only =
        |n: usize| call(&format!("c{n}"), "bash", json!({"command": format!("x{n}"), "read_only": true}));
    let stand = Stand::new(vec![calls((0..100).map(read_only).collect()), say("Done.")]);
    for n in 0..100 {
        stand.sandbox.prints(&format!("x{n}"), "", 0);
    }
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(stand.sandbox.most_active.load(Ordering::SeqCst), 8);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_mid_stream_keeps_what_was_said() {
    let stand = Stand::new(vec![Step::Hang(vec![text(0, "I will "), text(0, "now")])]);
    let running = stand.start();
    stand.log.wait_until(|log| log.deltas.lock().unwrap().len() == 2).await;
    stand.cancel.cancel();
    let finished = running.await.unwrap().unwrap();
    assert_eq!(finished.outcome, TurnOutcome::Stopped);
    let Some(Event::AssistantMessage { content, stop_reason, raw, blocks, .. }) = stand.log.events().pop()
    else {
        panic!("no message");
    };
    assert_eq!(content, [Content::Text { text: "I will now".to_owned() }]);
    assert_eq!((stop_reason, raw, blocks.len()), (StopReason::Other, None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_running_command_and_answers_every_call() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "long"), bash("c2", "never")])]);
    stand.sandbox.teach("long", Behaviour::Runs { output: "half\n".to_owned() });
    let running = stand.start();
    stand.log.wait_until(|log| !log.outputs.lock().unwrap().is_empty()).await;
    stand.cancel.cancel();
    let finished = running.await.unwrap().unwrap();
    assert_eq!(finished.outcome, TurnOutcome::Stopped);
    assert_eq!(*stand.sandbox.cancelled.lock().unwrap(), ["c1"]);
    let results = stand.log.results();
    assert_eq!(results[0].0, "c1");
    assert_eq!(results[0].1, ToolOutcome::Cancelled);
    assert!(
        results[0].2.starts_with("half\n") && results[0].2.contains("stopped by a person"),
        "{}",
        results[0].2
    );
    assert_eq!((results[1].0.as_str(), results[1].1), ("c2", ToolOutcome::Cancelled));
    assert!(results[1].2.contains("not run"), "{}", results[1].2);
    assert_eq!(stand.sandbox.ran.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_leaves_an_unknown_outcome_and_the_next_call_gets_another() {
    let stand =
        Stand::new(vec![calls(vec![bash("c1", "boom")]), calls(vec![bash("c2", "again")]), say("Done.")]);
    stand.sandbox.teach("boom", Behaviour::Dies);
    let second = Arc::new(FakeSandbox::default());
    second.prints("again", "fine", 0);
    stand.hands.sandboxes.lock().unwrap().push_back(Ok(second));
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let results = stand.log.results();
    assert_eq!(results[0].1, ToolOutcome::Unknown);
    assert!(results[0].2.contains("outcome unknown"), "{}", results[0].2);
    assert_eq!((results[1].1, results[1].2.as_str()), (ToolOutcome::Succeeded, "fine"));
}

#[tokio::test(start_paused = true)]
async fn without_a_sandbox_the_turn_fails_with_the_reason() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "a"), bash("c2", "b")])]);
    let problem = Problem::new(ErrorCode::SandboxFailed, "The sandbox could not be claimed.");
    *stand.hands.sandboxes.lock().unwrap() = [Err(problem.clone())].into();
    assert_eq!(stand.run().await.outcome, TurnOutcome::Failed { problem });
    let outcomes: Vec<ToolOutcome> = stand.log.results().into_iter().map(|result| result.1).collect();
    assert_eq!(outcomes, [ToolOutcome::Failed, ToolOutcome::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn a_reached_token_limit_ends_the_turn_before_the_next_call() {
    let mut stand = Stand::new(vec![calls(vec![bash("c1", "x")])]);
    stand.budget.tokens = 110;
    let TurnOutcome::BudgetReached { problem } = stand.run().await.outcome else { panic!("not reached") };
    assert_eq!(problem.message, "The turn reached its limit of 110 tokens (110 used).");
    let results = stand.log.results();
    assert!(results[0].2.contains("was not run") && results[0].2.contains("110 tokens"), "{}", results[0].2);
    assert!(stand.sandbox.ran.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_tool_calls_stops_the_call_after_it_and_not_the_last_words() {
    let steps = || vec![calls(vec![bash("c1", "x")]), say("Done.")];
    let mut stand = Stand::new(steps());
    stand.budget.tool_calls = 1;
    stand.sandbox.prints("x", "", 0);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);

    let mut stand = Stand::new(vec![calls(vec![bash("c1", "x"), bash("c2", "x")])]);
    stand.budget.tool_calls = 1;
    stand.sandbox.prints("x", "", 0);
    let TurnOutcome::BudgetReached { problem } = stand.run().await.outcome else { panic!("not reached") };
    assert!(problem.message.contains("1 tool calls (1 made)"), "{}", problem.message);
    assert_eq!(stand.log.results().len(), 2);
    assert_eq!(stand.sandbox.ran.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_ends_a_silent_stream_and_a_running_command() {
    let mut stand = Stand::new(vec![Step::Hang(vec![text(0, "Hm")])]);
    stand.budget.wall_ms = 30_000;
    let TurnOutcome::BudgetReached { problem } = stand.run().await.outcome else { panic!("not reached") };
    assert!(problem.message.contains("30 s of time"), "{}", problem.message);

    let mut stand = Stand::new(vec![calls(vec![bash("c1", "long")])]);
    stand.budget.wall_ms = 30_000;
    stand.sandbox.teach("long", Behaviour::Runs { output: String::new() });
    assert!(matches!(stand.run().await.outcome, TurnOutcome::BudgetReached { .. }));
    assert_eq!(*stand.sandbox.cancelled.lock().unwrap(), ["c1"]);
    assert_eq!(stand.log.results()[0].1, ToolOutcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_log_ends_the_turn_at_once() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "x")])]);
    stand.log.fenced_after.store(0, Ordering::Relaxed);
    assert!(stand.try_run().await.is_err());
    assert!(stand.sandbox.ran.lock().unwrap().is_empty(), "an intent that is not durable must not run");
}

#[tokio::test(start_paused = true)]
async fn inserted_prompts_follow_the_tool_results() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "x")]), say("Done.")]);
    stand.sandbox.prints("x", "out", 0);
    stand.log.inserts.lock().unwrap().push_back(vec!["Use tabs.".to_owned(), "And hurry.".to_owned()]);
    stand.run().await;
    let requests = stand.requests();
    let [.., Message::ToolResults { .. }, Message::User { text, .. }] = requests[1].messages.as_slice()
    else {
        panic!("{:?}", requests[1].messages);
    };
    assert_eq!(text, "Use tabs.\n\nAnd hurry.");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_ends_at_its_limit_leaves_waiting_prompts_to_the_next_one() {
    let mut stand = Stand::new(vec![calls(vec![bash("c1", "x"), bash("c2", "x")])]);
    stand.budget.tool_calls = 1;
    stand.sandbox.prints("x", "out", 0);
    stand.log.inserts.lock().unwrap().push_back(vec!["Wait for me.".to_owned()]);
    assert!(matches!(stand.run().await.outcome, TurnOutcome::BudgetReached { .. }));
    assert_eq!(stand.log.inserts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_call_three_times_in_a_row_is_answered_with_advice() {
    let same = |id: &str| calls(vec![bash(id, "x")]);
    let stand = Stand::new(vec![
        same("c1"),
        same("c2"),
        same("c3"),
        calls(vec![bash("c4", "y")]),
        same("c5"),
        say(""),
    ]);
    stand.script(vec![say("Done.")]);
    stand.sandbox.prints("x", "no", 1);
    stand.sandbox.prints("y", "yes", 0);
    stand.run().await;
    let results = stand.log.results();
    assert_eq!(results[1].2, "no\n[exit code 1]");
    assert!(results[2].2.contains("3 times in a row"), "{}", results[2].2);
    assert_eq!(results[4].2, "no\n[exit code 1]");
    assert_eq!(stand.sandbox.ran.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn endings_of_commands_are_told_in_words() {
    let endings = [
        ("signal", ExitReason::Signal { signal: 9 }, "[killed by signal 9]"),
        ("slow", ExitReason::TimedOut, "[killed after 120000 ms: the time limit."),
        ("oom", ExitReason::OutOfMemory, "memory limit"),
        ("missing", ExitReason::NotStarted { errno: 2 }, "could not be started"),
    ];
    let steps =
        endings.iter().map(|(name, ..)| calls(vec![bash(name, name)])).chain([say("Done.")]).collect();
    let stand = Stand::new(steps);
    for (name, reason, _) in &endings {
        stand.sandbox.teach(name, Behaviour::Ends { output: "some\n".to_owned(), reason: *reason });
    }
    stand.run().await;
    for ((_, _, words), result) in endings.iter().zip(stand.told()) {
        assert!(result.is_error && result.text.contains(words), "{}", result.text);
        assert!(result.text.starts_with("some\n"), "{}", result.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_opened_is_told_to_the_model() {
    let open = call("c1", "open_change", json!({"title": "Nothing", "body": ""}));
    let stand = Stand::new(vec![calls(vec![open]), say("Nothing to do.")]);
    stand.run().await;
    let told = stand.told();
    assert!(told[0].is_error && told[0].text.contains("There is nothing to propose."), "{}", told[0].text);
}

#[tokio::test(start_paused = true)]
async fn the_todo_list_is_an_event_beside_its_result() {
    let items =
        json!({"items": [{"text": "Look", "status": "done"}, {"text": "Fix", "status": "in_progress"}]});
    let stand = Stand::new(vec![calls(vec![call("c1", "todo", items)]), say("Done.")]);
    stand.run().await;
    assert_eq!(stand.told()[0].text, "1 of 2 done.");
    let names = stand.log.names();
    let at = names.iter().position(|name| name == "todo_changed").expect("the list changed");
    assert_eq!(names[at + 1], "tool_finished");
}
