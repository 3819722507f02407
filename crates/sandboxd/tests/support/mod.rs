//! What the tests of this crate share.
#![allow(clippy::unwrap_used, reason = "only tests use it")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use greenroom_sandbox::contract::{Recorder, Subject};
use greenroom_sandboxd::{LocalProvider, LocalSettings, Mode};
use std::sync::Arc;

/// Each promise is a test of its own, with a provider of its own.
pub async fn with_subject<F: AsyncFnOnce(&Subject)>(promise: F) {
    let scratch = tempfile::tempdir().unwrap();
    let settings = LocalSettings { mode: mode(), ..LocalSettings::default() };
    with_subject_in(scratch.path(), settings, promise).await;
}

/// With workspaces in `scratch`.
pub async fn with_subject_in<F: AsyncFnOnce(&Subject)>(
    scratch: &std::path::Path,
    settings: LocalSettings,
    promise: F,
) {
    let egress = Arc::new(Recorder::default());
    let provider = LocalProvider::start(settings, egress.clone()).await.unwrap();
    let subject = Subject { provider: provider.clone(), scratch: scratch.to_owned(), egress };
    promise(&subject).await;
    greenroom_sandbox::SandboxProvider::shutdown(&*provider).await.unwrap();
}

/// `GREENROOM_TEST_MODE=user` takes the ordinary user's way even as root.
pub fn mode() -> Mode {
    match std::env::var("GREENROOM_TEST_MODE").as_deref() {
        Ok("user") => Mode::User,
        _ => Mode::Auto,
    }
}

/// What a server holds of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Traces {
    descriptors: usize,
    mounts: usize,
    groups: usize,
    processes: usize,
}

impl Traces {
    pub fn of(pid: u32) -> Self {
        let count = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap().lines().count();
        Self {
            descriptors: count(format!("/proc/{pid}/fd")),
            mounts,
            groups: groups_of(pid),
            processes: descendants(pid).len(),
        }
    }

    /// A first claim's descriptors may still be closing when `before` is taken.
    pub fn is_within(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.mounts <= before.mounts
            && self.groups <= before.groups
            && self.processes <= before.processes
    }
}

pub fn groups_of(pid: u32) -> usize {
    let prefix = format!("greenroom-{pid}-");
    let mut pending = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    let mut found = 0;
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found += usize::from(entry.file_name().to_string_lossy().starts_with(&prefix));
                pending.push(entry.path());
            }
        }
    }
    found
}

/// Living processes below this one.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
            let state = fields.next()?;
            (state != "Z").then_some((pid, fields.next()?.parse().ok()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// Waits for a condition that nothing tells of.
pub fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + greenroom_sandbox::contract::PATIENCE;
    while !is_true() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        #[allow(clippy::disallowed_methods, reason = "nothing tells of it, and there is a deadline")]
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
