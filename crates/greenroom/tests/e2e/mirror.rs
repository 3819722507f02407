//! Repositories follow the places that they were mirrored from: by a signed push hook, and before each build.

use crate::support::{
    NO_STEPS, Server, assert_problem, commit_all, git, path_text, problem_of, repository, until, write,
};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::io::{Read, Write};
use std::path::Path;

/// Builds nothing that nobody asks for.
fn server() -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("greenroom.toml"), "image_schedule_minutes = 0\n").unwrap();
    (Server::start_in(&data), directory)
}

fn commit(source: &Path, text: &str) -> String {
    write(source, "a.txt", text);
    commit_all(source);
    git(source, &["rev-parse", "HEAD"]).trim().to_owned()
}

fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// As a forge calls it; answers the status.
fn call(url: &str, event: &str, body: &str, signature: &str) -> u16 {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nx-github-event: {event}\r\nx-hub-signature-256: {signature}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn shown(server: &Server, name: &str) -> Value {
    let listed = server.json(&["repository", "list"]);
    listed.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

fn wait_for_image(server: &Server, name: &str, commit: &str) {
    until("an image of the new commit", || {
        let repository = shown(server, name);
        (repository["head"] == commit && repository["image"]["commit"] == commit).then_some(())
    });
}

fn hook(server: &Server, name: &str) -> (String, String) {
    let made = server.json(&["repository", "hook", name]);
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("url"), text("secret"))
}

#[test]
fn a_signed_hook_brings_the_sources_commits_and_an_image_and_no_other_call_does() {
    let (server, _data) = server();
    let source = repository(&[NO_STEPS, ("a.txt", "1\n")]);
    server.cli(&["repository", "add", "sample", path_text(source.path()), "--wait"]);
    let ann = server.member("ann");
    let refused = problem_of(&server.cli_as(&ann, &["--json", "repository", "hook", "sample"]));
    assert_problem(&refused, "not_allowed");
    let (url, secret) = hook(&server, "sample");
    let shown_then = shown(&server, "sample");
    assert!(shown_then["mirror"]["hook_made_at_ms"].is_i64());
    assert!(!shown_then.to_string().contains(&secret));

    let pushed = commit(source.path(), "2\n");
    let body = "{\"ref\": \"refs/heads/main\"}";
    let signed = signature(&secret, body);
    for (url, body, signed) in [
        (url.clone(), body, signature("another", body)),
        (url.clone(), "{}", signed.clone()),
        (url.replace("sample", "unknown"), body, signed.clone()),
    ] {
        assert_eq!(call(&url, "push", body, &signed), 401);
    }
    assert_eq!(call(&url, "ping", body, &signed), 202);
    assert_eq!(shown(&server, "sample")["head"], shown_then["head"], "nobody has looked");
    assert_eq!(call(&url, "push", body, &signed), 202);
    wait_for_image(&server, "sample", &pushed);

    // Called again, also often at once, it changes nothing.
    let images = server.json(&["image", "list", "sample"]).as_array().unwrap().len();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(call(&url, "push", body, &signed), 202));
        }
    });
    let again = commit(source.path(), "3\n");
    assert_eq!(call(&url, "push", body, &signed), 202);
    wait_for_image(&server, "sample", &again);
    assert_eq!(server.json(&["image", "list", "sample"]).as_array().unwrap().len(), images + 1);

    let (_, other) = hook(&server, "sample");
    assert_eq!(call(&url, "push", body, &signed), 401, "the earlier secret");
    assert_eq!(call(&url, "push", body, &signature(&other, body)), 202);
    server.cli(&["repository", "hook", "sample", "--remove"]);
    assert_eq!(call(&url, "push", body, &signature(&other, body)), 401);
}

#[test]
fn a_build_looks_at_the_source_first_and_goes_on_without_it_saying_so() {
    let (server, data) = server();
    let source = repository(&[NO_STEPS, ("a.txt", "1\n")]);
    server.cli(&["repository", "add", "sample", path_text(source.path()), "--wait"]);
    let away = data.path().join("away");
    std::fs::rename(source.path(), &away).unwrap();
    server.cli(&["image", "build", "sample", "--follow"]);
    let problem = until("the trouble is shown", || {
        let problem = shown(&server, "sample")["mirror"]["problem"].clone();
        (!problem.is_null()).then_some(problem)
    });
    assert_problem(&problem, "clone_failed");
    std::fs::rename(&away, source.path()).unwrap();
    let pushed = commit(source.path(), "2\n");
    server.cli(&["image", "build", "sample", "--follow"]);
    wait_for_image(&server, "sample", &pushed);
    assert!(shown(&server, "sample")["mirror"]["problem"].is_null());
}

#[test]
fn a_source_with_a_password_is_followed_and_the_password_is_written_nowhere() {
    let (server, _data) = server();
    server.add_repository("upstream", &[NO_STEPS, ("a.txt", "1\n")]);
    let token = server.member("pusher");
    let source = server.clone_url("pusher", &token, "upstream");
    server.cli(&["repository", "add", "copy", &source, "--wait"]);
    let clone = tempfile::tempdir().unwrap();
    git(clone.path(), &["clone", "-q", &source, "."]);
    let pushed = commit(clone.path(), "2\n");
    git(clone.path(), &["push", "-q", "origin", "HEAD"]);
    let (url, secret) = hook(&server, "copy");
    assert_eq!(call(&url, "push", "{}", &signature(&secret, "{}")), 202);
    wait_for_image(&server, "copy", &pushed);
    assert!(!shown(&server, "copy").to_string().contains(&token));
    for hidden in [&token, &secret] {
        let found = files_with(server.data(), hidden);
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Files below that hold a text.
fn files_with(directory: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let (mut found, mut pending) = (vec![], vec![directory.to_owned()]);
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() || path.extension().is_some_and(|extension| extension == "btrfs") {
                continue;
            }
            match path.is_dir() {
                true => pending.push(path),
                false => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                        found.push(path);
                    }
                }
            }
        }
    }
    found
}
