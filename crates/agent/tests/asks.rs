//! What is between a call and its run: rules, leave, questions, and nobody there.

mod support;

use greenroom_agent::{Material, Permissions, Transcript, Unattended};
use greenroom_domain::command::Delivery;
use greenroom_domain::event::{Entry, Event, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::permission::{Action, Rule};
use greenroom_domain::person::Via;
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Answer, AskId, Asked, Author, ErrorCode, PersonId, PromptId, QuestionAnswer};
use serde_json::{Value, json};
use std::time::Duration;
use support::*;

fn rule(permission: &str, pattern: &str, action: Action) -> Rule {
    Rule { permission: permission.into(), pattern: pattern.into(), action }
}

fn stand(steps: Vec<Step>, rules: Vec<Rule>) -> Stand {
    let permissions = Permissions { installation: rules, ..Permissions::default() };
    Stand { permissions, ..Stand::new(steps) }
}

fn answered(answer: Answer) -> AskEnd {
    AskEnd::Answered { answer, by: PersonId::from_parts(1, 1), name: "Ada".into() }
}

fn ends(stand: &Stand, ends: Vec<AskEnd>) {
    stand.log.ends.lock().unwrap().extend(ends);
}

fn question() -> Value {
    json!({"questions": [
        {"header": "Colour", "text": "Which colour?", "options": [{"label": "red"}, {"label": "blue"}]},
        {"header": "Why", "text": "Why?", "takes_text": true},
    ]})
}

fn ran(stand: &Stand) -> Vec<String> {
    stand.sandbox.ran.lock().unwrap().iter().map(|spec| spec.argv[2].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_and_the_model_goes_on_with_the_answer() {
    let stand = stand(vec![calls(vec![call("c1", "question", question())]), say("Red it is.")], vec![]);
    let answers = vec![
        QuestionAnswer { chosen: vec!["red".into()], text: None },
        QuestionAnswer { chosen: vec![], text: Some("It is warm.".into()) },
    ];
    ends(&stand, vec![answered(Answer::Chosen { answers })]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(stand.told()[0].text, "Ada answered.\n- Colour: red\n- Why: It is warm.");
    let asked = stand.log.asked.lock().unwrap().clone();
    assert!(
        matches!(&asked[..], [(call, Asked::Questions { questions })] if call == "c1" && questions.len() == 2)
    );
    // The call has begun only when it is answered: what waits is no run that a restart would cut off.
    let names = stand.log.names();
    let at = |wanted: &str| names.iter().position(|name| name == wanted).unwrap();
    assert!(at("assistant_message") < at("tool_started") && at("tool_started") + 1 == at("tool_finished"));
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_and_the_model_is_told_to_assume() {
    let stand = stand(vec![calls(vec![call("c1", "question", question())]), say("I took red.")], vec![]);
    ends(&stand, vec![AskEnd::Expired]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let told = &stand.told()[0];
    assert!(told.is_error && told.text.contains("nobody answered") && told.text.contains("best assumption"));
}

#[tokio::test(start_paused = true)]
async fn where_an_installation_says_so_nobodys_answer_ends_the_turn() {
    let mut stand = stand(vec![calls(vec![call("c1", "question", question()), bash("c2", "x")])], vec![]);
    stand.permissions.unattended = Unattended::EndTurn;
    ends(&stand, vec![AskEnd::Expired]);
    let outcome = stand.run().await.outcome;
    assert!(
        matches!(&outcome, TurnOutcome::Failed { problem } if problem.code == ErrorCode::Unattended),
        "{outcome:?}"
    );
    assert_eq!(stand.log.results().len(), 2, "every call has a result");
    assert_eq!(ran(&stand), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_question_that_breaks_its_bounds_is_put_to_nobody() {
    let bad = json!({"questions": [{"header": "x", "text": "no way to answer"}]});
    let stand = stand(vec![calls(vec![call("c1", "question", bad)]), say("Done.")], vec![]);
    stand.run().await;
    assert!(stand.told()[0].text.contains("takes_text"), "{}", stand.told()[0].text);
    assert_eq!(stand.log.asked.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_needs_leave_runs_once_it_is_given() {
    let rules = vec![rule("bash", "git push *", Action::Ask)];
    let stand = stand(vec![calls(vec![bash("c1", "cd x && git push origin")]), say("Done.")], rules);
    stand.sandbox.prints("cd x && git push origin", "pushed\n", 0);
    ends(&stand, vec![answered(Answer::Once {})]);
    stand.run().await;
    assert_eq!(stand.told()[0].text, "pushed");
    let asked = stand.log.asked.lock().unwrap().clone();
    let Asked::Permission { permission, title, subjects, grants } = &asked[0].1 else { panic!("{asked:?}") };
    assert_eq!((permission.as_str(), title.as_str()), ("bash", "Run `cd x && git push origin`"));
    assert_eq!(subjects, &["git push origin"]);
    assert_eq!(grants[0].pattern, "git push *");
}

#[tokio::test(start_paused = true)]
async fn once_asks_again_and_always_does_not() {
    let rules = vec![rule("bash", "git push *", Action::Ask)];
    let steps = (1..=4).map(|n| calls(vec![bash(&format!("c{n}"), &format!("git push {n}"))]));
    let stand = stand(steps.chain([say("Done.")]).collect(), rules);
    (1..=4).for_each(|n| stand.sandbox.prints(&format!("git push {n}"), "", 0));
    ends(&stand, vec![answered(Answer::Once {}), answered(Answer::Always {})]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(stand.log.asked.lock().unwrap().len(), 2);
    assert_eq!(ran(&stand).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_with_its_reason_and_nothing_runs() {
    let rules = vec![rule("bash", "*", Action::Ask), rule("edit", "*.lock", Action::Deny)];
    let steps = vec![
        calls(vec![
            bash("c1", "make"),
            bash("c2", "make"),
            call("c3", "write", json!({"path": "a.lock", "content": "x"})),
        ]),
        say("Done."),
    ];
    let stand = stand(steps, rules);
    let feedback = Some("use just".to_owned());
    ends(&stand, vec![answered(Answer::Deny { feedback }), AskEnd::Expired]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let told: Vec<String> = stand.told().into_iter().map(|result| result.text).collect();
    assert!(told[0].contains("Ada denied this call. They said: use just"), "{}", told[0]);
    assert!(told[1].contains("nobody answered in time"), "{}", told[1]);
    assert!(told[2].contains("the rules") && told[2].contains("`a.lock`"), "{}", told[2]);
    assert_eq!(ran(&stand), Vec::<String>::new());
    assert!(stand.log.results().iter().all(|(_, outcome, _)| *outcome == ToolOutcome::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_and_every_call_has_its_result() {
    let stand = stand(vec![calls(vec![call("c1", "question", question()), bash("c2", "x")])], vec![]);
    let running = stand.start();
    stand.log.wait_until(|log| !log.asked.lock().unwrap().is_empty()).await;
    stand.cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap().outcome, TurnOutcome::Stopped);
    let results = stand.log.results();
    assert!(results.len() == 2 && results.iter().all(|(_, outcome, _)| *outcome == ToolOutcome::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn the_turns_time_stands_still_while_it_waits_for_people() {
    let mut stand = stand(
        vec![calls(vec![call("c1", "question", question())]), calls(vec![bash("c2", "x")]), say("Done.")],
        vec![],
    );
    stand.sandbox.prints("x", "", 0);
    stand.budget.wall_ms = 60_000;
    *stand.log.thinking.lock().unwrap() = Duration::from_secs(3600);
    ends(&stand, vec![AskEnd::Expired]);
    let finished = stand.run().await;
    assert_eq!(finished.outcome, TurnOutcome::Completed);
    assert!(finished.used.wall_ms < 60_000);
}

#[tokio::test(start_paused = true)]
async fn a_tool_whose_every_use_is_denied_is_not_offered() {
    let rules = vec![rule("bash", "*", Action::Deny), rule("question", "*", Action::Deny)];
    let stand = stand(vec![calls(vec![bash("c1", "ls")]), say("Done.")], rules);
    stand.run().await;
    let offered: Vec<String> = stand.requests()[0].tools.iter().map(|tool| tool.name.clone()).collect();
    assert!(
        !offered.iter().any(|name| ["bash", "terminal", "question"].contains(&name.as_str())),
        "{offered:?}"
    );
    assert!(offered.contains(&"read".to_owned()));
    assert!(stand.told()[0].text.contains("deny `ls`"), "what calls it all the same is refused");
}

/// The log of a turn whose first call waits for people, and whose others wait behind it.
fn waiting(first: Content, others: &[Content], then: Vec<Event>) -> Transcript {
    let (turn, prompt) = (turn_id(), PromptId::from_parts(1, 1));
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".into(),
        email: "ada@example.org".into(),
    };
    let Content::ToolCall(asking) = first.clone() else { panic!("a call") };
    let of =
        Asked::Permission { permission: "bash".into(), title: "t".into(), subjects: vec![], grants: vec![] };
    let mut events = vec![
        Event::PromptAccepted {
            prompt,
            author,
            text: "Do it.".into(),
            delivery: Delivery::Queue,
            attachments: vec![],
        },
        Event::TurnStarted { turn, prompts: vec![prompt] },
        Event::ModelRequested { turn, model: "m".into(), attempt: 1 },
        Event::AssistantMessage {
            turn,
            content: [vec![first], others.to_vec()].concat(),
            blocks: vec![],
            raw: None,
            stop_reason: StopReason::ToolUse,
            usage: Usage::default(),
            model: "m".into(),
        },
        Event::AskOpened { turn, ask: AskId::from_parts(1, 1), call: asking.id, of, expires_at_ms: 0 },
    ];
    events.extend(then);
    events.push(Event::TurnInterrupted { turn, open_calls: vec![] });
    let entry = |(at, event)| Entry { seq: at as u64 + 1, at_ms: 0, epoch: 1, event };
    let entries: Vec<Entry> = events.into_iter().enumerate().map(entry).collect();
    Transcript::of(entries.iter(), &Material::default())
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_turn_waits_on_and_runs_what_waited() {
    let mut stand = stand(vec![say("Done.")], vec![rule("bash", "make", Action::Ask)]);
    stand.history = waiting(bash("c1", "make"), &[bash("c2", "ls")], vec![]);
    stand.sandbox.prints("make", "made\n", 0);
    stand.sandbox.prints("ls", "a\n", 0);
    ends(&stand, vec![answered(Answer::Once {})]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(stand.log.asked.lock().unwrap()[0].0, "c1");
    assert_eq!(ran(&stand), ["make", "ls"]);
    let told: Vec<String> = stand.told().into_iter().map(|result| result.text).collect();
    assert_eq!(told, ["made", "a"]);
    assert_eq!(stand.log.names().iter().filter(|name| *name == "model_requested").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_had_begun_before_a_restart_is_not_run_again() {
    let begun =
        Event::ToolStarted { turn: turn_id(), call: "c1".into(), name: "bash".into(), title: "t".into() };
    let mut stand = stand(vec![say("Done.")], vec![rule("bash", "make", Action::Ask)]);
    stand.history = waiting(bash("c1", "make"), &[], vec![begun]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    assert_eq!(ran(&stand), Vec::<String>::new());
    assert!(stand.told()[0].text.contains("outcome unknown"), "{}", stand.told()[0].text);
}
