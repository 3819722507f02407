//! The group of one sandbox: its limits, what it uses, and its freezer. Removed when it is dropped.

use super::layout::{Hierarchy, Version};
use super::{DEFAULT_CPU_MILLIS, DEFAULT_MEMORY, DEFAULT_PROCESSES, remove};
use greenroom_sandbox::Resources;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CPU_PERIOD_US: u64 = 100_000;
/// A background sandbox yields to sessions where both want the processor.
const BACKGROUND_SHARES: &str = "256";
const BACKGROUND_WEIGHT: &str = "25";
const FREEZE_TRIES: u32 = 2000;
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    memory: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
    pids: Option<Hierarchy>,
    freezer: Option<Hierarchy>,
    /// Read before and after each run.
    oom_control: OnceLock<Option<File>>,
    is_removed: AtomicBool,
}

fn set(place: Option<&Hierarchy>, file: (&str, &str), values: (String, String)) -> io::Result<()> {
    let Some(place) = place else { return Ok(()) };
    match place.version {
        Version::V1 => fs::write(place.base.join(file.0), values.0),
        Version::V2 => fs::write(place.base.join(file.1), values.1),
    }
}

fn both(value: &impl ToString) -> (String, String) {
    (value.to_string(), value.to_string())
}

fn read(place: Option<&Hierarchy>, (v1, v2): (&str, &str)) -> Option<String> {
    let place = place?;
    let name = if place.version == Version::V1 { v1 } else { v2 };
    fs::read_to_string(place.base.join(name)).ok()
}

impl Cgroup {
    /// Of directories that are made by the caller.
    pub(super) fn new(
        memory: Option<Hierarchy>,
        cpu: Option<Hierarchy>,
        pids: Option<Hierarchy>,
        freezer: Option<Hierarchy>,
    ) -> Self {
        let places = [&memory, &cpu, &pids, &freezer];
        let directories: BTreeSet<PathBuf> =
            places.into_iter().flatten().map(|place| place.base.clone()).collect();
        Self {
            directories: directories.into_iter().collect(),
            memory,
            cpu,
            pids,
            freezer,
            oom_control: OnceLock::new(),
            is_removed: AtomicBool::new(false),
        }
    }

    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    pub(crate) fn limit(&self, resources: &Resources, is_background: bool) -> io::Result<()> {
        let quota = (resources.cpu_millis.unwrap_or(DEFAULT_CPU_MILLIS) * CPU_PERIOD_US / 1000).max(1000);
        let processes = resources.processes.unwrap_or(DEFAULT_PROCESSES);
        set(self.pids.as_ref(), ("pids.max", "pids.max"), both(&processes))?;
        self.limit_memory(resources.memory_bytes.unwrap_or(DEFAULT_MEMORY))?;
        let cpu = self.cpu.as_ref();
        if cpu.is_some_and(|place| place.version == Version::V1) {
            set(cpu, ("cpu.cfs_period_us", ""), both(&CPU_PERIOD_US))?;
        }
        let bandwidth = (quota.to_string(), format!("{quota} {CPU_PERIOD_US}"));
        set(cpu, ("cpu.cfs_quota_us", "cpu.max"), bandwidth)?;
        if is_background {
            let weights = (BACKGROUND_SHARES.to_owned(), BACKGROUND_WEIGHT.to_owned());
            set(cpu, ("cpu.shares", "cpu.weight"), weights)?;
        }
        Ok(())
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let memory = self.memory.as_ref();
        if memory.is_some_and(|place| place.version == Version::V2) {
            set(memory, ("", "memory.max"), both(&bytes))?;
            // Present only where swap is accounted.
            let _ = set(memory, ("", "memory.swap.max"), both(&0));
            return Ok(());
        }
        // The limit with swap may not be below the one without, so one of the orders is refused.
        let _ = set(memory, ("memory.limit_in_bytes", ""), both(&bytes));
        let _ = set(memory, ("memory.memsw.limit_in_bytes", ""), both(&bytes));
        set(memory, ("memory.limit_in_bytes", ""), both(&bytes))
    }

    /// Moves the first process in; all others inherit.
    pub(crate) fn attach(&self, pid: i32) -> io::Result<()> {
        let pid = pid.to_string();
        self.directories.iter().try_for_each(|directory| fs::write(directory.join("cgroup.procs"), &pid))
    }

    /// How often the kernel has ended a process here for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let open = || {
            let place = self.memory.as_ref()?;
            let name = if place.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
            File::open(place.base.join(name)).ok()
        };
        let mut text = [0u8; 512];
        let length = match self.oom_control.get_or_init(open) {
            Some(file) => file.read_at(&mut text, 0).unwrap_or(0),
            None => 0,
        };
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        read(self.memory.as_ref(), ("memory.usage_in_bytes", "memory.current"))?.trim().parse().ok()
    }

    /// Stage included.
    pub(crate) fn processes(&self) -> Option<u64> {
        read(self.pids.as_ref(), ("pids.current", "pids.current"))?.trim().parse().ok()
    }

    pub(crate) fn members(&self) -> Vec<i32> {
        let text = self.directories.first().map(|group| fs::read_to_string(group.join("cgroup.procs")));
        let text = text.and_then(Result::ok).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(crate) fn can_freeze(&self) -> bool {
        self.freezer.is_some()
    }

    /// Resolves when every process stands still.
    pub(crate) async fn freeze(&self) -> io::Result<()> {
        let states = ("FROZEN".to_owned(), "1".to_owned());
        set(self.freezer.as_ref(), ("freezer.state", "cgroup.freeze"), states)?;
        for attempt in 0..FREEZE_TRIES {
            if self.is_frozen() {
                return Ok(());
            }
            if attempt < 20 {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(FREEZE_PAUSE).await;
            }
        }
        self.thaw()?;
        Err(io::ErrorKind::TimedOut.into())
    }

    fn is_frozen(&self) -> bool {
        let text = read(self.freezer.as_ref(), ("freezer.state", "cgroup.events"));
        text.is_some_and(|text| text.trim() == "FROZEN" || text.lines().any(|line| line == "frozen 1"))
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        let states = ("THAWED".to_owned(), "0".to_owned());
        set(self.freezer.as_ref(), ("freezer.state", "cgroup.freeze"), states)
    }

    /// After the last process has ended.
    pub(crate) async fn remove(&self) {
        if !self.is_removed.swap(true, Ordering::Relaxed) {
            remove_all(self.directories.clone()).await;
        }
    }
}

async fn remove_all(directories: Vec<PathBuf>) {
    for directory in &directories {
        remove(directory).await;
    }
}

impl Drop for Cgroup {
    /// Whoever gives up on the way to a sandbox leaves no group.
    fn drop(&mut self) {
        if *self.is_removed.get_mut() {
            return;
        }
        let directories = std::mem::take(&mut self.directories);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(remove_all(directories))),
            // Without a runtime only what is empty by now goes; the next server's sweep takes the rest.
            Err(_) => directories.iter().for_each(|directory| drop(fs::remove_dir(directory))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(base: &std::path::Path) -> Cgroup {
        let place = || Some(Hierarchy { base: base.to_owned(), version: Version::V2 });
        Cgroup::new(place(), place(), place(), place())
    }

    #[tokio::test]
    async fn a_group_of_version_two_is_read_and_frozen_by_its_files() {
        let base = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(base.path().join(name), text).unwrap();
        write("memory.current", "4096\n");
        write("pids.current", "3\n");
        write("memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0\n");
        write("cgroup.procs", "7\n8\n");
        write("cgroup.events", "populated 1\nfrozen 1\n");
        let group = v2(base.path());
        assert_eq!((group.memory_bytes(), group.processes(), group.oom_kills()), (Some(4096), Some(3), 1));
        assert_eq!(group.members(), [7, 8]);
        group.freeze().await.unwrap();
        assert_eq!(fs::read_to_string(base.path().join("cgroup.freeze")).unwrap(), "1");
        group.thaw().unwrap();
        assert_eq!(fs::read_to_string(base.path().join("cgroup.freeze")).unwrap(), "0");
        let resources = Resources { memory_bytes: Some(1 << 20), ..Resources::default() };
        group.limit(&resources, true).unwrap();
        assert_eq!(fs::read_to_string(base.path().join("memory.max")).unwrap(), "1048576");
        assert_eq!(fs::read_to_string(base.path().join("cpu.weight")).unwrap(), "25");
    }
}
