//! Nobody approves a change that holds what they did in its session: by prompts, by commands of their own, in a session that
//! it was forked from.

use crate::support::{Model, NO_STEPS, Server, assert_problem, bash, both, call, email_of, problem_of};
use greenroom_domain::SessionId;
use greenroom_model::testing::Turn;
use serde_json::{Value, json};

struct Place {
    server: Server,
    _model: Model,
    ada: String,
    ben: String,
    cem: String,
}

impl Place {
    /// The model proposes when it is told to, and otherwise runs each prompt as a command.
    fn new() -> Self {
        let server = Server::start();
        let model = Model::new(|asked| match (asked.prompt.ends_with("propose"), asked.step) {
            (true, 0) => call("open_change", &json!({"title": "Proposed", "body": ""})),
            (false, 0) => bash("echo asked >> a.txt"),
            _ => Turn::text("Done."),
        });
        server.use_model(&model);
        server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
        let (ada, ben, cem) = (server.member("ada"), server.member("ben"), server.member("cem"));
        Self { server, _model: model, ada, ben, cem }
    }

    /// A session of Ada's whose change she proposed herself.
    fn proposed(&self) -> SessionId {
        let session = self.asked();
        self.prompt(&self.ada, session, "propose");
        session
    }

    fn asked(&self) -> SessionId {
        let made = self.server.json_as(&self.ada, &["run", "sample", "work", "--detach"]);
        let session = made["id"].as_str().unwrap().parse().unwrap();
        self.server.settled(session);
        session
    }

    fn prompt(&self, by: &str, session: SessionId, text: &str) {
        self.server.json_as(by, &["session", "prompt", &session.to_string(), text, "--detach"]);
        self.server.settled(session);
    }

    fn exec(&self, by: &str, session: SessionId, command: &str) {
        let done = self.server.cli_as(by, &["session", "exec", &session.to_string(), "--", command]);
        assert!(done.status.success(), "{}", both(&done));
    }

    fn change(&self, session: SessionId) -> String {
        self.server.session(session).change.expect("a change").id.to_string()
    }

    fn refused(&self, by: &str, session: SessionId) -> Value {
        problem_of(&self.server.cli_as(by, &["--json", "change", "approve", &self.change(session)]))
    }

    fn approves(&self, by: &str, session: SessionId) {
        self.server.json_as(by, &["change", "approve", &self.change(session)]);
    }

    fn commits(&self, session: SessionId) -> String {
        self.server.exec(session, "git log --format='%ae%n%b' origin/main..HEAD").output
    }
}

#[test]
fn who_amended_and_pushed_by_a_command_of_their_own_cannot_approve_it() {
    let place = Place::new();
    let session = place.proposed();
    // Before it moves anything, the change is nobody's but Ada's: what Ben looks at is not his.
    place.approves(&place.ben, session);
    let push = "echo mine >> a.txt && git commit -qa --amend --no-edit && git push -qf origin HEAD";
    place.exec(&place.ben, session, push);
    assert_problem(&place.refused(&place.ben, session), "self_approval");
    let merged =
        problem_of(&place.server.cli_as(&place.ada, &["--json", "change", "merge", &place.change(session)]));
    assert_problem(&merged, "approval_missing");
    place.approves(&place.cem, session);
}

#[test]
fn who_had_the_agent_push_by_a_prompt_cannot_approve_it() {
    let place = Place::new();
    let session = place.proposed();
    place.prompt(&place.ben, session, "more");
    let push = "git commit -qam more && git push -q origin HEAD";
    place.exec(&place.ada, session, push);
    assert_problem(&place.refused(&place.ben, session), "self_approval");
}

#[test]
fn who_left_an_edit_for_anothers_proposal_cannot_approve_it_and_is_named_in_it() {
    let place = Place::new();
    let session = place.proposed();
    place.exec(&place.ben, session, "echo mine >> a.txt");
    place.prompt(&place.ada, session, "propose");
    assert_problem(&place.refused(&place.ben, session), "self_approval");
    let commits = place.commits(session);
    let named = format!("Co-authored-by: Member ben <{}>", email_of("ben"));
    assert!(commits.contains(&named) && commits.contains(&email_of("ada")), "{commits}");
    place.approves(&place.cem, session);
}

#[test]
fn who_left_an_edit_in_the_session_before_cannot_approve_the_forks_change() {
    let place = Place::new();
    let session = place.asked();
    place.exec(&place.ben, session, "echo mine >> a.txt");
    let forked = place.server.json_as(&place.ada, &["session", "fork", &session.to_string(), "--detach"]);
    let fork: SessionId = forked["id"].as_str().unwrap().parse().unwrap();
    place.prompt(&place.ada, fork, "propose");
    assert_problem(&place.refused(&place.ben, fork), "self_approval");
    place.approves(&place.cem, fork);
}
