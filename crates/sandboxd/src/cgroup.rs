//! Limits by control groups: version 1, version 2, or the mixture. One group per sandbox, named after the server process
//! so that a later server recognises what a dead one left.

use greenroom_sandbox::{Resources, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const DEFAULT_MEMORY: u64 = 4 << 30;
pub(crate) const DEFAULT_CPU_MILLIS: u64 = 2000;
pub(crate) const DEFAULT_PROCESSES: u64 = 1024;

const PREFIX: &str = "greenroom-";
const CPU_PERIOD_US: u64 = 100_000;
/// A background sandbox yields to sessions where both want the processor.
const BACKGROUND_SHARES: &str = "256";
const BACKGROUND_WEIGHT: &str = "25";
const REMOVE_TRIES: u32 = 400;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Where groups are made on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Controller to the directory under which its groups go.
    V1(BTreeMap<String, PathBuf>),
    V2(PathBuf),
    None {
        reason: String,
    },
}

const V1_CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", "freezer"];
const V2_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Layout {
    /// Reads this process's own groups and tries to make one.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let v1 = v1_directories(&mounts, &own);
        if ["memory", "pids", "cpu"].iter().all(|name| v1.contains_key(*name)) {
            return Self::V1(v1).probed();
        }
        match mounts.lines().find_map(|line| mount_of(line, "cgroup2")) {
            Some((mount, _)) => prepare_v2(&mount).map_or_else(
                |error| Self::None { reason: format!("cgroup v2 at {}: {error}", mount.display()) },
                |base| Self::V2(base).probed(),
            ),
            None => Self::None { reason: "no cgroup file system is mounted".into() },
        }
    }

    fn probed(self) -> Self {
        let name = format!("{PREFIX}{}-probe", owner());
        let probe = self.directories(&name).into_iter().try_for_each(|directory| {
            fs::create_dir(&directory)?;
            fs::remove_dir(&directory)
        });
        match probe {
            Ok(()) => self,
            Err(error) => Self::None { reason: format!("control groups cannot be made: {error}") },
        }
    }

    fn directories(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::V1(controllers) => controllers.values().map(|base| base.join(name)).collect(),
            Self::V2(base) => vec![base.join(name)],
            Self::None { .. } => Vec::new(),
        }
    }

    /// Ends and removes the groups of servers that no longer exist.
    pub(crate) async fn sweep(&self) {
        for group in self.directories("").into_iter().flat_map(|base| leftovers(&base)) {
            kill_members(&group);
            remove(&group).await;
        }
    }

    /// A group with the default limits.
    pub(crate) fn create(&self) -> Result<Option<Cgroup>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}-{}", owner(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = match self {
            Self::None { .. } => return Ok(None),
            Self::V1(controllers) => Cgroup {
                directories: controllers.values().map(|base| base.join(&name)).collect(),
                memory: controllers.get("memory").map(|base| base.join(&name)),
                cpu: controllers.get("cpu").map(|base| base.join(&name)),
                pids: controllers.get("pids").map(|base| base.join(&name)),
                is_v2: false,
            },
            Self::V2(base) => {
                let directory = Some(base.join(&name));
                let directories = directory.clone().into_iter().collect();
                Cgroup {
                    directories,
                    memory: directory.clone(),
                    cpu: directory.clone(),
                    pids: directory,
                    is_v2: true,
                }
            }
        };
        let made = group.directories.iter().try_for_each(fs::create_dir);
        let limited = made.and_then(|()| group.limit(&Resources::default(), false));
        if limited.is_err() {
            // Empty: nothing has moved in.
            group.directories.iter().for_each(|directory| drop(fs::remove_dir(directory)));
        }
        limited
            .map(|()| Some(group))
            .map_err(|error| crate::zygote::system("make control group", name, error))
    }
}

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

fn leftovers(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| is_orphan(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
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
}

async fn remove(group: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => tokio::time::sleep(REMOVE_PAUSE).await,
            _ => return,
        }
    }
    tracing::warn!(group = %group.display(), "a control group could not be removed");
}

/// `(mount point, controllers or options)` of a mountinfo line of this type.
fn mount_of(line: &str, kind: &str) -> Option<(PathBuf, (String, String))> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    if right.next()? != kind {
        return None;
    }
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    Some((PathBuf::from(point), (root.to_owned(), right.nth(1)?.to_owned())))
}

/// Groups go below our own, so that limits on the server hold for its sandboxes together.
fn v1_directories(mounts: &str, own: &str) -> BTreeMap<String, PathBuf> {
    let mut directories = BTreeMap::new();
    for (point, (root, options)) in mounts.lines().filter_map(|line| mount_of(line, "cgroup")) {
        for controller in options.split(',').filter(|option| V1_CONTROLLERS.contains(option)) {
            let path = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                parts.next()?.split(',').any(|name| name == controller).then(|| parts.next())?
            });
            if let Some(path) = path {
                let below =
                    path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path).trim_start_matches('/');
                directories.insert(controller.to_owned(), point.join(below));
            }
        }
    }
    directories
}

/// A group of ours at the top whose children may have limits.
fn prepare_v2(mount: &Path) -> io::Result<PathBuf> {
    let available = fs::read_to_string(mount.join("cgroup.controllers"))?;
    let missing = V2_CONTROLLERS.iter().find(|name| !available.split_whitespace().any(|word| word == **name));
    if let Some(missing) = missing {
        return Err(io::Error::other(format!("the controller {missing} is missing")));
    }
    let base = mount.join("greenroom");
    let enable = V2_CONTROLLERS.map(|name| format!("+{name}")).join(" ");
    fs::write(mount.join("cgroup.subtree_control"), &enable)?;
    fs::create_dir_all(&base)?;
    fs::write(base.join("cgroup.subtree_control"), &enable)?;
    Ok(base)
}

/// The group of one sandbox.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    pids: Option<PathBuf>,
    is_v2: bool,
}

fn set(directory: Option<&PathBuf>, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
    directory.map_or(Ok(()), |directory| fs::write(directory.join(file), value.to_string()))
}

impl Cgroup {
    pub(crate) fn limit(&self, resources: &Resources, is_background: bool) -> io::Result<()> {
        let memory = resources.memory_bytes.unwrap_or(DEFAULT_MEMORY);
        let quota = (resources.cpu_millis.unwrap_or(DEFAULT_CPU_MILLIS) * CPU_PERIOD_US / 1000).max(1000);
        set(self.pids.as_ref(), "pids.max", resources.processes.unwrap_or(DEFAULT_PROCESSES))?;
        if self.is_v2 {
            set(self.memory.as_ref(), "memory.max", memory)?;
            // Present only where swap is accounted.
            let _ = set(self.memory.as_ref(), "memory.swap.max", 0);
            set(self.cpu.as_ref(), "cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
        } else {
            // The limit with swap may not be below the one without, so one of the orders is refused.
            let _ = set(self.memory.as_ref(), "memory.limit_in_bytes", memory);
            let _ = set(self.memory.as_ref(), "memory.memsw.limit_in_bytes", memory);
            set(self.memory.as_ref(), "memory.limit_in_bytes", memory)?;
            set(self.cpu.as_ref(), "cpu.cfs_period_us", CPU_PERIOD_US)?;
            set(self.cpu.as_ref(), "cpu.cfs_quota_us", quota)?;
        }
        match (is_background, self.is_v2) {
            (false, _) => Ok(()),
            (true, true) => set(self.cpu.as_ref(), "cpu.weight", BACKGROUND_WEIGHT),
            (true, false) => set(self.cpu.as_ref(), "cpu.shares", BACKGROUND_SHARES),
        }
    }

    /// Moves the first process in; all others inherit.
    pub(crate) fn attach(&self, pid: i32) -> io::Result<()> {
        let pid = pid.to_string();
        self.directories.iter().try_for_each(|directory| fs::write(directory.join("cgroup.procs"), &pid))
    }

    /// How often the kernel has ended a process here for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = self.memory.as_ref().and_then(|directory| fs::read_to_string(directory.join(file)).ok());
        let count =
            text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("oom_kill ")));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// After the last process has ended.
    pub(crate) async fn remove(&self) {
        for directory in &self.directories {
            remove(directory).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 /docker/a /sys/fs/cgroup/pids rw shared:1 - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const OWN: &str = "8:pids:/docker/a/b\n4:memory:/one/two\n1:cpu,cpuacct:/\n0::/\n";

    #[test]
    fn version_one_groups_go_below_our_own() {
        let directories = v1_directories(MOUNTS, OWN);
        let of = |name: &str| directories[name].to_str().unwrap().to_owned();
        assert_eq!(of("memory"), "/sys/fs/cgroup/memory/one/two");
        assert_eq!(of("cpu"), "/sys/fs/cgroup/cpu/");
        assert_eq!(of("pids"), "/sys/fs/cgroup/pids/b");
    }

    #[test]
    fn a_server_that_was_killed_and_not_yet_reaped_owns_nothing() {
        let mut killed = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let alive = start_time(killed.id()).expect("it runs");
        let name = format!("{PREFIX}{}-{alive}-0", killed.id());
        assert!(!is_orphan(&name));
        killed.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
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
}
