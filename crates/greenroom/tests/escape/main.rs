//! The escape battery: over a hundred real attempts from inside a sandbox (`attempts.py`), attacks on the machine's
//! resources (`bombs`) and on the tools that read a sandbox's files (`hostile_files`), as root and as an ordinary user.
//! Every one is refused or contained, except the gaps of the ordinary user that docs/security.md names.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bombs;
mod hostile_files;
mod world;

use futures::{StreamExt, stream};
use greenroom_sandboxd::LocalSettings;
use world::{PATIENCE, World, finish};

/// Set for the copy of this program that runs as an ordinary user.
const AS_USER: &str = "GREENROOM_TEST_AS_USER";
const NOBODY: u32 = 65_534;

fn is_user() -> bool {
    !rustix::process::geteuid().is_root()
}

async fn world() -> World {
    World::new(LocalSettings::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_refused() {
    let world = world().await;
    let names = world::names();
    assert!(names.len() >= 60, "only {} attempts", names.len());
    let attempts = stream::iter(names).map(|name| async {
        let verdict = world.attempt(&name).await;
        (name, verdict)
    });
    let verdicts: Vec<_> = attempts.buffer_unordered(4).collect().await;
    for (name, verdict) in &verdicts {
        println!("{name}: {}", verdict.reached.as_deref().unwrap_or(&verdict.how));
    }
    let reached: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.reached.is_some()).collect();
    assert!(reached.is_empty(), "{reached:#?}");
    let secret = world.facts["secret"].as_str().unwrap();
    let leaked: Vec<_> = world.names.asked().into_iter().filter(|name| name.contains(secret)).collect();
    assert!(leaked.is_empty(), "questions of a sandbox left the host: {leaked:?}");
    let (output, _) = finish(&*world.first, world::shell("alive", "echo alive")).await;
    assert_eq!(output, "alive\n", "no attempt ended the sandbox");
    world.is_responsive().await;
    world.end().await;
}

/// The attempts are real: outside, where nothing holds them, they reach what they look for.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_attempts_succeed_outside() {
    let world = world().await;
    for name in [
        "a_host_file_by_its_path",
        "a_host_file_through_every_process_root_and_cwd",
        "host_processes_in_proc",
        "a_host_process_by_its_id",
        "another_sandboxs_workspace",
        "an_abstract_socket_of_the_host",
        "a_named_socket_of_the_host",
        "the_control_planes_port",
        "the_hosts_loopback_by_ipv6",
        "no_new_privileges_are_set",
    ] {
        let verdict = world.control(name).await;
        assert!(verdict.reached.is_some(), "{name} is refused even outside: {}", verdict.how);
    }
    world.end().await;
}

/// The network attempts fail because of the policy, not because there is nothing to reach.
#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_private_host_is_reached() {
    if is_user() {
        return; // The host's server cannot listen on port 80 then.
    }
    let world = world().await;
    assert_eq!(world.attempt("two_host_headers").await.reached, None);
    world.allow_private("evil.test");
    let request = "import socket; s=socket.create_connection(('192.0.2.1',80)); \
                   s.sendall(b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\nConnection: close\\r\\n\\r\\n'); \
                   print(s.makefile().read())";
    let mut spec = world::shell("allowed", "");
    spec.argv = ["/usr/bin/python3", "-c", request].map(str::to_owned).to_vec();
    let (output, _) = finish(&*world.first, spec).await;
    assert!(output.contains(world.facts["word"].as_str().unwrap()), "{output}");
    world.end().await;
}

/// Everything here once more, by a copy of this program without any right.
#[tokio::test(flavor = "multi_thread")]
async fn as_an_ordinary_user_the_battery_holds_too() {
    use std::os::unix::fs::chown;
    if is_user() || std::env::var_os(AS_USER).is_some() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let program = world::copy_of_this_program(home.path());
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let run = tokio::process::Command::new(&program)
        .args(["--test-threads", "2", "--nocapture"])
        .uid(NOBODY)
        .gid(NOBODY)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env(AS_USER, "1")
        .current_dir(home.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE * 4, run).await.expect("ends in time").unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
