//! Whole turns over every wire protocol with every fault between two steps: the right retry or the right words, and no tool
//! runs twice. Only the waits are shorter than in life.

mod support;

use async_trait::async_trait;
use greenroom_agent::{Clock, Finished, TurnContext, run};
use greenroom_domain::ErrorCode;
use greenroom_domain::event::{Event, TurnOutcome};
use greenroom_domain::message::StopReason;
use greenroom_model::testing::{Fault, Turn, WireServer, WireServerOptions};
use greenroom_model::{EndpointOptions, ProviderKind, connect_with};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Stand, turn_id};

const FASTER: u32 = 100;

/// A hundred seconds to the second.
#[derive(Debug)]
struct Hurried(Instant);

#[async_trait]
impl Clock for Hurried {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap() * i64::from(FASTER)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / FASTER).await;
    }
}

struct Ran {
    stand: Stand,
    finished: Finished,
    requests: usize,
}

/// A call that must run once, then what goes wrong, then the end.
async fn turn_with(kind: ProviderKind, fault: Turn) -> Ran {
    let server = WireServer::start(WireServerOptions::default()).await.unwrap();
    server.push(Turn::text("First.").and_call("c1", "bash", &json!({"command": "effect"})));
    server.push(fault);
    server.push(Turn::text("Done."));
    let stand = Stand::new(vec![]);
    stand.sandbox.prints("effect", "made", 0);
    let options = EndpointOptions { silence_timeout: Duration::from_secs(1), ..server.endpoint_options() };
    let context = TurnContext {
        provider: connect_with(&server.config(kind), None, options).unwrap(),
        clock: Arc::new(Hurried(Instant::now())),
        ..stand.context()
    };
    let limit = Duration::from_secs(60);
    let finished = tokio::time::timeout(limit, run(turn_id(), context)).await.unwrap().unwrap();
    Ran { stand, finished, requests: server.requests().len() }
}

async fn in_each_protocol(fault: Turn, check: impl Fn(ProviderKind, &Ran)) {
    let turns = ProviderKind::ALL.map(|kind| turn_with(kind, fault.clone()));
    for (kind, ran) in ProviderKind::ALL.into_iter().zip(futures::future::join_all(turns).await) {
        let commands: Vec<_> =
            ran.stand.sandbox.ran.lock().unwrap().iter().map(|spec| format!("{spec:?}")).collect();
        assert_eq!(commands.len(), 1, "{kind:?}: only the first call runs, and once: {commands:?}");
        check(kind, &ran);
    }
}

fn retries(ran: &Ran) -> Vec<(ErrorCode, u64)> {
    let events = ran.stand.log.events();
    let retry = |event: &Event| match event {
        Event::ModelRetry { problem, wait_ms, .. } => Some((problem.code, *wait_ms)),
        _ => None,
    };
    events.iter().filter_map(retry).collect()
}

async fn is_asked_again(fault: Turn, code: ErrorCode, wait_ms: u64) {
    in_each_protocol(fault, |kind, ran| {
        assert_eq!(ran.finished.outcome, TurnOutcome::Completed, "{kind:?}");
        assert_eq!(retries(ran), [(code, wait_ms)], "{kind:?}");
        assert_eq!(ran.requests, 3, "{kind:?}");
    })
    .await;
}

fn words() -> Turn {
    Turn::text("one two three four")
}

#[tokio::test]
async fn limits_and_overload_are_waited_out() {
    is_asked_again(Turn::fault(Fault::rate_limited("7")), ErrorCode::ModelRateLimited, 7_000).await;
    is_asked_again(Turn::fault(Fault::overloaded()), ErrorCode::ModelOverloaded, 2_000).await;
    let inside = words().with_fault(Fault::error_event("overloaded_error", "Overloaded"));
    is_asked_again(inside, ErrorCode::ModelOverloaded, 2_000).await;
}

#[tokio::test]
async fn what_breaks_off_is_asked_again_and_nothing_of_it_is_run() {
    let broken = ErrorCode::ModelStreamBroken;
    is_asked_again(words().with_fault(Fault::CutInText), broken, 2_000).await;
    let call = words().and_call("c2", "bash", &json!({"command": "rm -rf build/old"}));
    is_asked_again(call.clone().with_fault(Fault::CutInCall), broken, 2_000).await;
    is_asked_again(call.with_fault(Fault::NoFinalEvent), broken, 2_000).await;
    is_asked_again(words().with_fault(Fault::BrokenEventJson), broken, 2_000).await;
    is_asked_again(words().with_fault(Fault::NotEvents), broken, 2_000).await;
    is_asked_again(words().with_fault(Fault::Silence), broken, 2_000).await;
}

#[tokio::test]
async fn a_second_beginning_is_broken_where_there_is_a_first() {
    in_each_protocol(words().with_fault(Fault::DuplicateStart), |kind, ran| {
        assert_eq!(ran.finished.outcome, TurnOutcome::Completed, "{kind:?}");
        let has_beginning = matches!(kind, ProviderKind::Anthropic | ProviderKind::Openai);
        assert_eq!(ran.requests, if has_beginning { 3 } else { 2 }, "{kind:?}");
    })
    .await;
}

#[tokio::test]
async fn a_call_that_the_output_limit_cut_is_never_run() {
    let cut = words()
        .and_call("c2", "bash", &json!({"command": "rm -rf build/old"}))
        .with_fault(Fault::MaxTokensInCall);
    in_each_protocol(cut, |kind, ran| {
        assert_eq!(ran.finished.outcome, TurnOutcome::Completed, "{kind:?}");
        assert_eq!((retries(ran), ran.requests), (vec![], 3), "{kind:?}");
    })
    .await;
}

#[tokio::test]
async fn refusals_and_what_cannot_be_repeated_end_in_the_right_words() {
    let without_tools = Fault::status(400, "invalid_request_error", "gemma:2b does not support tools");
    for (fault, code) in [
        (Turn::text("I will not.").with_stop(StopReason::Refusal), ErrorCode::ModelRefused),
        (Turn::fault(Fault::key_refused()), ErrorCode::ModelKeyRefused),
        (Turn::fault(without_tools), ErrorCode::ModelWithoutTools),
        (
            Turn::fault(Fault::status(402, "billing_error", "Insufficient credits")),
            ErrorCode::ModelOutOfCredit,
        ),
        (
            Turn::fault(Fault::status(404, "not_found_error", "model: nothing-1")),
            ErrorCode::ModelRequestInvalid,
        ),
    ] {
        in_each_protocol(fault, |kind, ran| {
            let TurnOutcome::Failed { problem } = &ran.finished.outcome else {
                panic!("{kind:?}: {:?}", ran.finished.outcome)
            };
            assert_eq!((problem.code, ran.requests), (code, 2), "{kind:?}");
            assert!(problem.message.ends_with('.'), "{kind:?}: {}", problem.message);
        })
        .await;
    }
}
