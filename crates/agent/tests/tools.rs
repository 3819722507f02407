//! The tools against a sandbox of memory: bounds, stamps, line endings, words for the model.

mod support;

use greenroom_domain::event::{Event, ToolDisplay, TurnOutcome};
use greenroom_domain::message::ToolResult;
use serde_json::{Value, json};
use support::*;

/// Runs the calls one after the other in one turn, and gives what the model was told.
async fn told(stand: &Stand, inputs: &[(&str, Value)]) -> Vec<ToolResult> {
    let before = stand.log.results().len();
    let steps = inputs
        .iter()
        .enumerate()
        .map(|(at, (name, input))| calls(vec![call(&format!("c{before}_{at}"), name, input.clone())]));
    stand.script(steps.chain([say("Done.")]).collect());
    stand.run().await;
    stand.told()
}

fn displays(stand: &Stand) -> Vec<Option<ToolDisplay>> {
    let finished = |event| match event {
        Event::ToolFinished { display, .. } => Some(display),
        _ => None,
    };
    stand.log.events().into_iter().filter_map(finished).collect()
}

fn read(path: &str) -> (&'static str, Value) {
    ("read", json!({"path": path}))
}

fn edit(path: &str, old: &str, new: &str) -> (&'static str, Value) {
    ("edit", json!({"path": path, "old": old, "new": new}))
}

fn write(path: &str, content: &str) -> (&'static str, Value) {
    ("write", json!({"path": path, "content": content}))
}

#[tokio::test(start_paused = true)]
async fn lines_are_numbered_and_windows_say_where_to_go_on() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a.txt", (1..=3_000).map(|n| format!("line {n}\r\n")).collect::<String>());
    let window = ("read", json!({"path": "a.txt", "offset": 10, "limit": 2}));
    let past = ("read", json!({"path": "a.txt", "offset": 4_000}));
    let told = told(&stand, &[read("a.txt"), window, past, read("none"), read(".")]).await;
    assert!(told[0].text.starts_with("     1\tline 1\n"));
    assert!(told[0].text.ends_with("  2000\tline 2000\n[There is more. Go on with offset 2001.]"));
    assert_eq!(told[1].text, "    10\tline 10\n    11\tline 11\n[There is more. Go on with offset 12.]");
    assert_eq!(told[2].text, "/workspace/a.txt has only 3000 lines.");
    assert!(told[3].is_error && told[3].text.contains("/workspace/none does not exist"), "{}", told[3].text);
    assert_eq!(told[4].text, "/workspace is a directory with 1 entries:\na.txt\n");
}

#[tokio::test(start_paused = true)]
async fn binary_files_and_images_are_refused_in_words() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/x.bin", [1, 2, 0, 3]);
    stand.sandbox.put("/workspace/x.PNG", [1]);
    stand.sandbox.put("/workspace/empty", "");
    stand.sandbox.put("/workspace/latin", [b'a', 0xe9, b'\n']);
    let told = told(&stand, &[read("x.bin"), read("x.PNG"), read("empty"), read("latin")]).await;
    assert!(told[0].is_error && told[0].text.contains("binary"), "{}", told[0].text);
    assert!(told[1].is_error && told[1].text.contains("image"), "{}", told[1].text);
    assert_eq!(told[2].text, "/workspace/empty is empty.");
    assert_eq!(told[3].text, "     1\ta\u{fffd}\n");
}

#[tokio::test(start_paused = true)]
async fn long_lines_and_many_bytes_are_cut() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/long", "é".repeat(3_000_000));
    stand.sandbox.put("/workspace/wide", format!("{}\n", "x".repeat(1_000)).repeat(100));
    let told = told(&stand, &[read("long"), read("wide")]).await;
    assert!(told[0].text.len() < 10_000 && told[0].text.contains("[line cut at 2000 characters]"));
    assert!(told[1].text.len() <= 51_300, "{}", told[1].text.len());
    assert!(told[1].text.contains("Go on with offset"), "{}", &told[1].text[51_000..]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_shows_its_diff_and_keeps_line_endings_and_mark() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/dos.txt", "\u{feff}one\r\ntwo\r\nthree\r\n");
    let told = told(&stand, &[read("dos.txt"), edit("dos.txt", "two\nthree", "2\n2.5\n3")]).await;
    assert_eq!(told[1].text, "Edited /workspace/dos.txt.");
    assert_eq!(stand.sandbox.text("/workspace/dos.txt"), "\u{feff}one\r\n2\r\n2.5\r\n3\r\n");
    let Some(ToolDisplay::Diff { path, diff }) = displays(&stand)[1].clone() else { panic!("no diff") };
    assert_eq!(path, "dos.txt");
    assert_eq!(diff, "--- a/dos.txt\n+++ b/dos.txt\n@@ -1,3 +1,4 @@\n one\n-two\n-three\n+2\n+2.5\n+3\n");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changed_since_it_was_read_is_not_touched() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a", "1\n");
    told(&stand, &[read("a")]).await;
    stand.sandbox.put("/workspace/a", "2\n");
    let told = told(
        &stand,
        &[edit("a", "2", "3"), write("a", "3\n"), read("a"), edit("a", "2", "3"), edit("a", "3", "4")],
    )
    .await;
    assert!(told[0].text.contains("has changed since you read it"), "{}", told[0].text);
    assert!(told[1].text.contains("has changed since you read it"), "{}", told[1].text);
    assert!(!told[3].is_error && !told[4].is_error, "its own edit is not another's change: {told:?}");
    assert_eq!(stand.sandbox.text("/workspace/a"), "4\n");
}

#[tokio::test(start_paused = true)]
async fn a_file_never_read_is_edited_only_where_the_text_is_exact_and_never_replaced() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a", "  x  = 1\n");
    let told =
        told(&stand, &[write("a", "new"), edit("a", "x = 1", "x = 2"), edit("a", "x  = 1", "x  = 2")]).await;
    assert!(told[0].text.contains("Read it before"), "{}", told[0].text);
    assert!(told[1].text.contains("Read the file first"), "{}", told[1].text);
    assert_eq!(stand.sandbox.text("/workspace/a"), "  x  = 2\n");
}

#[tokio::test(start_paused = true)]
async fn a_lenient_edit_shows_the_model_what_it_did() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a", "if x:\n        y\n");
    let told = told(&stand, &[read("a"), edit("a", "if x:\n    y\n", "if z:\n    y\n")]).await;
    assert!(
        told[1].text.contains("blanks around lines are ignored") && told[1].text.contains("+if z:"),
        "{}",
        told[1].text
    );
}

#[tokio::test(start_paused = true)]
async fn edits_that_cannot_be_placed_say_why() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a", "x\nx\n");
    let all = ("edit", json!({"path": "a", "old": "x", "new": "y", "replace_all": true}));
    let told =
        told(&stand, &[read("a"), edit("a", "x", "y"), edit("a", "q", "y"), edit("b", "x", "y"), all]).await;
    assert!(told[1].text.contains("2 times (lines 1, 2)"), "{}", told[1].text);
    assert!(told[2].text.contains("`old` is not in the file"), "{}", told[2].text);
    assert!(told[3].text.contains("Use write to make it"), "{}", told[3].text);
    assert_eq!(told[4].text, "Edited /workspace/a in 2 places.");
}

#[tokio::test(start_paused = true)]
async fn a_new_file_is_shown_as_a_diff_from_nothing() {
    let stand = Stand::new(Vec::new());
    let told = told(&stand, &[write("src/new.py", "a\nb\n"), write("src/new.py", "a\nc\n")]).await;
    assert_eq!(told[0].text, "Made /workspace/src/new.py (2 lines).");
    assert_eq!(told[1].text, "Replaced /workspace/src/new.py (2 lines).");
    let Some(ToolDisplay::Diff { diff, .. }) = displays(&stand)[0].clone() else { panic!("no diff") };
    assert_eq!(diff, "--- /dev/null\n+++ b/src/new.py\n@@ -0,0 +1,2 @@\n+a\n+b\n");
}

#[tokio::test(start_paused = true)]
async fn long_output_keeps_both_ends_and_the_rest_in_a_file() {
    let stand = Stand::new(Vec::new());
    let output: String = (0..6_000).map(|n| format!("line {n}\n")).collect();
    stand.sandbox.prints("many", &output, 3);
    let told = told(&stand, &[("bash", json!({"command": "many"})), read("/tmp/greenroom/c0_0.txt")]).await;
    let text = &told[0].text;
    assert!(text.starts_with("line 0\n") && text.ends_with("line 5999\n[exit code 3]"));
    assert!(text.contains("left out. All of it is in /tmp/greenroom/c0_0.txt"));
    assert!(text.lines().count() <= 2_002 && text.len() <= 52_000);
    assert!(told[1].text.starts_with("     1\tline 0\n"));
    let Some(ToolDisplay::Command { exit_code, is_truncated, output, .. }) = displays(&stand)[0].clone()
    else {
        panic!("no command")
    };
    assert_eq!((exit_code, is_truncated), (Some(3), true));
    assert!(output.len() <= 32 * 1024 && output.ends_with("line 5999\n"));
}

#[tokio::test(start_paused = true)]
async fn searches_say_when_nothing_matches() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.put("/workspace/a.py", "x = 1\n");
    let grep = |pattern: &str| ("grep", json!({"pattern": pattern}));
    let glob = |pattern: &str| ("glob", json!({"pattern": pattern}));
    let told = told(&stand, &[grep("x ="), grep("none"), glob("*.py"), glob("*.rs")]).await;
    let texts: Vec<&str> = told.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(texts, ["/workspace/a.py:1:x = 1", "No line matches.", "/workspace/a.py", "No file matches."]);
}

#[tokio::test(start_paused = true)]
async fn live_output_is_shown_while_the_command_runs() {
    let stand = Stand::new(Vec::new());
    stand.sandbox.prints("x", "hello\n", 0);
    told(&stand, &[("bash", json!({"command": "x"}))]).await;
    assert_eq!(*stand.log.outputs.lock().unwrap(), [("c0_0".to_owned(), 0, b"hello\n".to_vec())]);
}

fn publish(id: &str, path: &str) -> Step {
    calls(vec![call(id, "publish", json!({"path": path, "title": "The report"}))])
}

#[tokio::test(start_paused = true)]
async fn a_published_file_is_read_whole_and_said_in_the_log() {
    let stand = Stand::new(vec![publish("c1", "out/report.txt"), say("Done.")]);
    let text = "x".repeat(1_200_000);
    stand.sandbox.put("/workspace/out/report.txt", &text);
    assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
    let kept = stand.artifacts.kept.lock().unwrap().clone();
    assert_eq!(kept, [("/workspace/out/report.txt".to_owned(), text.into_bytes())]);
    let published = stand.log.events().into_iter().find_map(|event| match event {
        Event::ArtifactPublished { call, file, title, .. } => Some((call, file.bytes, title)),
        _ => None,
    });
    assert_eq!(published, Some(("c1".to_owned(), 1_200_000, "The report".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_empty_too_large_or_no_file_is_not_published() {
    for (path, says) in [
        ("gone", "does not exist"),
        ("empty", "is empty"),
        ("large", "more than 1500000 bytes"),
        ("dir", "no plain file"),
    ] {
        let stand = Stand::new(vec![publish("c1", path), say("Done.")]);
        stand.sandbox.put("/workspace/empty", "");
        stand.sandbox.put("/workspace/large", vec![b'x'; 1_500_001]);
        stand.sandbox.put("/workspace/dir/file", "x");
        assert_eq!(stand.run().await.outcome, TurnOutcome::Completed);
        assert!(stand.told()[0].text.contains(says), "{}", stand.told()[0].text);
        assert!(stand.artifacts.kept.lock().unwrap().is_empty() && stand.told()[0].is_error, "{path}");
    }
}
