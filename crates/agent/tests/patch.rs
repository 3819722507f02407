//! `apply_patch` against a sandbox of memory: all of a patch or nothing of it, and words for the model.

mod support;

use greenroom_agent::tools::{Editing, definitions};
use greenroom_domain::event::{Event, ToolDisplay};
use greenroom_domain::message::ToolResult;
use serde_json::json;
use std::sync::atomic::Ordering;
use support::*;

fn stand() -> Stand {
    let stand = Stand::new(Vec::new());
    stand.model.edits_by_patch.store(true, Ordering::Relaxed);
    stand
}

/// Runs the patches one after the other in one turn.
async fn told(stand: &Stand, bodies: &[&str]) -> Vec<ToolResult> {
    let before = stand.log.results().len();
    let steps = bodies.iter().enumerate().map(|(at, body)| {
        let patch = format!("*** Begin Patch\n{body}*** End Patch\n");
        calls(vec![call(&format!("p{before}_{at}"), "apply_patch", json!({"patch": patch}))])
    });
    stand.script(steps.chain([say("Done.")]).collect());
    stand.run().await;
    stand.told()
}

fn diffs(stand: &Stand) -> Vec<(String, String)> {
    let diff = |event| match event {
        Event::ToolFinished { display: Some(ToolDisplay::Diff { path, diff }), .. } => Some((path, diff)),
        _ => None,
    };
    stand.log.events().into_iter().filter_map(diff).collect()
}

#[test]
fn a_model_has_one_way_of_changing_parts_of_files() {
    let names = |editing| definitions(editing).into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    let (replace, patch) = (names(Editing::Replace), names(Editing::Patch));
    assert!(replace.contains(&"edit".to_owned()) && !replace.contains(&"apply_patch".to_owned()));
    assert!(!patch.contains(&"edit".to_owned()) && patch.contains(&"apply_patch".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn files_are_made_changed_moved_and_removed_by_one_patch() {
    let stand = stand();
    stand.sandbox.put("/workspace/a.py", "one\r\ntwo\r\n");
    stand.sandbox.put("/workspace/b.py", "x\ny\n");
    stand.sandbox.put("/workspace/c.py", "gone\n");
    let patch = "*** Update File: a.py\n@@\n one\n-two\n+2\n*** Update File: b.py\n*** Move to: lib/b.py\n@@ x\n-y\n+z\n\
                 *** Delete File: c.py\n*** Add File: d/e.py\n+new\n";
    let told = told(&stand, &[patch]).await;
    assert_eq!(told[0].text, "Done:\nM a.py\nR b.py -> lib/b.py\nD c.py\nA d/e.py");
    assert_eq!(stand.sandbox.text("/workspace/a.py"), "one\r\n2\r\n", "its line endings are kept");
    assert_eq!(stand.sandbox.text("/workspace/lib/b.py"), "x\nz\n");
    assert_eq!(stand.sandbox.text("/workspace/d/e.py"), "new\n");
    assert!(!stand.sandbox.has("/workspace/b.py") && !stand.sandbox.has("/workspace/c.py"));
    let (path, diff) = diffs(&stand).remove(0);
    assert_eq!(path, "a.py and 3 more");
    for line in ["-two", "+2", "-y", "+z", "-gone", "+new"] {
        assert!(diff.lines().any(|have| have == line), "{line} in {diff}");
    }
    let sent = stand.model.requests.lock().unwrap();
    assert!(sent[0].tools.iter().any(|tool| tool.name == "apply_patch"));
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_does_not_fit_changes_nothing() {
    let stand = stand();
    stand.sandbox.put("/workspace/a", "1\n");
    stand.sandbox.put("/workspace/b", "1\n");
    stand.sandbox.put("/workspace/c", "1\n");
    let first = "*** Update File: a\n-1\n+2\n";
    let bad = [
        "*** Update File: b\n-3\n+4\n",
        "*** Add File: b\n+x\n",
        "*** Delete File: none\n",
        "*** Update File: b\n*** Move to: c\n-1\n+2\n",
        "*** Update File: d/../a\n-1\n+2\n",
        "*** Update File: a\n-1\n+3\n",
        "*** Update File: b\n1\n",
    ];
    let patches: Vec<String> = bad.iter().map(|bad| format!("{first}{bad}")).collect();
    let told = told(&stand, &patches.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let reasons = [
        "are not in it",
        "exists already",
        "does not exist",
        "exists already",
        "without `..`",
        "twice",
        "does not begin with",
    ];
    for (told, reason) in told.iter().zip(reasons) {
        assert!(told.is_error && told.text.contains(reason), "{reason}: {}", told.text);
        assert!(told.text.starts_with("Nothing was changed"), "{}", told.text);
    }
    assert_eq!(
        (stand.sandbox.text("/workspace/a"), stand.sandbox.text("/workspace/b")),
        ("1\n".into(), "1\n".into())
    );
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_it_was_read_or_was_never_read_is_not_guessed() {
    let stand = stand();
    stand.sandbox.put("/workspace/a", "  x \n");
    let guess = "*** Update File: a\n-x\n+y\n";
    let unread = told(&stand, &[guess]).await;
    assert!(unread[0].text.contains("Read the file first"), "{}", unread[0].text);
    stand.script(vec![calls(vec![call("r", "read", json!({"path": "a"}))]), say("Done.")]);
    stand.run().await;
    stand.sandbox.put("/workspace/a", "  x  \n");
    let stale = told(&stand, &[guess]).await;
    assert!(stale.last().unwrap().text.contains("has changed since you read it"), "{stale:?}");
    assert_eq!(stand.sandbox.text("/workspace/a"), "  x  \n");
}

#[tokio::test(start_paused = true)]
async fn what_was_done_before_a_file_could_not_be_written_is_said() {
    let stand = stand();
    stand.sandbox.put("/workspace/a", "1\n");
    stand.sandbox.put("/workspace/b", "1\n");
    stand.sandbox.put("/workspace/c", "1\n");
    stand.sandbox.lock("/workspace/b");
    let both = "*** Update File: a\n-1\n+2\n*** Update File: b\n-1\n+2\n";
    let told = told(&stand, &[both, "*** Delete File: b\n", "*** Delete File: c\n"]).await;
    assert!(told[0].is_error && told[0].text.ends_with("stays:\nM a"), "{}", told[0].text);
    assert!(told[1].is_error && told[1].text.contains("rm: it is locked"), "{}", told[1].text);
    assert_eq!(told[2].text, "Done:\nD c");
    assert_eq!(stand.sandbox.text("/workspace/a"), "2\n");
    assert!(stand.sandbox.has("/workspace/b") && !stand.sandbox.has("/workspace/c"));
    assert_eq!(stand.sandbox.acknowledged.lock().unwrap().len(), 2, "each removal");
}
