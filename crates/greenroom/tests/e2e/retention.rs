//! Retention through the real server and its verbs, on sessions that were made old.

use crate::support::{Model, NO_STEPS, Server, problem_of};
use greenroom_domain::{Event, SessionId};
use greenroom_model::testing::Turn;
use rusqlite::Connection;
use std::path::Path;

const SETTINGS: &str = "[retention]\narchive_idle_days = 7\ndelete_archived_days = 30\n";

/// As if everything in these sessions had happened so many days earlier. The server is down.
fn age(data: &Path, sessions: &[SessionId], days: i64) {
    let by_ms = days * 86_400_000;
    let directory = Connection::open(data.join("greenroom.db")).unwrap();
    for session in sessions {
        let id = session.to_string();
        let sql = "UPDATE sessions SET updated_at_ms = updated_at_ms - ?, created_at_ms = created_at_ms - ? WHERE id = ?";
        assert_eq!(directory.execute(sql, rusqlite::params![by_ms, by_ms, id]).unwrap(), 1);
        let log = Connection::open(data.join("sessions").join(&id).join("session.db")).unwrap();
        assert!(log.execute("UPDATE entries SET at_ms = at_ms - ?", [by_ms]).unwrap() > 0);
        log.execute("DELETE FROM checkpoint", []).unwrap();
    }
}

#[test]
fn old_sessions_go_as_the_plan_said_and_stay_gone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = Server::start_in(&data);
    let model = Model::new(|_| Turn::text("It is done."));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let [idle, archived, fresh] = ["old and open", "old and archived", "of today"].map(|prompt| {
        let session = server.ask("sample", prompt);
        server.settled(session);
        session
    });
    server.cli(&["session", "archive", &archived.to_string()]);
    let member = server.member("ann");
    assert_eq!(server.json(&["retention"])["settings"]["archive_idle_days"], 0, "off by default");
    server.stop();
    age(&data, &[idle, archived], 40);
    std::fs::write(data.join("greenroom.toml"), SETTINGS).unwrap();
    server.restart();

    let plan = server.json(&["retention", "--dry-run"]);
    for (action, session) in [("archived", idle), ("deleted", archived)] {
        assert_eq!(plan[action]["sessions"], 1, "{plan}");
        assert_eq!(plan[action]["listed"][0]["session"], session.to_string());
    }
    let text = server.cli(&["retention", "--dry-run"]);
    assert!(text.contains("would be deleted") && text.contains("old and archived"), "{text}");
    assert!(text.contains("40 days"), "{text}");
    assert!(!server.session(idle).is_archived && server.session(archived).is_archived, "it was only a plan");
    let refused = problem_of(&server.cli_as(&member, &["--json", "retention", "run"]));
    assert_eq!(refused["code"], "not_allowed");

    let report = server.json(&["retention", "run"]);
    assert_eq!((&report["archived"]["sessions"], &report["deleted"]["sessions"]), (&1.into(), &1.into()));
    assert_eq!((&report["failed"], &report["is_complete"]), (&0.into(), &true.into()));
    server.kill();
    server.restart();
    assert!(server.session(idle).is_archived && !server.session(fresh).is_archived);
    let is_ours = |event: &Event| matches!(event, Event::SessionArchived { by: None, .. });
    assert!(server.entries(idle).iter().any(|entry| is_ours(&entry.event)));
    assert_eq!(server.problem(&["session", "show", &archived.to_string()])["code"], "session_unknown");
    assert!(!data.join("sessions").join(archived.to_string()).exists());
    assert_eq!(server.json(&["retention"])["last"], report);
    assert!(server.cli(&["retention"]).contains("deleted after 30 days"));

    // Whoever goes on with it brings it back.
    server.cli(&["session", "prompt", &idle.to_string(), "Go on.", "--detach"]);
    server.settled(idle);
    assert!(!server.session(idle).is_archived);
}
