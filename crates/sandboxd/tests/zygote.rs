//! The zygote dies. Alone in its process, because it counts what the process holds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use greenroom_sandbox::contract::{self, PATIENCE, Recorder, Subject};
use greenroom_sandbox::{Error, SandboxProvider};
use greenroom_sandboxd::{LocalProvider, LocalSettings};
use std::sync::Arc;
use support::{Traces, mode};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_zygote_takes_its_sandboxes_along_and_the_next_claim_works() {
    let egress = Arc::new(Recorder::default());
    let settings = LocalSettings { mode: mode(), ..LocalSettings::default() };
    let provider = LocalProvider::start(settings, egress.clone()).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let subject = Subject { provider: provider.clone(), scratch: scratch.path().to_owned(), egress };
    let before = Traces::of(std::process::id());
    let sandbox = subject.claim().await;
    let mut events = sandbox.exec(contract::shell("cut-off", "echo up; sleep 1000")).await.unwrap();
    timeout(PATIENCE, events.recv()).await.unwrap().unwrap();

    let zygote = provider.zygote_pid().await.unwrap();
    let zygote = rustix::process::Pid::from_raw(i32::try_from(zygote).unwrap()).unwrap();
    rustix::process::kill_process(zygote, rustix::process::Signal::KILL).unwrap();

    let reason = timeout(PATIENCE, sandbox.ended()).await.expect("its end is reported");
    assert_eq!(reason, "its first process ended unexpectedly");
    // Closed without an exit: the outcome is unknown, and said to be.
    assert!(timeout(PATIENCE, events.recv()).await.unwrap().is_none());
    assert!(matches!(sandbox.exec(contract::shell("late", "true")).await, Err(Error::Ended { .. })));
    assert_eq!(provider.list().await.unwrap(), Vec::<String>::new());
    for _ in 0..3 {
        let next = subject.claim().await;
        assert_eq!(contract::run(&*next, "echo here").await, "here\n");
        next.destroy().await.unwrap();
    }
    let settled = async {
        while !Traces::of(std::process::id()).is_within(&before) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let settled = timeout(PATIENCE, settled).await;
    assert!(settled.is_ok(), "{before:?} became {:?}", Traces::of(std::process::id()));
    provider.shutdown().await.unwrap();
}
