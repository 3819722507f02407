//! Requests keep a stable prefix, and the log gives the same conversation as the loop had; the prompt and the tools are
//! committed as text, so that every change of them is seen. `GREENROOM_UPDATE=1` rewrites the text.

mod support;

use greenroom_agent::prompt::system;
use greenroom_agent::tools::{Editing, definitions, offered};
use greenroom_agent::{Instructions, Port, Service, Skill, transcript};
use greenroom_domain::command::Delivery;
use greenroom_domain::event::{Entry, Event, TurnOutcome};
use greenroom_domain::message::{Content, Message, StopReason};
use greenroom_domain::person::Via;
use greenroom_domain::{Author, PersonId, PromptId};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use support::*;

/// Thirty steps with everything that adds messages: results, repairs, inserted prompts, cut and paused answers.
fn thirty_steps() -> Vec<Step> {
    let step = |n: usize| {
        let id = format!("c{n}");
        match n % 6 {
            0 => calls(vec![call(&id, "read", json!({"path": format!("f{n}")}))]),
            1 => calls(vec![call(&id, "bash", json!("{broken"))]),
            2 => Step::Answer(response(
                vec![Content::Text { text: format!("part {n}") }],
                StopReason::MaxTokens,
            )),
            3 => {
                Step::Answer(response(vec![Content::Text { text: format!("pause {n}") }], StopReason::Pause))
            }
            4 => calls(vec![
                bash(&id, "x"),
                call(&format!("{id}b"), "glob", json!({"pattern": format!("*{n}")})),
            ]),
            _ => Step::Answer(response(vec![bash(&id, "x")], StopReason::MaxTokens)),
        }
    };
    (0..30).map(step).chain([say("Done.")]).collect()
}

fn thirty_step_stand() -> Stand {
    let stand = Stand::new(thirty_steps());
    for n in 0..30 {
        stand.sandbox.put(&format!("/workspace/f{n}"), format!("{n}\n"));
    }
    stand.sandbox.prints("x", "out\n", 0);
    stand
}

#[tokio::test(start_paused = true)]
async fn each_request_extends_the_one_before_it() {
    let stand = thirty_step_stand();
    stand.log.inserts.lock().unwrap().extend([Vec::new(), vec!["Also this.".to_owned()]]);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let requests = stand.requests();
    assert_eq!(requests.len(), 31);
    for pair in requests.windows(2) {
        assert_eq!(pair[0].system, pair[1].system);
        assert_eq!(pair[0].tools, pair[1].tools);
        assert_eq!(pair[0].cache_key, pair[1].cache_key);
        let kept = pair[0].messages.len();
        assert!(pair[1].messages.len() > kept);
        assert_eq!(pair[1].messages[..kept], pair[0].messages[..]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_extends_the_last_request_of_this_one() {
    let stand = thirty_step_stand();
    stand.run().await;
    let sent = stand.requests().pop().unwrap().messages;
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    };
    let prompt = PromptId::from_parts(1, 1);
    let accepted = Event::PromptAccepted {
        prompt,
        author,
        text: "Do it.".to_owned(),
        delivery: Delivery::Queue,
        attachments: vec![],
    };
    let start = [
        accepted,
        Event::TurnStarted { turn: turn_id(), prompts: vec![prompt] },
        Event::ModelRequested { turn: turn_id(), model: "test/model".to_owned(), attempt: 1 },
    ];
    let events = start.into_iter().chain(stand.log.events());
    let entries: Vec<Entry> = events.map(|event| Entry { seq: 1, at_ms: 0, epoch: 1, event }).collect();
    let rebuilt = transcript(entries.iter(), &greenroom_agent::Material::default());
    assert_eq!(rebuilt[..sent.len()], sent[..]);
    assert!(matches!(&rebuilt[sent.len()..], [Message::Assistant { .. }]));
}

#[test]
fn the_system_prompt_and_the_tools_are_the_committed_ones() {
    let instructions = Instructions {
        agents_md: Some("Run `make check` before you finish.\n".to_owned()),
        skills: vec![Skill {
            name: "release".to_owned(),
            description: "How a release is made.".to_owned(),
            path: ".agents/skills/release/SKILL.md".to_owned(),
        }],
        notes: vec![],
        services: vec![Service {
            name: "database".to_owned(),
            command: "postgres -D data".to_owned(),
            log: "/var/log/greenroom/database.log".to_owned(),
        }],
        ports: vec![Port { port: 3000, name: "web".to_owned() }],
        can_spawn: true,
    };
    let mut text = system(&instructions);
    assert_eq!(text, system(&instructions));
    let patch = definitions(Editing::Patch).into_iter().filter(|tool| tool.name == "apply_patch");
    for tool in offered(Editing::Replace, &instructions).into_iter().chain(patch) {
        let _ = write!(text, "\n===== {} =====\n{}\n", tool.name, tool.description);
        text.push_str(&serde_json::to_string_pretty(&sorted(&tool.input_schema)).unwrap());
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prompt.snapshot.txt");
    if std::env::var_os("GREENROOM_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == committed,
        "the prompt changed; look at it and run again with GREENROOM_UPDATE=1:\n{text}"
    );
}

/// The order of keys depends on how serde_json was built.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[test]
fn instructions_are_bounded() {
    let instructions = Instructions { agents_md: Some("é".repeat(3_000_000)), ..Instructions::default() };
    let text = system(&instructions);
    assert!(text.len() < 80_000 && text.contains("AGENTS.md is longer"));
    let left_out = "AGENTS.md was left out: it is too large.".to_owned();
    let instructions = Instructions { notes: vec![left_out.clone(); 1_000], ..Instructions::default() };
    let text = system(&instructions);
    assert!(
        text.contains(&left_out) && text.matches(&left_out).count() == 20,
        "the agent is told, within bounds"
    );
    let nothing = system(&Instructions { agents_md: Some(" \n".to_owned()), ..Instructions::default() });
    assert_eq!(nothing, system(&Instructions::default()));
}
