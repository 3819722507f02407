//! A session leaves one installation as a file and goes on in another, with other people.

use crate::support::{
    Model, NO_STEPS, Server, assert_problem, bash, call, git, outcomes, path_text, repository,
};
use greenroom_client::new_key;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Command, Entry, Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::{Value, json};
use std::path::Path;

const NOTE: &str = "remember the milk";

fn model() -> Model {
    Model::new(|asked| {
        // Where several people prompt, each prompt says who; what a prompt's file says comes last.
        let (_, prompt) = asked.prompt.rsplit_once("] ").unwrap_or(("", &asked.prompt));
        match (prompt == "propose" || prompt.starts_with("note.txt:"), asked.step) {
            (true, 0) => bash("printf 'b\\n' > b.txt; printf '<b>report</b>' > report.html"),
            (true, 1) => call("publish", &json!({"path": "report.html", "title": "The report"})),
            (true, 2) => bash("rm report.html"),
            (true, 3) => call("open_change", &json!({"title": "Add b", "body": "It was missing."})),
            (false, 0) if prompt.starts_with("run ") => bash(prompt.trim_start_matches("run ")),
            _ => Turn::text("done"),
        }
    })
}

/// An installation with this repository and a model of its own.
fn installation(source: &Path) -> (Server, Model) {
    let (server, model) = (Server::start(), model());
    server.use_model(&model);
    server.cli(&["repository", "add", "sample", path_text(source), "--wait"]);
    (server, model)
}

fn prompt(server: &Server, token: &str, session: SessionId, text: &str) -> Vec<Entry> {
    let command =
        Command::Prompt { text: text.to_owned(), delivery: Default::default(), attachments: vec![] };
    let receipt = server.wait(server.client_as(token).submit(session, &new_key(), &command)).unwrap();
    assert!(receipt.problem.is_none(), "{receipt:?}");
    server.settled(session)
}

/// What people read of it: who asked what, and what was answered, done and published.
fn conversation(log: &[Entry]) -> Vec<String> {
    let said = |entry: &Entry| match &entry.event {
        Event::PromptAccepted { author, text, attachments, .. } => {
            let files: Vec<_> = attachments.iter().map(|file| (&file.name, &file.digest)).collect();
            Some(format!("{}: {text} {files:?}", author.name))
        }
        Event::AssistantMessage { content, .. } => Some(format!("{content:?}")),
        Event::ToolFinished { outcome, text, .. } => Some(format!("{outcome:?} {text}")),
        Event::ArtifactPublished { title, file, .. } => Some(format!("{title} {}", file.digest)),
        Event::TurnFinished { outcome, .. } => Some(format!("{outcome:?}")),
        _ => None,
    };
    log.iter().filter_map(said).collect()
}

fn manifest(file: &Path) -> (Value, Vec<u8>) {
    let plain = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    let mut archive = tar::Archive::new(plain.as_slice());
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    (serde_json::from_reader(first).unwrap(), plain)
}

#[test]
fn a_session_goes_on_in_another_installation_with_its_conversation_files_and_commits() {
    let source = repository(&[NO_STEPS, ("a.txt", "a\n")]);
    let (home, _home_model) = installation(source.path());
    let here = tempfile::tempdir().unwrap();
    let (ann, carl) = (home.member("ann"), home.member("carl"));
    let note = here.path().join("note.txt");
    std::fs::write(&note, NOTE).unwrap();
    let started = home.json_as(&ann, &["run", "sample", "propose", "--detach", "--attach", path_text(&note)]);
    let session: SessionId = started["id"].as_str().unwrap().parse().unwrap();
    home.settled(session);
    let log = prompt(&home, &carl, session, "thanks");
    assert_eq!(outcomes(&log), [TurnOutcome::Completed, TurnOutcome::Completed]);
    let link = home.json(&["session", "share", "create", &session.to_string()]);
    let file = here.path().join("it.greenroom");
    home.cli(&["session", "export", &session.to_string(), path_text(&file)]);
    let (said, plain) = manifest(&file);
    assert_eq!(said["session"]["id"], json!(session));
    // Nothing in it lets anybody in.
    let secret = link["secret"].as_str().unwrap_or_else(|| panic!("a link has a secret: {link}"));
    assert!(!plain.windows(secret.len()).any(|window| window == secret.as_bytes()));

    // Carl is not there; another Ann of the same login is.
    let (away, model) = installation(source.path());
    let (ann, dora) = (away.member("ann"), away.member("dora"));
    let key = new_key();
    let import = ["session", "import", path_text(&file), "--key", key.as_str()];
    let made = away.json_as(&dora, &import);
    assert_eq!(away.json_as(&dora, &import)["id"], made["id"]);
    let id: SessionId = made["id"].as_str().unwrap().parse().unwrap();
    assert_ne!(id, session);
    assert_eq!((&made["title"], &made["created_by_name"]), (&json!("propose"), &json!("Member dora")));
    assert_eq!((&made["status"], &made["usage"]["input_tokens"]), (&json!("idle"), &json!(0)));
    assert_eq!(made["imported_from"]["session"], json!(session));
    let there = away.entries(id);
    assert_eq!(conversation(&there), conversation(&log));
    let people = away.json(&["session", "people", "list", &id.to_string()]);
    assert_eq!(people["participants"].as_array().unwrap().len(), 1, "{people}");

    // Its files open, and its branch has the commits.
    let list = away.json(&["session", "artifacts", &id.to_string()]);
    assert_eq!(list[0]["title"], "The report");
    let to = here.path().join("report.html");
    away.cli(&["session", "artifacts", &id.to_string(), "--download", "1", "--to", path_text(&to)]);
    assert_eq!(std::fs::read_to_string(to).unwrap(), "<b>report</b>");
    let clone = here.path().join("clone");
    git(here.path(), &["clone", "-q", &away.clone_url("dora", &dora, "sample"), path_text(&clone)]);
    let branch = format!("origin/greenroom/{id}");
    assert_eq!(git(&clone, &["log", "-1", "--format=%s %an", &branch]).trim(), "Add b Member ann");

    // A further prompt finds the files as they were proposed, on a branch of its own.
    let asked = model.wait_for_requests(0).len();
    let log = prompt(
        &away,
        &dora,
        id,
        "run cat b.txt /attachments/*/note.txt; git status -sb; git log --format=%s",
    );
    let request = model.wait_for_requests(asked + 1)[asked].json()["messages"].to_string();
    assert!(request.contains("propose") && request.contains("thanks") && request.contains(NOTE), "{request}");
    let shown = conversation(&log).join("\n");
    assert!(shown.contains(&format!("b\\n{NOTE}")) || shown.contains(&format!("b\n{NOTE}")), "{shown}");
    assert!(shown.contains(&format!("## greenroom/{id}")) && shown.contains("Add b"), "{shown}");

    // Out again, it is the same and more.
    let again = here.path().join("again.greenroom");
    away.cli(&["session", "export", &id.to_string(), path_text(&again)]);
    let (more, _) = manifest(&again);
    assert_eq!(more["work"], said["work"]);
    let blobs = |manifest: &Value| {
        let members = manifest["members"].as_array().unwrap().clone();
        members
            .into_iter()
            .filter(|member| member["name"].as_str().unwrap().starts_with("blobs/"))
            .collect::<Vec<_>>()
    };
    assert_eq!(blobs(&more), blobs(&said));
    let statistics = away.json(&["statistics", "--by", "person"]);
    assert_eq!(statistics["totals"]["turns"], json!(1), "what was imported counts for nobody: {statistics}");

    // Who brought it, and whose prompts made it, approves nothing of it.
    let dora_asks = prompt(&away, &dora, id, "propose");
    assert_eq!(outcomes(&dora_asks).last(), Some(&TurnOutcome::Completed));
    for token in [&dora, &ann] {
        let refused = away.cli_as(token, &["--json", "change", "approve", "sample#1"]);
        let problem: Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_problem(&problem, "self_approval");
    }
}

#[test]
fn what_is_no_export_or_belongs_nowhere_here_is_refused_in_words() {
    let source = repository(&[NO_STEPS, ("a.txt", "a\n")]);
    let (home, _model) = installation(source.path());
    let here = tempfile::tempdir().unwrap();
    let session = home.ask("sample", "propose");
    home.settled(session);
    let file = here.path().join("it.greenroom");
    home.cli(&["session", "export", &session.to_string(), path_text(&file)]);
    let again = home.problem(&["session", "export", &session.to_string(), path_text(&file)]);
    assert_problem(&again, "invalid_request");
    let whole = std::fs::read(&file).unwrap();
    for (bytes, code) in [
        (&whole[..whole.len() / 2], "archive_damaged"),
        (b"PK\x03\x04 something else", "archive_damaged"),
        (b"", "archive_damaged"),
    ] {
        let bad = here.path().join("bad");
        std::fs::write(&bad, bytes).unwrap();
        assert_problem(&home.problem(&["session", "import", path_text(&bad)]), code);
    }
    let other = repository(&[NO_STEPS, ("z.txt", "z\n")]);
    home.cli(&["repository", "add", "other", path_text(other.path()), "--wait"]);
    let import = ["session", "import", path_text(&file)];
    let refused = home.problem(&[&import[..], &["--repository", "other"]].concat());
    assert_problem(&refused, "commit_missing");
    let refused = home.problem(&[&import[..], &["--repository", "nowhere"]].concat());
    assert_problem(&refused, "repository_unknown");
    let sessions = home.json(&["session", "list"]);
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
}
