//! A killed server takes everything with it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use greenroom_sandbox::contract;
use support::{descendants, groups_of, with_subject};

/// The server of the next test: claims, says so, and waits to be killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a_killed_server_leaves_nothing"]
async fn a_server_to_be_killed() {
    with_subject(async |subject| {
        let sandbox = subject.claim().await;
        let mut events =
            sandbox.exec(contract::shell("x", "setsid sleep 1234 & echo up; sleep 1235")).await.unwrap();
        events.recv().await.unwrap();
        println!("ready");
        std::future::pending::<()>().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_nothing() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut server = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "a_server_to_be_killed"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = server.id().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready = async { while !lines.next_line().await.unwrap().unwrap().ends_with("ready") {} };
    tokio::time::timeout(contract::PATIENCE, ready).await.unwrap();
    let family = descendants(pid);
    assert!(family.len() >= 4, "zygote, stage and two sleeps: {family:?}");
    server.kill().await.unwrap();
    let gone = async {
        while family.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(contract::PATIENCE, gone).await.expect("every process ends with the server");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("overlay /tmp"), "{mounts}");
    // What the kernel keeps of it until somebody removes it goes when the next server starts.
    with_subject(async |_| ()).await;
    assert_eq!(groups_of(pid), 0);
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat[stat.rfind(')').unwrap_or(0)..].starts_with(") Z"))
}
