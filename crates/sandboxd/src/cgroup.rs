//! Limits by control groups, each controller on version 1 or 2, whichever this machine has it on. One group per sandbox,
//! named after the server process so that a later server recognises what a dead one left.

mod group;
mod layout;

pub(crate) use group::Cgroup;
pub(crate) use layout::{Controller, Layout};

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const DEFAULT_MEMORY: u64 = 4 << 30;
pub(crate) const DEFAULT_CPU_MILLIS: u64 = 2000;
pub(crate) const DEFAULT_PROCESSES: u64 = 1024;

const PREFIX: &str = "greenroom-";
const REMOVE_TRIES: u32 = 400;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// After the tries above, beside other work: what was killed can take long to end on a machine that is busy.
const LATER_TRIES: u32 = 600;
const LATER_PAUSE: Duration = Duration::from_secs(1);
/// How far below a mount leftovers are looked for, and among how many groups.
const SWEEP_DEPTH: usize = 12;
const SWEEP_GROUPS: usize = 50_000;

/// This process, told apart from a later one with the same number: `pid-starttime`.
fn owner() -> String {
    let pid = std::process::id();
    format!("{pid}-{}", start_time(pid).unwrap_or_default())
}

/// `None` too for a process that has ended and only waits to be reaped: it owns nothing any more.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    if has_ended { None } else { fields.nth(18)?.parse().ok() }
}

/// Groups of servers that no longer exist, anywhere below a mount: the dead one may have run in another group than ours.
fn leftovers(mount: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending, mut seen) = (Vec::new(), vec![(mount.to_owned(), 0)], 0);
    while let Some((directory, depth)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            seen += 1;
            if is_orphan(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            } else if depth < SWEEP_DEPTH && seen < SWEEP_GROUPS {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

fn is_orphan(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).into_iter().flat_map(|rest| rest.split('-'));
    match (
        parts.next().and_then(|pid| pid.parse().ok()),
        parts.next().and_then(|time| time.parse::<u64>().ok()),
    ) {
        (Some(pid), Some(time)) => start_time(pid) != Some(time),
        _ => false,
    }
}

fn kill_members(group: &Path) {
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    // The killed must run to end.
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    let _ = fs::write(group.join("cgroup.freeze"), "0");
}

/// Whose processes do not end at once is removed later.
async fn remove(group: &Path) {
    if !is_removed(group, REMOVE_TRIES, REMOVE_PAUSE, || {}).await {
        let group = group.to_owned();
        tokio::spawn(async move {
            if !is_removed(&group, LATER_TRIES, LATER_PAUSE, || kill_members(&group)).await {
                tracing::warn!(group = %group.display(), "a control group could not be removed");
            }
        });
    }
}

/// `before` each further try.
async fn is_removed(group: &Path, tries: u32, pause: Duration, before: impl Fn()) -> bool {
    for _ in 0..tries {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                tokio::time::sleep(pause).await;
                before();
            }
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_killed_and_not_yet_reaped_owns_nothing() {
        let mut killed = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let alive = start_time(killed.id()).expect("it runs");
        let name = format!("{PREFIX}{}-{alive}-0", killed.id());
        assert!(!is_orphan(&name));
        killed.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !is_orphan(&name) {
            assert!(std::time::Instant::now() < deadline, "an unreaped process still counts as alive");
            std::thread::yield_now();
        }
        killed.wait().unwrap();
    }

    #[test]
    fn only_groups_of_dead_servers_are_orphans() {
        assert!(!is_orphan(&format!("{PREFIX}{}-3", owner())));
        assert!(is_orphan("greenroom-4194303-77-0"));
        assert!(is_orphan(&format!("{PREFIX}{}-1-0", std::process::id())));
        assert!(!is_orphan("greenroom-x"));
        assert!(!is_orphan("other-1-1-1"));
    }

    #[test]
    fn leftovers_are_found_in_groups_of_others() {
        let mount = tempfile::tempdir().unwrap();
        let orphan = mount.path().join("system.slice/other.service/greenroom-4194303-77-0");
        let ours = mount.path().join(format!("a/{PREFIX}{}-3", owner()));
        for directory in [&orphan, &ours] {
            fs::create_dir_all(directory).unwrap();
        }
        assert_eq!(leftovers(mount.path()), [orphan]);
    }
}
