//! The checks against trees that look like /proc, /sys and /dev of different machines.

use super::facts::{Facts, Place};
use super::*;
use std::fs;

struct Tree(tempfile::TempDir);

impl Tree {
    /// A machine with everything, on control groups of version 2.
    fn whole() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            tree.write(&format!("proc/sys/user/max_{kind}_namespaces"), "63000\n");
        }
        tree.write("proc/filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n\tbtrfs\n");
        tree.write("proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 100 0 100\n");
        tree.write(
            "proc/self/mountinfo",
            "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,favordynmods\n",
        );
        tree.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        tree.write("proc/self/limits", "Limit  Soft  Hard  Units\nMax open files            1024                 1048576              files\n");
        for (name, value) in [
            ("fs/inotify/max_user_instances", "8192"),
            ("fs/inotify/max_user_watches", "1048576"),
            ("kernel/keys/maxkeys", "8000"),
            ("kernel/pid_max", "4194304"),
        ] {
            tree.write(&format!("proc/sys/{name}"), value);
        }
        for path in ["dev/loop-control", "usr/sbin/mkfs.btrfs", "usr/bin/newuidmap", "usr/bin/newgidmap"] {
            tree.write(path, "");
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join(path)).unwrap();
    }

    fn facts(&self, is_user_mode: bool) -> Facts {
        Facts {
            root: self.0.path().to_owned(),
            is_user_mode,
            data: Some(Place { path: "/data".into(), file_system: "ext4", free_bytes: 1 << 40 }),
            landlock: 7,
            path: vec!["/usr/bin".into(), "/usr/sbin".into()],
        }
    }
}

fn missing(facts: &Facts) -> Vec<Capability> {
    let found = entries(facts);
    assert!(found.iter().all(|entry| MACHINE_ENTRIES.contains(&entry.name.as_str())), "{found:?}");
    found.into_iter().filter(|entry| !entry.is_available).collect()
}

fn only(facts: &Facts) -> Capability {
    let mut missing = missing(facts);
    assert_eq!(missing.len(), 1, "{missing:?}");
    missing.remove(0)
}

#[test]
fn a_whole_machine_lacks_nothing() {
    assert_eq!(missing(&Tree::whole().facts(false)), []);
    let as_user: Vec<String> =
        missing(&Tree::whole().facts(true)).into_iter().map(|entry| entry.name).collect();
    assert_eq!(as_user, ["btrfs"]);
}

#[test]
fn each_switch_that_is_off_is_named_with_the_line_that_changes_it() {
    let switches = [
        (
            "proc/sys/user/max_user_namespaces",
            "0",
            "user_namespaces",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            "proc/sys/user/max_net_namespaces",
            "100",
            "namespace_limits",
            "sysctl -w user.max_net_namespaces=8000",
        ),
        (
            "proc/sys/fs/inotify/max_user_instances",
            "128",
            "inotify",
            "sysctl -w fs.inotify.max_user_instances=8192",
        ),
        (
            "proc/sys/fs/inotify/max_user_watches",
            "8192",
            "inotify_watches",
            "sysctl -w fs.inotify.max_user_watches=1048576",
        ),
        ("proc/sys/kernel/keys/maxkeys", "200", "keyrings", "sysctl -w kernel.keys.maxkeys=8000"),
        ("proc/sys/kernel/pid_max", "32768", "process_ids", "sysctl -w kernel.pid_max=4194304"),
        ("proc/filesystems", "\tbtrfs\n", "overlay", "modprobe overlay"),
        ("proc/filesystems", "nodev\toverlay\n", "btrfs", "modprobe btrfs"),
        (
            "proc/swaps",
            "Filename\n",
            "swap",
            "modprobe zram && zramctl --find --size 4G && mkswap /dev/zram0 && swapon /dev/zram0",
        ),
    ];
    for (path, text, name, remedy) in switches {
        let tree = Tree::whole();
        tree.write(path, text);
        let missing = missing(&tree.facts(false));
        let entry =
            missing.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{path}: {missing:?}"));
        assert_eq!(entry.remedy.as_deref(), Some(remedy));
    }
    for (path, name) in [("dev/loop-control", "loop_devices"), ("usr/sbin/mkfs.btrfs", "btrfs")] {
        let tree = Tree::whole();
        tree.remove(path);
        assert_eq!(only(&tree.facts(false)).name, name);
    }
}

#[test]
fn an_ordinary_user_is_told_what_only_concerns_them() {
    for (path, value, line) in [
        ("unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        let tree = Tree::whole();
        tree.write(&format!("proc/sys/kernel/{path}"), value);
        assert_eq!(missing(&tree.facts(false)), []);
        let missing = missing(&tree.facts(true));
        assert_eq!((missing[0].name.as_str(), missing[0].remedy.as_deref()), ("user_namespaces", Some(line)));
    }
}

#[test]
fn control_groups_are_told_by_controller() {
    let tree = Tree::whole();
    let told = |tree: &Tree| {
        let found = entries(&tree.facts(false));
        found.into_iter().filter(|entry| entry.name.starts_with("cgroup")).collect::<Vec<_>>()
    };
    assert_eq!(told(&tree)[0].detail, "version 2: memory v2, cpu v2, pids v2, freezer v2");
    tree.write(
        "proc/self/mountinfo",
        "31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
         32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         33 1 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
         34 1 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
    );
    let hybrid = told(&tree);
    assert_eq!(hybrid[0].detail, "hybrid: memory v1, cpu v1, pids v1, freezer v2");
    assert!(hybrid[0].is_available);
    assert_eq!(hybrid[1].remedy.as_deref(), Some("mount -o remount,favordynmods /sys/fs/cgroup/unified"));
    tree.write("proc/self/mountinfo", "");
    let none = told(&tree);
    assert!(!none[0].is_available && none[0].detail.starts_with("none: memory none"), "{none:?}");
}

#[test]
fn the_data_directory_and_descriptors_are_judged() {
    let tree = Tree::whole();
    let mut facts = tree.facts(false);
    facts.data = Some(Place { path: "/data".into(), file_system: "overlay", free_bytes: 1 << 40 });
    assert_eq!(only(&facts).name, "data_directory");
    facts.data = Some(Place { path: "/data".into(), file_system: "xfs", free_bytes: 1 << 30 });
    assert_eq!(only(&facts).name, "free_disk");
    facts.data = None;
    assert_eq!(missing(&facts), []);
    for (version, told) in [(0, "namespaces and the call filter alone"), (2, "read_only) are refused")] {
        facts.landlock = version;
        let entry = only(&facts);
        assert!(entry.name == "landlock" && entry.detail.contains(told), "{entry:?}");
    }
    facts.landlock = 7;
    tree.write(
        "proc/self/limits",
        "Max open files            1024                 4096                 files\n",
    );
    assert_eq!(only(&facts).name, "open_files");
}

#[test]
fn this_machine_can_be_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    let found = examine(false, Some(&scratch.path().join("not/yet")));
    assert!(found.iter().any(|entry| entry.name == "free_disk"));
    assert!(found.iter().all(|entry| entry.is_available || entry.remedy.is_some()), "{found:?}");
}
