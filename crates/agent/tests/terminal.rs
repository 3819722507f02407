//! `terminal` against a sandbox of memory, whose programs do what the test does. Time passes only when nothing else can
//! happen.

mod support;

use greenroom_domain::event::ToolOutcome;
use greenroom_domain::message::ToolResult;
use serde_json::{Value, json};
use std::time::Duration;
use support::*;

/// One turn with one call.
async fn used(stand: &Stand, id: &str, input: Value) -> ToolResult {
    stand.script(vec![calls(vec![call(id, "terminal", input)]), say("Done.")]);
    stand.run().await;
    stand.told().pop().unwrap()
}

async fn opened(stand: &Stand) -> OpenTerminal {
    loop {
        if let Some(terminal) = stand.sandbox.terminals.lock().unwrap().pop() {
            return terminal;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_is_typed_to_across_turns_and_told_to_end() {
    let stand = Stand::new(Vec::new());
    let program = async {
        let mut terminal = opened(&stand).await;
        assert_eq!(terminal.spec.argv, ["bash", "-c", "python3 -i"]);
        terminal.write("\x1b[1m>>> \x1b[0m").await;
        assert_eq!(terminal.reads().await, "1+1\n");
        terminal.write("1+1\r\n2\r\n>>> ").await;
        terminal
    };
    let model = async {
        let first = used(&stand, "c1", json!({"command": "python3 -i"})).await;
        assert_eq!(first.text, ">>>\n[Terminal 1 is open.]");
        let second = used(&stand, "c2", json!({"terminal": 1, "input": "1+1\n"})).await;
        assert_eq!(second.text, "1+1\n2\n>>>\n[Terminal 1 is open.]");
    };
    let (terminal, ()) = tokio::join!(program, model);
    let (closed, ()) =
        tokio::join!(used(&stand, "c3", json!({"terminal": 1, "close": true})), terminal.hangs_up());
    assert_eq!(closed.text, "[Terminal 1 is closed: the program was ended.]");
    let gone = used(&stand, "c4", json!({"terminal": 1})).await;
    assert!(gone.is_error && gone.text.contains("no terminal 1; open: none is"), "{}", gone.text);
    let shown = stand.log.outputs.lock().unwrap().clone();
    assert!(
        shown.iter().any(|(call, _, bytes)| call == "c2" && bytes.starts_with(b"1+1\n2")),
        "people see it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_look_waits_for_output_and_its_end_but_not_longer_than_asked() {
    let stand = Stand::new(Vec::new());
    let begun = tokio::time::Instant::now();
    let silent = used(&stand, "c1", json!({"command": "make", "wait_ms": 2_000})).await;
    assert_eq!(silent.text, "[Terminal 1 is open.]");
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "nothing was written");
    let terminal = opened(&stand).await;
    let late = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        terminal.write("half ").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        terminal.write("whole\r\n").await;
        terminal.exit(3).await;
    };
    let (told, ()) = tokio::join!(used(&stand, "c2", json!({"terminal": 1, "wait_ms": 300_000})), late);
    assert_eq!(told.text, "half whole\n[Terminal 1 is closed: the program ended with exit code 3.]");
    assert_eq!(stand.log.results().last().unwrap().1, ToolOutcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_looks_at_does_not_hold_the_program() {
    let stand = Stand::new(Vec::new());
    used(&stand, "c1", json!({"command": "serve", "wait_ms": 0})).await;
    let terminal = opened(&stand).await;
    for _ in 0..2_000 {
        terminal.write(&"x".repeat(1024)).await;
    }
    terminal.write("\nready\n").await;
    let told = used(&stand, "c2", json!({"terminal": 1})).await;
    assert!(
        told.text.starts_with("[") && told.text.contains("bytes before this were not kept"),
        "{}",
        &told.text[..80]
    );
    assert!(told.text.ends_with("ready\n[Terminal 1 is open.]"));
    assert!(told.text.len() < 60_000, "{}", told.text.len());
}

#[tokio::test(start_paused = true)]
async fn wrong_calls_are_answered_in_words_and_terminals_are_bounded() {
    let stand = Stand::new(Vec::new());
    let refused = [
        (json!({}), "either `command`"),
        (json!({"command": "a", "terminal": 1}), "either `command`"),
        (json!({"terminal": 7}), "no terminal 7"),
        (json!({"command": " "}), "1 to 100000 bytes"),
    ];
    for (at, (input, words)) in refused.into_iter().enumerate() {
        let told = used(&stand, &format!("r{at}"), input).await;
        assert!(told.is_error && told.text.contains(words), "{}", told.text);
    }
    for at in 0..8 {
        let told = used(&stand, &format!("o{at}"), json!({"command": "x", "wait_ms": 0})).await;
        assert!(!told.is_error, "{}", told.text);
    }
    let told = used(&stand, "more", json!({"command": "x"})).await;
    assert!(told.text.contains("8 terminals are open"), "{}", told.text);
    let long = used(&stand, "long", json!({"terminal": 1, "input": "x".repeat(70_000)})).await;
    assert!(long.text.contains("At most 65536 bytes"), "{}", long.text);
    for at in 0..4 {
        used(&stand, &format!("t{at}"), json!({"terminal": 2, "input": "x", "wait_ms": 0})).await;
    }
    let full = used(&stand, "full", json!({"terminal": 2, "input": "x", "wait_ms": 0})).await;
    assert!(full.text.contains("does not read"), "{}", full.text);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_whose_sandbox_was_lost_says_so() {
    let stand = Stand::new(Vec::new());
    used(&stand, "c1", json!({"command": "serve", "wait_ms": 0})).await;
    drop(opened(&stand).await);
    let told = used(&stand, "c2", json!({"terminal": 1})).await;
    assert!(told.is_error && told.text.contains("the sandbox ended"), "{}", told.text);
}
