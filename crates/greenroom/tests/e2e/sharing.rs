//! A private session and the links to it, as the command line and an open stream meet them.

use crate::support::{NO_STEPS, Server, assert_problem, both, command, fed, problem_of, until};
use futures::StreamExt;
use greenroom_domain::{ErrorCode, SessionId};
use greenroom_wire::{Exec, Frame};
use serde_json::json;
use std::time::Duration;

struct Place {
    server: Server,
    ada: String,
    ben: String,
    session: String,
}

impl Place {
    fn private() -> Self {
        let server = Server::start();
        let (ada, ben) = (server.member("ada"), server.member("ben"));
        server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
        let arguments = ["run", "sample", "do it", "--private", "--detach"];
        let session = server.json_as(&ada, &arguments)["id"].as_str().unwrap().to_owned();
        Self { server, ada, ben, session }
    }

    fn link(&self, more: &[&str]) -> (String, String) {
        let made =
            self.server.json_as(&self.ada, &[&["session", "share", "create", &self.session], more].concat());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&made["link"]["id"]), text(&made["secret"]))
    }

    fn refused(&self, by: &str, arguments: &[&str]) -> serde_json::Value {
        problem_of(&self.server.cli_as(by, &[&["--json"], arguments].concat()))
    }
}

#[test]
fn a_private_session_is_shared_by_links_on_the_command_line() {
    let place = Place::private();
    let (server, session) = (&place.server, place.session.as_str());
    assert_problem(&place.refused(&place.ben, &["session", "show", session]), "session_unknown");
    assert_eq!(server.json_as(&place.ben, &["session", "list"]), json!([]));

    let (_, to_look) = place.link(&["--expires", "1h"]);
    server.json_as(&place.ben, &["session", "join", &to_look]);
    assert_eq!(server.json_as(&place.ben, &["session", "show", session])["my_rights"], json!(["view"]));
    let prompt = ["session", "prompt", session, "and this", "--detach"];
    assert_problem(&place.refused(&place.ben, &prompt), "not_allowed");

    let (_, to_take_part) = place.link(&["--take-part"]);
    let address_start = "https://greenroom.example.org/share#";
    let address = format!("{address_start}{to_take_part}");
    server.json_as(&place.ben, &["session", "join", &address]);
    server.json_as(&place.ben, &prompt);
    let people = server.json_as(&place.ada, &["session", "people", "list", session]);
    assert_eq!(people["participants"][1]["role"], "contributor", "{people}");
    assert_eq!(people["participants"][1]["is_by_link"], true);

    assert_problem(
        &place.refused(&place.ben, &["session", "people", "set", session, "ben", "owner"]),
        "not_allowed",
    );
    assert_problem(&place.refused(&place.ada, &["session", "people", "leave", session]), "last_owner");
    for unknown in ["no-such-secret", "-q-as-older-secrets-begin"] {
        assert_problem(&place.refused(&place.ben, &["session", "join", unknown]), "share_link_unknown");
    }
    let (_, piped) = place.link(&[]);
    let mut join = command(server.data());
    join.env("GREENROOM_TOKEN", &place.ben).args(["session", "join", "-"]);
    let joined = fed(&mut join, &format!("{address_start}{piped}\n"));
    assert!(joined.status.success(), "{}", both(&joined));
    let shown = server.cli_as(&place.ada, &["session", "share", "list", session]);
    assert!(!both(&shown).contains(&to_take_part), "a secret is shown once");
    server.json_as(&place.ada, &["session", "people", "remove", session, "ben"]);
    assert_problem(&place.refused(&place.ben, &["session", "show", session]), "session_unknown");
    assert_problem(&place.refused(&place.ben, &["session", "join", &to_take_part]), "not_allowed");
}

#[test]
fn a_stream_that_is_open_ends_with_the_reason_when_its_link_is_revoked() {
    let place = Place::private();
    let (id, secret) = place.link(&[]);
    place.server.json_as(&place.ben, &["session", "join", &secret]);
    let client = place.server.client_as(&place.ben);
    let session: SessionId = place.session.parse().unwrap();
    let mut frames = client.follow(session, 0);
    let first = place.server.wait(frames.next());
    assert!(matches!(first, Some(Ok(_))), "{first:?}");
    place.server.json_as(&place.ada, &["session", "share", "revoke", &place.session, &id]);
    let mut reason = None;
    let end = place.server.wait(async {
        loop {
            match frames.next().await {
                Some(Ok(Frame::Error { problem })) => reason = Some(problem),
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    let reason = reason.expect("the stream says why it ends");
    assert!(reason.message.contains("take no part in it any more"), "{reason:?}");
    let Some(Err(error)) = end else { panic!("{end:?}") };
    assert_eq!(error.code(), ErrorCode::SessionUnknown, "{error}");
}

#[test]
fn a_command_that_runs_ends_unanswered_when_its_person_is_removed() {
    let place = Place::private();
    let (server, session) = (&place.server, place.session.as_str());
    let id: SessionId = session.parse().unwrap();
    server.json_as(&place.ada, &["session", "people", "set", session, "ben", "contributor"]);
    let command = "cat /etc/hostname; echo begun > /tmp/begun; sleep 1000";
    let ben = server.client_as(&place.ben);
    let body = Exec { command: command.to_owned(), timeout_ms: Some(600_000) };
    let running = server.runtime().spawn(async move { ben.exec(id, &body).await });
    until("the command runs", || (server.exec(id, "cat /tmp/begun").output == "begun\n").then_some(()));
    server.json_as(&place.ada, &["session", "people", "remove", session, "ben"]);
    let answer = server.wait(async { tokio::time::timeout(Duration::from_secs(60), running).await });
    let refused = answer.expect("it is not waited for").unwrap().unwrap_err();
    assert_eq!(refused.code(), ErrorCode::SessionUnknown);
    until("nothing of it runs", || {
        let shown = server.exec(id, "grep -lz '^sleep$' /proc/[0-9]*/cmdline || echo none sleeps").output;
        (shown == "none sleeps\n").then_some(())
    });
}
