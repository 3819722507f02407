//! Backups: made while people work, read back whole, and restored into a data directory that a server goes on from.

use crate::support::{Model, NO_STEPS, Server, assert_problem, command, git, outcomes, path_text, until};
use greenroom_client::new_key;
use greenroom_domain::event::TurnOutcome;
use greenroom_domain::{Command, Entry, SessionId};
use greenroom_model::testing::Turn;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

fn backup(data: &Path, arguments: &[&str]) -> Result<Value, Value> {
    let output = command(data).args(["--json", "backup"]).args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(crate::support::problem_of(&output)),
    }
}

fn prompt(text: &str) -> Command {
    Command::Prompt { text: text.to_owned(), delivery: Default::default(), attachments: vec![] }
}

/// What was acknowledged, by session: the last entry of each command.
type Acknowledged = Arc<Mutex<HashMap<SessionId, Vec<u64>>>>;

#[test]
fn a_backup_made_while_people_work_holds_what_was_acknowledged_and_a_server_goes_on_from_it() {
    let server = Server::start();
    let model = Model::new(|asked| Turn::text(format!("answer to {}", asked.prompt)));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("README.md", "one\n")]);
    let token = server.member("ann");
    let first = server.ask("sample", "first");
    server.settled(first);

    let acknowledged = Acknowledged::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (client, known, is_over) = (server.client(), Arc::clone(&acknowledged), Arc::clone(&is_over));
            server.runtime().spawn(async move {
                while !is_over.load(Ordering::Acquire) {
                    let body = crate::support::session_body("sample", Some("begin"));
                    let session = client.create_session(&new_key(), &body).await.unwrap().id;
                    for text in ["more", "and more"] {
                        let receipt = client.submit(session, &new_key(), &prompt(text)).await.unwrap();
                        known.lock().unwrap().entry(session).or_default().extend(receipt.seq);
                    }
                }
            })
        })
        .collect();
    // A push beside them, again and again.
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["clone", "-q", &server.clone_url("ann", &token, "sample"), "here"]);
    let here = place.path().join("here");
    let backups = tempfile::tempdir().unwrap();
    let to = path_text(backups.path());
    until("there is something to lose", || (acknowledged.lock().unwrap().len() >= 3).then_some(()));
    let push = |number: usize| {
        std::fs::write(here.join("README.md"), number.to_string()).unwrap();
        git(&here, &["commit", "-q", "-a", "-m", "more"]);
        git(&here, &["push", "-q", "origin", "main"]);
    };
    push(0);
    let before = acknowledged.lock().unwrap().clone();
    let made = std::thread::scope(|scope| {
        let making = scope.spawn(|| backup(server.data(), &["create", "--to", to]).unwrap());
        (1..4).for_each(push);
        making.join().unwrap()
    });
    let again = backup(server.data(), &["create", "--to", to, "--with-key"]).unwrap();
    is_over.store(true, Ordering::Release);
    workers.into_iter().for_each(|worker| server.wait(worker).unwrap());

    assert_eq!(backup(server.data(), &["list", "--to", to]).unwrap().as_array().unwrap().len(), 2);
    for one in [&made, &again] {
        let verified = backup(server.data(), &["verify", one["path"].as_str().unwrap()]).unwrap();
        assert_eq!(verified["problems"], serde_json::json!([]));
    }
    let restored = tempfile::tempdir().unwrap();
    let data = restored.path().join("data");
    let key = server.data().join("vault.key");
    backup(&data, &["restore", made["path"].as_str().unwrap(), "--key", path_text(&key)]).unwrap();
    let repositories: Vec<_> = std::fs::read_dir(data.join("repositories")).unwrap().flatten().collect();
    assert_eq!(repositories.len(), 1);
    git(&repositories[0].path(), &["fsck", "--full"]);

    let originals: HashMap<SessionId, Vec<Entry>> =
        before.keys().chain([&first]).map(|id| (*id, server.settled(*id))).collect();
    drop(server);
    let server = Server::start_in(&data);
    for (session, original) in &originals {
        let log = server.settled(*session);
        let known = before.get(session).and_then(|seqs| seqs.iter().max().copied()).unwrap_or(1);
        let cut = log.iter().zip(original).take_while(|(restored, original)| restored == original).count();
        assert!(cut as u64 >= known, "{session}: {cut} entries of {known} that were acknowledged");
    }
    // And it is a server like any other: the next image is built, and a session of before goes on.
    server.cli(&["session", "prompt", &first.to_string(), "and now", "--detach"]);
    assert_eq!(outcomes(&server.settled(first)), [TurnOutcome::Completed, TurnOutcome::Completed]);
    let fresh = server.ask("sample", "a new one");
    assert_eq!(outcomes(&server.settled(fresh)), [TurnOutcome::Completed]);
    assert_eq!(server.exec(fresh, "cat README.md").exit_code, Some(0));
}

#[test]
fn a_server_makes_backups_by_itself_where_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("backups"));
    let mut started = command(&data);
    started.env("GREENROOM_BACKUP_HOURS", "1").env("GREENROOM_BACKUP_DIRECTORY", &to);
    let _server = Server::of_child(crate::support::serve(started), data.clone());
    let is_whole = || backup(&data, &["verify", "latest", "--to", path_text(&to)]).is_ok();
    until("the first is made", || is_whole().then_some(()));
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_left_of_its_restore() {
    let server = Server::start();
    let model = Model::new(|_| Turn::text("done"));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    server.settled(server.ask("sample", "go"));
    let made = backup(server.data(), &["create"]).unwrap();
    let path = Path::new(made["path"].as_str().unwrap());
    assert!(path.starts_with(server.data().join("backups")));
    assert!(!path.join("vault.key").exists(), "the key comes only where it is asked for");

    let nowhere = tempfile::tempdir().unwrap();
    let busy = nowhere.path().join("busy");
    std::fs::create_dir(&busy).unwrap();
    std::fs::write(busy.join("something"), "").unwrap();
    assert_problem(&backup(&busy, &["restore", path_text(path)]).unwrap_err(), "data_in_use");
    assert_problem(&backup(&busy, &["create"]).unwrap_err(), "settings_invalid");
    let data = nowhere.path().join("data");
    assert_problem(&backup(&data, &["restore", path_text(&busy)]).unwrap_err(), "backup_unusable");

    let repository = std::fs::read_dir(path.join("repositories")).unwrap().flatten().next().unwrap().path();
    let references = repository.join("packed-refs");
    let text = std::fs::read_to_string(&references).unwrap();
    std::fs::write(&references, text.replace("refs/heads/main", "refs/heads/mine")).unwrap();
    let problem = backup(server.data(), &["verify", "latest"]).unwrap_err();
    assert_problem(&problem, "backup_unusable");
    assert!(problem["detail"].as_str().unwrap().contains("packed-refs is not what was stored"), "{problem}");
    assert_problem(&backup(&data, &["restore", path_text(path)]).unwrap_err(), "backup_unusable");
    assert!(!data.exists());
}

#[test]
fn a_second_backup_shares_what_did_not_change_and_old_ones_go() {
    use std::os::unix::fs::MetadataExt;
    let mut server = Server::start();
    let model = Model::new(|_| Turn::text("done"));
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS]);
    let session = server.ask("sample", "go");
    server.settled(session);
    server.stop();
    let log = |made: &Value| {
        let path = Path::new(made["path"].as_str().unwrap()).join(format!("sessions/{session}/session.db"));
        std::fs::metadata(path).unwrap()
    };
    let first = backup(server.data(), &["create"]).unwrap();
    let second = backup(server.data(), &["create"]).unwrap();
    assert_eq!(log(&first).ino(), log(&second).ino());
    let third = backup(server.data(), &["create", "--keep", "1"]).unwrap();
    assert_eq!(backup(server.data(), &["list"]).unwrap().as_array().unwrap().len(), 1);
    assert_eq!(log(&third).nlink(), 1);
    backup(server.data(), &["verify", "latest"]).unwrap();
}
