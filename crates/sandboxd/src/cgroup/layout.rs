//! Where groups are made on this machine: per controller a directory and the version of its hierarchy.

use super::group::Cgroup;
use super::{PREFIX, kill_members, leftovers, owner, remove};
use greenroom_sandbox::{Resources, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Pids, Self::Freezer];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A controller's hierarchy: groups go below `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) base: PathBuf,
    pub(crate) version: Version,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    hierarchies: BTreeMap<Controller, Hierarchy>,
    /// Of the cgroup file systems, for the sweep.
    mounts: Vec<PathBuf>,
    /// Why controllers are missing.
    reason: String,
}

impl Layout {
    pub(crate) fn none(reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..Self::default() }
    }

    /// Reads this process's own groups and tries to make one in each.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::read(&mounts, &own).probed()
    }

    /// Version 1 where it has the controller, because a controller is on one hierarchy only; else version 2.
    fn read(mountinfo: &str, own: &str) -> Self {
        let mut layout = Self::none("no cgroup file system is mounted");
        for (point, (root, options)) in mountinfo.lines().filter_map(|line| mount_of(line, "cgroup")) {
            layout.mounts.push(point.clone());
            for controller in Controller::ALL {
                let path = own_path(own, controller.name());
                if let Some(path) = path.filter(|_| options.split(',').any(|name| name == controller.name()))
                {
                    let base = point.join(below(&path, &root));
                    let hierarchy = Hierarchy { base, version: Version::V1 };
                    layout.hierarchies.insert(controller, hierarchy);
                }
            }
        }
        if let Some((mount, _)) = mountinfo.lines().find_map(|line| mount_of(line, "cgroup2")) {
            layout.mounts.push(mount.clone());
            if let Err(error) = layout.add_v2(&mount) {
                layout.reason = format!("cgroup v2 at {}: {error}", mount.display());
            }
        }
        layout
    }

    /// A group of ours at the top whose children have the controllers that version 1 lacks. Freezing is part of every
    /// group there, so it is used where a group is made anyway, or where nothing else freezes.
    fn add_v2(&mut self, mount: &Path) -> io::Result<()> {
        let available = fs::read_to_string(mount.join("cgroup.controllers"))?;
        let is_available = |controller: &Controller| {
            *controller == Controller::Freezer
                || available.split_whitespace().any(|name| name == controller.name())
        };
        let missing: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| !self.hierarchies.contains_key(controller) && is_available(controller))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let base = mount.join("greenroom");
        let switched: Vec<String> = missing
            .iter()
            .filter(|controller| **controller != Controller::Freezer)
            .map(|controller| format!("+{}", controller.name()))
            .collect();
        fs::create_dir_all(&base)?;
        if !switched.is_empty() {
            for group in [mount, &base] {
                fs::write(group.join("cgroup.subtree_control"), switched.join(" "))?;
            }
        }
        for controller in missing {
            self.hierarchies.insert(controller, Hierarchy { base: base.clone(), version: Version::V2 });
        }
        Ok(())
    }

    fn probed(mut self) -> Self {
        let name = format!("{PREFIX}{}-probe", owner());
        self.hierarchies.retain(|_, hierarchy| {
            let directory = hierarchy.base.join(&name);
            match fs::create_dir(&directory).and_then(|()| fs::remove_dir(&directory)) {
                Ok(()) => true,
                Err(error) => {
                    self.reason = format!("control groups cannot be made: {error}");
                    false
                }
            }
        });
        self
    }

    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.hierarchies.contains_key(&controller)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// The version a controller is on, or why it is missing.
    pub(crate) fn describe(&self, controller: Controller) -> Result<&'static str, &str> {
        match self.hierarchies.get(&controller).map(|hierarchy| hierarchy.version) {
            Some(Version::V1) => Ok("cgroup v1"),
            Some(Version::V2) => Ok("cgroup v2"),
            None => Err(&self.reason),
        }
    }

    /// Ends and removes the groups of servers that no longer exist, wherever these ran.
    pub(crate) async fn sweep(&self) {
        let found: BTreeSet<PathBuf> = self.mounts.iter().flat_map(|mount| leftovers(mount)).collect();
        found.iter().for_each(|group| kill_members(group));
        for group in found {
            remove(&group).await;
        }
    }

    /// A group with the default limits.
    pub(crate) fn create(&self) -> Result<Option<Cgroup>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.is_none() {
            return Ok(None);
        }
        let name = format!("{PREFIX}{}-{}", owner(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = self.group(&name);
        let made = group.directories().iter().try_for_each(fs::create_dir);
        let limited = made.and_then(|()| group.limit(&Resources::default(), false));
        limited
            .map(|()| Some(group))
            .map_err(|error| crate::zygote::system("make control group", name, error))
    }

    fn group(&self, name: &str) -> Cgroup {
        let place = |controller| {
            let hierarchy = self.hierarchies.get(&controller)?;
            Some(Hierarchy { base: hierarchy.base.join(name), version: hierarchy.version })
        };
        Cgroup::new(
            place(Controller::Memory),
            place(Controller::Cpu),
            place(Controller::Pids),
            place(Controller::Freezer),
        )
    }
}

/// `(mount point, (root, options))` of a mountinfo line of this type.
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

/// The group this process is in, in the hierarchy of a controller of version 1.
fn own_path(own: &str, controller: &str) -> Option<String> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let is_here = parts.next()?.split(',').any(|name| name == controller);
        is_here.then(|| parts.next().map(str::to_owned))?
    })
}

/// Groups go below our own, so that limits on the server hold for its sandboxes together.
fn below<'a>(path: &'a str, root: &str) -> &'a str {
    path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path).trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 /docker/a /sys/fs/cgroup/pids rw shared:1 - cgroup cgroup rw,pids\n";
    const OWN: &str = "8:pids:/docker/a/b\n4:memory:/one/two\n1:cpu,cpuacct:/\n0::/\n";

    /// A version 2 mount as the kernel shows it, as far as it is read.
    fn v2(controllers: &str) -> (tempfile::TempDir, String) {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("cgroup.controllers"), controllers).unwrap();
        let line = format!("41 31 0:38 / {} rw,relatime - cgroup2 cgroup2 rw\n", mount.path().display());
        (mount, line)
    }

    #[test]
    fn version_one_groups_go_below_our_own() {
        let layout = Layout::read(V1, OWN);
        let of = |controller| layout.hierarchies[&controller].base.to_str().unwrap().to_owned();
        assert_eq!(of(Controller::Memory), "/sys/fs/cgroup/memory/one/two");
        assert_eq!(of(Controller::Cpu), "/sys/fs/cgroup/cpu/");
        assert_eq!(of(Controller::Pids), "/sys/fs/cgroup/pids/b");
        assert!(!layout.has(Controller::Freezer));
    }

    #[test]
    fn each_controller_is_taken_where_the_machine_has_it() {
        let (mount, line) = v2("cpuset pids hugetlb\n");
        let without_pids: String = V1.lines().take(2).map(|line| format!("{line}\n")).collect();
        let layout = Layout::read(&format!("{without_pids}{line}"), OWN);
        assert_eq!(layout.describe(Controller::Memory), Ok("cgroup v1"));
        assert_eq!(layout.describe(Controller::Pids), Ok("cgroup v2"));
        assert_eq!(layout.describe(Controller::Freezer), Ok("cgroup v2"));
        let switched = fs::read_to_string(mount.path().join("greenroom/cgroup.subtree_control")).unwrap();
        assert_eq!(switched, "+pids");
    }

    #[test]
    fn version_two_alone_has_everything_in_one_group() {
        let (mount, line) = v2("cpu memory pids\n");
        let layout = Layout::read(&line, "0::/\n").probed();
        let group = layout.create().unwrap().unwrap();
        assert_eq!(group.directories().len(), 1);
        let read = |name: &str| fs::read_to_string(group.directories()[0].join(name)).unwrap();
        assert_eq!(read("memory.max"), (4u64 << 30).to_string());
        assert_eq!(read("cpu.max"), "200000 100000");
        assert_eq!(read("pids.max"), "1024");
        assert!(group.directories()[0].starts_with(mount.path().join("greenroom")));
    }

    #[test]
    fn a_missing_controller_says_why() {
        let (_mount, line) = v2("cpuset\n");
        let layout = Layout::read(&line, "0::/\n");
        assert!(layout.describe(Controller::Memory).is_err() && !layout.is_none());
        assert!(Layout::read("", "").is_none());
    }

    /// The kernel's own version 2 tree, whatever else it has: freezing, telling and killing are part of every group there.
    fn kernels_version_two() -> Option<Layout> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_v2 = |line: &&str| mount_of(line, "cgroup2").is_some();
        let lines: Vec<&str> = mounts.lines().filter(is_v2).take(1).collect();
        let layout = Layout::read(&lines.join("\n"), "0::/\n").probed();
        if !layout.has(Controller::Freezer) {
            println!("left out: no group of version 2 can be made here");
            return None;
        }
        Some(layout)
    }

    /// A process that never rests by itself.
    struct Busy(std::process::Child);

    impl Busy {
        fn start() -> Self {
            Self(std::process::Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id() as i32
        }

        fn is_running(&self) -> bool {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
            stat[stat.rfind(')').unwrap() + 1..].trim_start().starts_with('R')
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn is_populated(directory: &Path) -> bool {
        fs::read_to_string(directory.join("cgroup.events")).unwrap().lines().any(|line| line == "populated 1")
    }

    #[tokio::test]
    async fn the_kernels_version_two_stops_a_group_and_lets_it_go_on() {
        let Some(layout) = kernels_version_two() else { return };
        let group = layout.create().unwrap().unwrap();
        let directory = group.directories()[0].clone();
        assert!(!is_populated(&directory));
        let mut busy = Busy::start();
        group.attach(busy.pid()).unwrap();
        assert!(is_populated(&directory));
        assert_eq!(group.members(), [busy.pid()]);
        group.freeze().await.unwrap();
        // It would run at each of these looks.
        assert!((0..1000).all(|_| !busy.is_running()));
        group.thaw().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !busy.is_running() {
            assert!(std::time::Instant::now() < deadline, "it stands still after the thaw");
            std::thread::yield_now();
        }
        busy.0.kill().unwrap();
        busy.0.wait().unwrap();
        assert!(!is_populated(&directory));
        group.remove().await;
        assert!(!directory.exists());
    }

    #[tokio::test]
    async fn a_group_whose_process_outlives_the_wait_is_removed_later() {
        let Some(layout) = kernels_version_two() else { return };
        let group = layout.create().unwrap().unwrap();
        let directory = group.directories()[0].clone();
        let mut busy = Busy::start();
        group.attach(busy.pid()).unwrap();
        let reaped = tokio::task::spawn_blocking(move || busy.0.wait());
        group.remove().await;
        assert!(directory.exists(), "nothing is killed while it may end by itself");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while directory.exists() {
            assert!(std::time::Instant::now() < deadline, "the group is still there");
            tokio::task::yield_now().await;
        }
        assert!(reaped.await.unwrap().unwrap().code().is_none(), "it was killed");
    }

    #[tokio::test]
    async fn what_a_dead_server_left_frozen_in_version_two_is_ended_and_removed() {
        let Some(layout) = kernels_version_two() else { return };
        let group = layout.group(&format!("{PREFIX}4194303-{}-0", std::process::id()));
        let directory = group.directories()[0].clone();
        fs::create_dir(&directory).unwrap();
        let mut busy = Busy::start();
        group.attach(busy.pid()).unwrap();
        group.freeze().await.unwrap();
        // Whoever reaps it must not be this test, or the group would wait for it.
        let reaped = tokio::task::spawn_blocking(move || busy.0.wait());
        layout.sweep().await;
        assert!(!directory.exists());
        assert!(reaped.await.unwrap().unwrap().code().is_none(), "it was killed");
    }
}
