//! The forge is ordinary git: clone, fetch and push with login and token.

use crate::support::{NO_STEPS, Server, both, git, path_text, try_git, write};

#[test]
fn a_member_clones_fetches_and_pushes_and_new_sessions_begin_there() {
    let server = Server::start();
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "one\n")]);
    let token = server.member("ann");
    let url = server.clone_url("ann", &token, "sample");
    let place = tempfile::tempdir().unwrap();
    let (here, there) = (place.path().join("here"), place.path().join("there"));
    git(place.path(), &["clone", "-q", &url, path_text(&here)]);
    git(place.path(), &["clone", "-q", &url, path_text(&there)]);
    assert_eq!(std::fs::read_to_string(here.join("a.txt")).unwrap(), "one\n");

    write(&here, "b.txt", "two\n");
    git(&here, &["add", "-A"]);
    git(&here, &["commit", "-q", "-m", "second"]);
    git(&here, &["push", "-q", "origin", "main"]);
    let pushed = git(&here, &["rev-parse", "HEAD"]);
    git(&there, &["fetch", "-q"]);
    assert_eq!(git(&there, &["rev-parse", "origin/main"]), pushed);

    // The image is older than the push: the session's files are not.
    let session = server.create_session("sample", None).unwrap().id;
    assert_eq!(server.exec(session, "cat a.txt b.txt").output, "one\ntwo\n");
    assert_eq!(server.exec(session, "git rev-parse HEAD").output, pushed);
    assert_eq!(server.exec(session, "git status --porcelain").output, "");
}

#[test]
fn git_without_a_good_token_gets_nothing() {
    let server = Server::start();
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "one\n")]);
    let token = server.member("ann");
    let place = tempfile::tempdir().unwrap();
    for wrong in ["grt_wrong", &format!("{token}x"), "ann"] {
        let url = server.clone_url("ann", wrong, "sample");
        let output = try_git(place.path(), &["clone", "-q", &url, "refused"]);
        assert!(!output.status.success(), "{wrong} is no token and cloned");
        let said = both(&output);
        assert!(said.contains("Authentication failed") || said.contains("401"), "{said}");
    }
    let url = server.clone_url("ann", &token, "missing");
    let said = both(&try_git(place.path(), &["clone", "-q", &url, "refused"]));
    assert!(said.contains("not found"), "{said}");
    assert!(!place.path().join("refused").exists());
}
