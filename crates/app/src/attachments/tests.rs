//! Files of prompts, from upload to the session that they are said in, over fakes.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use super::*;
use crate::testing::{Bounds, World};
use greenroom_directory::RepositoryRow;
use greenroom_domain::quota::{QuotaLimit, Quotas};
use greenroom_domain::{Command, CommandId};
use greenroom_wire::{CreateSession, ForkSession, SubmitCommand};
use std::io::Read;

async fn world() -> (World, RepositoryRow) {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    (world, row)
}

fn upload(bytes: &[u8]) -> Upload {
    Box::new(std::io::Cursor::new(bytes.to_vec()))
}

fn named(file: &Attachment, name: &str) -> AttachmentRef {
    AttachmentRef { digest: file.digest.clone(), name: name.into() }
}

fn key(n: usize) -> CommandId {
    format!("key-{n}").parse().unwrap()
}

fn prompt(n: usize, files: Vec<AttachmentRef>) -> SubmitCommand {
    let text = format!("prompt {n}");
    SubmitCommand {
        key: key(n),
        command: Command::Prompt { text, delivery: Default::default(), attachments: files },
    }
}

fn creation(row: &RepositoryRow, files: Vec<AttachmentRef>) -> CreateSession {
    CreateSession {
        repository: row.name.clone(),
        prompt: Some("look".into()),
        attachments: files,
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    }
}

async fn content(world: &World, session: SessionId, file: &Attachment) -> Result<String> {
    let mut blob = world.app.blob(&world.admin, session, &file.digest).await?;
    let mut text = String::new();
    blob.file.read_to_string(&mut text).unwrap();
    Ok(text)
}

async fn files_in_log(world: &World, session: SessionId) -> Vec<Attachment> {
    super::files_of(&world.log(session).await)
}

#[tokio::test]
async fn a_prompt_carries_the_files_that_its_session_has_and_no_others() {
    let (world, row) = world().await;
    let session = world.session(&world.admin, &row).await;
    let other = world.session(&world.admin, &row).await;
    let file =
        world.app.attach(&world.admin, Some(session), "a/b/notes.md", None, upload(b"hello")).await.unwrap();
    assert_eq!((file.name.as_str(), file.media_type.as_str(), file.bytes), ("notes.md", "text/plain", 5));
    let sent = prompt(1, vec![named(&file, "../x.md"), named(&file, "again.md")]);
    world.app.submit_command(&world.admin, session, sent).await.unwrap();
    let files = files_in_log(&world, session).await;
    assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["x.md"]);
    assert_eq!(content(&world, session, &file).await.unwrap(), "hello");
    let refused = world.app.submit_command(&world.admin, other, prompt(2, vec![named(&file, "x")])).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::AttachmentUnknown);
    assert_eq!(
        content(&world, other, &file).await.unwrap_err().code,
        ErrorCode::AttachmentUnknown,
        "what another session has is not this one's"
    );
}

#[tokio::test]
async fn a_new_session_takes_over_what_its_maker_uploaded() {
    let (world, row) = world().await;
    let ben = world.member("ben").await;
    let file = world.app.attach(&world.admin, None, "notes.md", None, upload(b"hello")).await.unwrap();
    let body = creation(&row, vec![named(&file, "notes.md")]);
    let refused = world.app.create_session(&ben, &key(1), body.clone()).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::AttachmentUnknown, "another person's upload");
    let session = world.app.create_session(&world.admin, &key(1), body.clone()).await.unwrap().id;
    assert_eq!(world.app.create_session(&world.admin, &key(1), body).await.unwrap().id, session);
    assert_eq!(files_in_log(&world, session).await, std::slice::from_ref(&file));
    assert_eq!(content(&world, session, &file).await.unwrap(), "hello");

    world.app.delete_session(&world.admin, session).await.unwrap();
    assert_eq!(content(&world, session, &file).await.unwrap_err().code, ErrorCode::SessionUnknown);
}

#[tokio::test]
async fn files_are_bounded_each_and_together_and_a_refusal_keeps_nothing() {
    let (world, row) = world().await;
    let session = world.session(&world.admin, &row).await;
    let put = async |bytes: &[u8], declared: Option<u64>| {
        world.app.attach(&world.admin, Some(session), "f", declared, upload(bytes)).await
    };
    assert_eq!(put(&[1; 1001], None).await.unwrap_err().code, ErrorCode::TooLarge);
    assert_eq!(put(b"x", Some(1001)).await.unwrap_err().code, ErrorCode::TooLarge);
    assert_eq!(put(b"", None).await.unwrap_err().code, ErrorCode::InvalidRequest);
    for n in 0..3 {
        put(&[n; 1000], None).await.unwrap();
    }
    assert_eq!(put(b"x", None).await.unwrap_err().code, ErrorCode::QuotaReached);
    put(&[0; 1000], None).await.expect("what is there takes no room");
    let viewer = Person { role: Role::Viewer, ..world.admin.clone() };
    let refused = world.app.attach(&viewer, None, "f", None, upload(b"x")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::NotAllowed);
}

#[tokio::test]
async fn more_than_ten_files_are_refused() {
    let (world, row) = world().await;
    let session = world.session(&world.admin, &row).await;
    let mut files = vec![];
    for n in 0..11 {
        let file = world.app.attach(&world.admin, Some(session), "f", None, upload(&[n])).await.unwrap();
        files.push(named(&file, "f"));
    }
    let refused = world.app.submit_command(&world.admin, session, prompt(1, files)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_fork_has_the_files_of_the_conversation_that_it_took_over() {
    let (world, row) = world().await;
    let session = world.session(&world.admin, &row).await;
    let file = world.app.attach(&world.admin, Some(session), "n.md", None, upload(b"hello")).await.unwrap();
    let sent = prompt(1, vec![named(&file, "n.md")]);
    world.app.submit_command(&world.admin, session, sent).await.unwrap();
    // No model is configured: the turn fails, and so it ends.
    crate::testing::until("the turn ends", async || {
        world.log(session).await.iter().any(|entry| matches!(entry.event, Event::TurnFinished { .. }))
    })
    .await;
    let body = ForkSession { turn: None, title: None, prompt: None };
    let fork = world.app.fork_session(&world.admin, &key(2), session, body).await.unwrap().id;
    world.app.delete_session(&world.admin, session).await.unwrap();
    assert_eq!(files_in_log(&world, fork).await, std::slice::from_ref(&file));
    assert_eq!(content(&world, fork, &file).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_sandbox_is_given_each_file_once_and_keeps_what_was_changed_there() {
    let (world, row) = world().await;
    let session = world.session(&world.admin, &row).await;
    let file = world.app.attach(&world.admin, Some(session), "n.md", None, upload(b"hello")).await.unwrap();
    let handle = world.inner().sessions().get(session).await.unwrap();
    let sandbox = world.inner().ensure_sandbox(&handle).await.unwrap();
    let placed = tokio::sync::Mutex::<Placed>::default();
    let path = greenroom_agent::attachments::path_in_sandbox(&file);
    let files = [file];
    world.inner().place(session, &sandbox, &files, &placed).await;
    assert_eq!(sandbox.read_file(&path, 0, 100).await.unwrap().bytes, b"hello");
    sandbox.write_file(&path, b"changed").await.unwrap();
    // As after a restart of the server: nothing is known of what is there.
    for placed in [placed, tokio::sync::Mutex::default()] {
        world.inner().place(session, &sandbox, &files, &placed).await;
        assert_eq!(sandbox.read_file(&path, 0, 100).await.unwrap().bytes, b"changed");
    }
}

async fn stored(world: &World, by: &Person) -> u64 {
    world.inner().directory.stored_bytes(by.id).await.unwrap()
}

#[tokio::test]
async fn what_comes_unannounced_counts_before_anything_can_name_it() {
    let (world, row) = world().await;
    let ada = world.member("ada").await;
    let session = world.session(&ada, &row).await;
    let quotas = Quotas { stored_bytes: Some(QuotaLimit::AtMost(10)), ..Quotas::default() };
    world.app.set_quotas(&world.admin, None, quotas).await.unwrap();
    let attach =
        async |bytes: &[u8]| world.app.attach(&ada, Some(session), "a.bin", None, upload(bytes)).await;
    attach(b"12345678").await.unwrap();
    assert_eq!(attach(b"others 8").await.unwrap_err().code, ErrorCode::PersonQuotaReached);
    let digest = {
        use sha2::{Digest, Sha256};
        let hex: String = Sha256::digest(b"others 8").iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::from_value(serde_json::Value::String(hex)).unwrap()
    };
    let named = AttachmentRef { digest, name: "a.bin".into() };
    let refused = world.app.submit_command(&ada, session, prompt(1, vec![named])).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::AttachmentUnknown);
    assert_eq!(stored(&world, &ada).await, 8);
    attach(b"12345678").await.expect("the same again is no more");
}

#[tokio::test]
async fn what_does_not_fit_into_its_session_does_not_count() {
    let (world, row) = world().await;
    let ada = world.member("ada").await;
    let session = world.session(&ada, &row).await;
    let attach = async |n: u8| {
        world.app.attach(&ada, Some(session), "a.bin", None, upload(&[n; 900])).await.map_err(|p| p.code)
    };
    for n in 1..=3 {
        attach(n).await.unwrap();
    }
    assert_eq!(attach(4).await.unwrap_err(), ErrorCode::QuotaReached);
    assert_eq!(stored(&world, &ada).await, 2700);
}

#[tokio::test]
async fn a_session_that_comes_back_counts_again_for_whoever_made_it() {
    let (world, row) = world().await;
    let (ada, ben) = (world.member("ada").await, world.member("ben").await);
    let quotas = Quotas { sessions: Some(QuotaLimit::AtMost(1)), ..Quotas::default() };
    world.app.set_quotas(&world.admin, None, quotas).await.unwrap();
    let first = world.session(&ada, &row).await;
    let submit = async |by: &Person, session, n: usize, command| {
        let stored = world.app.submit_command(by, session, SubmitCommand { key: key(n), command }).await?;
        world.inner().drain_outbox().await;
        stored.problem.map_or(Ok(()), Err)
    };
    submit(&ada, first, 1, Command::Archive {}).await.unwrap();
    let second = world.session(&ada, &row).await;
    let refused = submit(&ada, first, 2, Command::Unarchive {}).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PersonQuotaReached);
    assert!(refused.message.starts_with("You have"), "{refused}");
    let said = || prompt(3, vec![]).command;
    let refused = submit(&ben, first, 3, said()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PersonQuotaReached);
    assert!(refused.message.starts_with("ada made this session"), "{refused}");
    submit(&ada, second, 4, Command::Archive {}).await.unwrap();
    submit(&ben, first, 5, said()).await.expect("there is room");
    let refused = submit(&ada, second, 6, Command::Unarchive {}).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PersonQuotaReached);
}
