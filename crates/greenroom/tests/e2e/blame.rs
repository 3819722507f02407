//! Which prompt made which line, with real sandboxes and two people.

use crate::support::{Model, NO_STEPS, Server, bash, both, until};
use greenroom_domain::{Event, SessionId};
use greenroom_model::testing::Turn;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Each line with the people who asked for it, as the command line tells it.
fn told(server: &Server, session: SessionId) -> Vec<(String, String)> {
    let blame = server.json(&["session", "blame", &session.to_string(), "a.txt"]);
    let name_of = |prompt: &Value| {
        let prompts = blame["prompts"].as_array().unwrap();
        let found = prompts.iter().find(|known| known["prompt"] == *prompt).unwrap();
        found["author"]["name"].as_str().unwrap().to_owned()
    };
    let mut lines = vec![];
    for part in blame["parts"].as_array().unwrap() {
        let by = &part["by"];
        let who = match by["kind"].as_str().unwrap() {
            "prompts" => by["prompts"].as_array().unwrap().iter().map(name_of).collect::<Vec<_>>().join("+"),
            "command" => format!("{} by hand", by["name"].as_str().unwrap()),
            other => other.to_owned(),
        };
        let text = |line: &Value| (line.as_str().unwrap().to_owned(), who.clone());
        lines.extend(part["lines"].as_array().unwrap().iter().map(text));
    }
    lines
}

/// Marks are made beside the work: they may come a moment later.
fn wait_for(server: &Server, session: SessionId, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(text, who)| ((*text).into(), (*who).into())).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = told(server, session);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:#?}\nand not {expected:#?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn lines_name_whose_prompts_made_them_over_turns_inserts_commands_and_a_fork() {
    let server = Server::start();
    let model = Model::new(|asked| match (asked.prompt.as_str(), asked.step) {
        (said, 0) if said.ends_with("first") => bash("echo first >> a.txt"),
        (said, 0) if said.ends_with("second") => bash("echo second >> a.txt"),
        (said, 0) if said.ends_with("slow") => {
            bash("echo before >> a.txt; while [ ! -e /tmp/go ]; do sleep 0.1; done")
        }
        (said, 0) if said.ends_with("joined") => bash("echo after >> a.txt"),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "old\n")]);
    let (ada, ben) = (server.member("ada"), server.member("ben"));
    let made = server.json_as(&ada, &["run", "sample", "first", "--detach"]);
    let name = made["id"].as_str().unwrap().to_owned();
    let session: SessionId = name.parse().unwrap();
    server.settled(session);
    wait_for(&server, session, &[("old", "before_session"), ("first", "Member ada")]);

    server.json_as(&ben, &["session", "prompt", &name, "second", "--detach"]);
    server.settled(session);
    let mut expected = vec![("old", "before_session"), ("first", "Member ada"), ("second", "Member ben")];
    wait_for(&server, session, &expected);

    let by_hand = server.cli_as(&ben, &["session", "exec", &name, "--", "echo hand >> a.txt"]);
    assert!(by_hand.status.success(), "{}", both(&by_hand));
    // At once: his is marked before hers runs.
    let by_her = server.cli_as(&ada, &["session", "exec", &name, "--", "echo hers >> a.txt"]);
    assert!(by_her.status.success(), "{}", both(&by_her));
    expected.extend([("hand", "Member ben by hand"), ("hers", "Member ada by hand")]);
    wait_for(&server, session, &expected);

    // Ben's prompt joins Ada's turn.
    server.json_as(&ada, &["session", "prompt", &name, "slow", "--detach"]);
    until("the turn writes", || server.exec(session, "cat a.txt").output.contains("before").then_some(()));
    server.json_as(&ben, &["session", "prompt", &name, "joined", "--insert", "--detach"]);
    server.exec(session, "touch /tmp/go");
    server.settled(session);
    expected.extend([("before", "Member ada"), ("after", "Member ada+Member ben")]);
    wait_for(&server, session, &expected);

    // Nothing of it is pushed or seen as a branch, and the working tree has nothing staged.
    let refs = server.exec(session, "git branch -a --format='%(refname)'; git diff --cached --stat").output;
    assert!(!refs.contains("greenroom/marks") && !refs.contains("a.txt"), "{refs}");

    until("the snapshot is taken", || {
        let snapshots = server.json(&["session", "snapshots", &name]);
        (snapshots.as_array().unwrap().len() >= 3).then_some(())
    });
    let fork = server.json_as(&ben, &["session", "fork", &name, "--detach"]);
    let fork: SessionId = fork["id"].as_str().unwrap().parse().unwrap();
    wait_for(&server, fork, &expected);

    let unknown = server.problem(&["session", "blame", &name, "none.txt"]);
    assert_eq!(unknown["code"], "file_unknown", "{unknown}");
}

#[test]
fn what_a_person_does_by_hand_is_marked_before_a_turn_a_stop_and_by_itself() {
    let mut server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => bash("echo asked >> a.txt"),
        _ => Turn::text("Done."),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "old\n")]);
    let ada = server.member("ada");
    let session = server.create_session("sample", None).expect("a session").id;
    let name = session.to_string();
    let by_hand = |server: &Server, line: &str| {
        let done = server.cli_as(&ada, &["session", "exec", &name, "--", &format!("echo {line} >> a.txt")]);
        assert!(done.status.success(), "{}", both(&done));
    };
    let marks = |server: &Server| {
        let entries = server.entries(session);
        entries.iter().filter(|entry| matches!(entry.event, Event::FilesMarked { .. })).count()
    };
    by_hand(&server, "one");
    by_hand(&server, "two");
    assert_eq!(marks(&server), 0, "nobody needs it yet");
    server.json_as(&ada, &["session", "prompt", &name, "go", "--detach"]);
    server.settled(session);
    by_hand(&server, "three");
    server.stop();
    server.restart();
    server.exec(session, "echo after >> a.txt");
    let hers = "Member ada by hand";
    let expected =
        [("old", "before_session"), ("one", hers), ("two", hers), ("asked", "Member ada"), ("three", hers)];
    let found = told(&server, session);
    assert_eq!(
        found[..5].iter().map(|(text, who)| (text.as_str(), who.as_str())).collect::<Vec<_>>(),
        expected
    );

    let before = marks(&server);
    by_hand(&server, "rested");
    let rested = until("it has rested", || (marks(&server) > before).then(|| marks(&server)));
    assert_eq!(rested, before + 1);
}
