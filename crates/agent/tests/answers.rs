//! What a model or its provider can do wrong, and what the turn does about it.

mod support;

use greenroom_domain::event::{Event, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_model::{Delta, Error, StreamEvent};
use serde_json::json;
use std::time::Duration;
use support::*;

fn problem(outcome: TurnOutcome) -> Problem {
    match outcome {
        TurnOutcome::Failed { problem } => problem,
        other => panic!("not failed: {other:?}"),
    }
}

fn limited(seconds: u64) -> Step {
    Step::Refuse(Error::RateLimited { retry_after: Some(Duration::from_secs(seconds)) })
}

fn answered(content: Vec<Content>, stop: StopReason) -> Step {
    Step::Answer(response(content, stop))
}

fn said(text: &str) -> Vec<Content> {
    vec![Content::Text { text: text.to_owned() }]
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_in_sight() {
    let stand = Stand::new(vec![limited(7), say("Done.")]);
    let finished = stand.run().await;
    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert!(finished.used.wall_ms >= 7_000);
    let events = stand.log.events();
    let Event::ModelRetry { attempt: 1, wait_ms: 7_000, problem, .. } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(problem.code, ErrorCode::ModelRateLimited);
    assert!(matches!(events[1], Event::ModelRequested { attempt: 2, .. }), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_wants_too_much_patience_fails_the_turn_at_once() {
    let stand = Stand::new(vec![limited(301)]);
    let finished = stand.run().await;
    assert!(finished.used.wall_ms < 1_000);
    assert!(problem(finished.outcome).message.contains("wait 6 minutes"));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_in_number_and_time() {
    let overloaded = || Step::Refuse(Error::Overloaded { status: 529, retry_after: None });
    let stand = Stand::new((0..8).map(|_| overloaded()).collect());
    assert!(problem(stand.run().await.outcome).message.contains("tried 8 times"));

    let stand = Stand::new((0..4).map(|_| limited(250)).collect());
    let finished = stand.run().await;
    assert!(finished.used.wall_ms <= 600_000);
    assert!(problem(finished.outcome).message.contains("tried 3 times"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_provider_can_be_stopped() {
    let stand = Stand::new(vec![limited(200)]);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().contains(&"model_retry".to_owned())).await;
    stand.cancel.cancel();
    let finished = running.await.unwrap().unwrap();
    assert_eq!(finished.outcome, TurnOutcome::Stopped);
    assert!(finished.used.wall_ms < 1_000);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_repeated_fails_in_words() {
    for (error, code) in [
        (Error::KeyRefused { status: 401 }, ErrorCode::ModelKeyRefused),
        (Error::ContextOverflow { message: "too long".to_owned() }, ErrorCode::ContextOverflow),
        (Error::Invalid { status: 400, message: "no".to_owned() }, ErrorCode::ModelRequestInvalid),
    ] {
        let stand = Stand::new(vec![Step::Refuse(error)]);
        assert_eq!(problem(stand.run().await.outcome).code, code);
        assert_eq!(stand.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_in_a_tool_call_is_withdrawn_and_asked_again() {
    let started =
        StreamEvent::Delta(Delta::ToolCallStarted { index: 1, id: "c1".to_owned(), name: "bash".to_owned() });
    let stand = Stand::new(vec![Step::Cut(vec![text(0, "Let me"), started]), say("Done.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let names = stand.log.names();
    assert_eq!(names[..4], ["block_opened", "block_reset", "model_retry", "model_requested"], "{names:?}");
    assert!(!names.contains(&"tool_started".to_owned()));
    assert_eq!(stand.requests()[0], stand.requests()[1]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_given_up_and_asked_again() {
    let stand = Stand::new(vec![Step::Hang(vec![text(0, "Hm")]), say("Done.")]);
    let finished = stand.run().await;
    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert!((600_000..700_000).contains(&finished.used.wall_ms));
    let names = stand.log.names();
    assert_eq!(names[..4], ["block_opened", "block_text", "block_reset", "model_retry"], "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn streamed_text_is_shown_at_once_and_written_in_pieces() {
    let words: Vec<StreamEvent> = (0..50).map(|n| text(0, &format!("{n} "))).collect();
    let stand = Stand::new(vec![Step::Hang(words)]);
    let running = stand.start();
    stand.log.wait_until(|log| log.names().contains(&"block_text".to_owned())).await;
    let texts: Vec<(u64, String)> = stand
        .log
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::BlockText { offset, text, .. } => Some((offset, text)),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [(0, (0..50).map(|n| format!("{n} ")).collect::<String>())]);
    let deltas = stand.log.deltas.lock().unwrap().clone();
    assert_eq!(deltas.len(), 50);
    assert_eq!((deltas[2].1, deltas[2].2.as_str()), (4, "2 "));
    stand.cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn broken_tool_json_is_repaired_by_the_model() {
    let stand = Stand::new(vec![
        calls(vec![call("c1", "bash", json!("{\"command\": \"x"))]),
        calls(vec![call("c2", "bsh", json!({"command": "x"}))]),
        calls(vec![call("c3", "bash", json!({"cmd": "x"}))]),
        calls(vec![bash("c4", "x")]),
        say("Done."),
    ]);
    stand.sandbox.prints("x", "fine", 0);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let results = stand.log.results();
    assert!(results[0].2.contains("not valid JSON"), "{}", results[0].2);
    assert!(results[1].2.contains("no tool named \"bsh\""), "{}", results[1].2);
    assert!(
        results[2].2.contains("unknown field `cmd`") && results[2].2.contains("command (string, required)")
    );
    assert_eq!(results[3].2, "fine");
    assert!(results[..3].iter().all(|result| result.1 == ToolOutcome::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_call_id_that_was_used_before_is_never_run() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "x")]), calls(vec![bash("c1", "x")]), say("Done.")]);
    stand.sandbox.prints("x", "once", 0);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(stand.sandbox.ran.lock().unwrap().len(), 1);
    assert!(stand.log.names().contains(&"model_retry".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_turn_in_words() {
    let stand = Stand::new(vec![answered(said("I can't help with that."), StopReason::Refusal)]);
    let problem = problem(stand.run().await.outcome);
    assert_eq!(problem.code, ErrorCode::ModelRefused);
    assert_eq!(problem.detail.as_deref(), Some("I can't help with that."));
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_at_the_output_limit_goes_on_in_smaller_steps() {
    let stand = Stand::new(vec![answered(said("First"), StopReason::MaxTokens), say("Done.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let Some(Message::User { text, .. }) = stand.requests()[1].messages.last().cloned() else {
        panic!("no words")
    };
    assert!(text.contains("smaller steps"), "{text}");

    let stand = Stand::new((0..4).map(|_| answered(said("More"), StopReason::MaxTokens)).collect());
    assert!(problem(stand.run().await.outcome).message.contains("output limit 4 times"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_call_cut_at_the_output_limit_is_not_run() {
    let stand = Stand::new(vec![answered(vec![bash("c1", "rm -rf")], StopReason::MaxTokens), say("Done.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert!(stand.sandbox.ran.lock().unwrap().is_empty());
    assert!(stand.told()[0].text.contains("cut off"), "{}", stand.told()[0].text);
}

#[tokio::test(start_paused = true)]
async fn a_paused_answer_is_asked_to_go_on_as_it_is() {
    let stand = Stand::new(vec![answered(said("Searching"), StopReason::Pause), say("Done.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert!(matches!(stand.requests()[1].messages.last(), Some(Message::Assistant { .. })));
}

#[tokio::test(start_paused = true)]
async fn empty_answers_are_questioned_and_then_fail() {
    let stand = Stand::new(vec![calls(vec![bash("c1", "x")]), say(""), say("Done.")]);
    stand.sandbox.prints("x", "", 0);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let Some(Message::User { text, .. }) = stand.requests()[2].messages.last().cloned() else {
        panic!("no words")
    };
    assert!(text.contains("empty"), "{text}");

    let stand = Stand::new(vec![say(""), say(" "), say("")]);
    assert!(problem(stand.run().await.outcome).message.contains("nothing 3 times"));
}

fn overloaded() -> Step {
    Step::Refuse(Error::Overloaded { status: 529, retry_after: None })
}

/// A stand whose model has another one behind it.
fn with_fallback(steps: Vec<Step>, next: Vec<Step>) -> (Stand, std::sync::Arc<Model>) {
    let mut stand = Stand::new(steps);
    let other = Model::new("other/model", next);
    stand.fallbacks = vec![other.clone()];
    (stand, other)
}

#[tokio::test(start_paused = true)]
async fn when_a_model_gives_out_the_next_one_goes_on_in_sight_and_no_tool_runs_again() {
    let first = vec![calls(vec![bash("c1", "x")]), overloaded(), overloaded(), overloaded()];
    let (stand, other) = with_fallback(first, vec![calls(vec![bash("c2", "y")]), say("Done.")]);
    stand.sandbox.prints("x", "once", 0);
    stand.sandbox.prints("y", "then", 0);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let asked = other.asked();
    assert_eq!(asked[0], stand.requests()[3], "it is asked what the other did not answer");
    assert_eq!(stand.sandbox.ran.lock().unwrap().len(), 2, "each call ran once");
    let events = stand.log.events();
    let at = events.iter().position(|event| matches!(event, Event::ModelFallback { .. })).unwrap();
    let Event::ModelFallback { from, to, problem, .. } = &events[at] else { unreachable!() };
    assert_eq!((from.as_str(), to.as_str()), ("test/model", "other/model"));
    assert_eq!(problem.code, ErrorCode::ModelOverloaded);
    assert!(problem.message.contains("tried 3 times"), "{}", problem.message);
    let Event::ModelRequested { model, attempt: 1, .. } = &events[at + 1] else { panic!("{events:?}") };
    assert_eq!(model, "other/model");
    let answered = events.iter().rev().find_map(|event| match event {
        Event::AssistantMessage { model, .. } => Some(model.as_str()),
        _ => None,
    });
    assert_eq!(answered, Some("other/model"));
}

#[tokio::test(start_paused = true)]
async fn a_key_a_quota_and_a_long_wait_hand_over_at_once_and_a_bad_request_does_not() {
    for error in [
        Error::KeyRefused { status: 401 },
        Error::OutOfCredit { message: "no credit".to_owned() },
        Error::RateLimited { retry_after: Some(Duration::from_secs(31)) },
    ] {
        let (stand, other) = with_fallback(vec![Step::Refuse(error)], vec![say("Done.")]);
        let finished = stand.run().await;
        assert_eq!(finished.outcome, TurnOutcome::Completed);
        assert!(finished.used.wall_ms < 1_000);
        assert_eq!(other.asked().len(), 1);
    }
    for error in [
        Error::Invalid { status: 400, message: "no".to_owned() },
        Error::ContextOverflow { message: "too long".to_owned() },
    ] {
        let (stand, other) = with_fallback(vec![Step::Refuse(error)], vec![]);
        problem(stand.run().await.outcome);
        assert!(other.asked().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_a_model_gave_out_is_withdrawn() {
    let cut = || Step::Cut(vec![text(0, "Let me")]);
    let (stand, _) = with_fallback(vec![cut(), cut(), cut()], vec![say("Done.")]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let names = stand.log.names();
    let count = |name: &str| names.iter().filter(|one| *one == name).count();
    assert_eq!((count("block_reset"), count("model_retry"), count("model_fallback")), (3, 2, 1));
    assert_eq!(count("assistant_message"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_model_of_a_chain_has_the_last_word() {
    let first = vec![Step::Refuse(Error::KeyRefused { status: 401 })];
    let (stand, _) = with_fallback(first, (0..8).map(|_| overloaded()).collect());
    assert!(problem(stand.run().await.outcome).message.contains("tried 8 times"));
}
