//! What this machine can do for sandboxes, read from /proc, /sys and the data directory without changing anything: one
//! entry per subject, with what it costs where it is missing and the line that changes it. `capabilities` adds what the
//! running provider found by trying. The one source for `greenroom doctor`, `GET /machine` and the start of the server.

mod facts;
mod trial;

use facts::Facts;
use greenroom_sandbox::Capability;
use std::path::Path;
pub use trial::{TRIAL, diagnose};

/// Sandboxes that the wanted figures below are meant for.
const SANDBOXES: u64 = 500;
const WANTED_NAMESPACES: u64 = 2 * SANDBOXES;
const WANTED_INOTIFY: u64 = 1024;
const WANTED_WATCHES: u64 = 524_288;
const WANTED_KEYS: u64 = 2 * SANDBOXES;
const WANTED_PIDS: u64 = 131_072;
/// Descriptors of the server: sockets, listeners and process handles, about 20 per sandbox.
const WANTED_FILES: u64 = 20 * SANDBOXES;
const WANTED_FREE_BYTES: u64 = 10 << 30;

/// Looks at this machine. `data`: where workspaces and images are to lie; it need not exist yet.
pub(crate) fn examine(is_user_mode: bool, data: Option<&Path>) -> Vec<Capability> {
    entries(&Facts::of_this_machine(is_user_mode, data))
}

/// Names of the entries that depend on how this machine is set up, and not on the mode.
pub const MACHINE_ENTRIES: [&str; 17] = [
    "user_namespaces",
    "namespace_limits",
    "cgroups",
    "cgroup_moves",
    "overlay",
    "data_directory",
    "free_disk",
    "btrfs",
    "loop_devices",
    "swap",
    "inotify",
    "inotify_watches",
    "keyrings",
    "process_ids",
    "open_files",
    "landlock",
    "id_tools",
];

fn entries(facts: &Facts) -> Vec<Capability> {
    let mut entries = vec![user_namespaces(facts), namespace_limits(facts)];
    if !facts.is_user_mode {
        // An ordinary user owns no control group, whatever there is.
        entries.extend([cgroups(facts), cgroup_moves(facts)]);
    }
    entries.push(overlay(facts));
    entries.extend(data_directory(facts));
    entries.extend(free_disk(facts));
    entries.extend([btrfs(facts), loop_devices(facts), swap(facts)]);
    entries.extend(bounds(facts));
    entries.push(landlock(facts));
    if facts.is_user_mode {
        entries.push(id_tools(facts));
    }
    entries
}

fn yes(name: &str, detail: impl Into<String>) -> Capability {
    Capability { name: name.into(), is_available: true, detail: detail.into(), remedy: None }
}

fn no(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Capability {
    Capability {
        name: name.into(),
        is_available: false,
        detail: detail.into(),
        remedy: Some(remedy.into()).filter(|remedy: &String| !remedy.is_empty()),
    }
}

fn user_namespaces(facts: &Facts) -> Capability {
    let name = "user_namespaces";
    let without = "no sandbox can be made";
    if facts.number("proc/sys/user/max_user_namespaces") == Some(0) {
        return no(name, without, "sysctl -w user.max_user_namespaces=15000");
    }
    if facts.number("proc/sys/user/max_mnt_namespaces") == Some(0) {
        return no(name, without, "sysctl -w user.max_mnt_namespaces=15000");
    }
    if !facts.is_user_mode {
        return yes(name, "made by root");
    }
    if facts.number("proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return no(
            name,
            format!("{without} by an ordinary user"),
            "sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if facts.number("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        let remedy = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
        return no(name, format!("{without} by an ordinary user: AppArmor restricts them"), remedy);
    }
    yes(name, "made by an ordinary user")
}

fn namespace_limits(facts: &Facts) -> Capability {
    let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let bound = |kind: &&str| facts.number(&format!("proc/sys/user/max_{kind}_namespaces"));
    let low = kinds.iter().filter_map(|kind| Some((kind, bound(kind)?))).min_by_key(|(_, bound)| *bound);
    match low {
        Some((kind, now)) if now < WANTED_NAMESPACES => no(
            "namespace_limits",
            format!("about {now} sandboxes at a time, then claims fail"),
            format!("sysctl -w user.max_{kind}_namespaces={}", 8 * WANTED_NAMESPACES),
        ),
        Some((_, now)) => yes("namespace_limits", format!("{now} of each kind at least")),
        None => yes("namespace_limits", "no bound is known"),
    }
}

/// Which version each controller is on.
fn cgroups(facts: &Facts) -> Capability {
    let found = facts.controllers();
    let wanted = ["memory", "cpu", "pids", "freezer"];
    let told: Vec<String> =
        wanted.iter().map(|name| format!("{name} {}", found.version_of(name).unwrap_or("none"))).collect();
    let layout = match (found.has_v1, found.v2.is_some()) {
        (true, true) => "hybrid",
        (true, false) => "version 1",
        (false, true) => "version 2",
        (false, false) => "none",
    };
    let detail = format!("{layout}: {}", told.join(", "));
    if wanted[..3].iter().all(|name| found.version_of(name).is_some()) {
        return yes("cgroups", detail);
    }
    let lost = format!("{detail}; without a controller its use is not bounded");
    match &found.v2 {
        Some(mount) => {
            no("cgroups", lost, format!("echo '+memory +cpu +pids' > {mount}/cgroup.subtree_control"))
        }
        None => no("cgroups", lost, "mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

fn cgroup_moves(facts: &Facts) -> Capability {
    let found = facts.controllers();
    match (found.has_fast_moves, found.v2.clone().or(found.first)) {
        (true, _) => yes("cgroup_moves", "moving a process into a control group is fast (favordynmods)"),
        (false, Some(mount)) => no(
            "cgroup_moves",
            "moving a process into a control group takes 5-10 ms on an idle machine: only sandboxes made in advance are quick",
            format!("mount -o remount,favordynmods {mount}"),
        ),
        (false, None) => yes("cgroup_moves", "there are no control groups to move into"),
    }
}

fn overlay(facts: &Facts) -> Capability {
    if facts.has_file_system("overlay") {
        return yes("overlay", "layers are mounted, never copied");
    }
    no("overlay", "no sandbox can be made", "modprobe overlay")
}

fn data_directory(facts: &Facts) -> Option<Capability> {
    let place = facts.data.as_ref()?;
    let path = place.path.display();
    Some(match place.file_system {
        "overlay" => no(
            "data_directory",
            format!("{path} lies on an overlay, which cannot hold workspaces: no sandbox can be made"),
            "greenroom serve --data /path/on/a/disk (in a container: on a volume)",
        ),
        "nfs" | "fuse" => no(
            "data_directory",
            format!(
                "{path} lies on {}, which cannot hold workspaces: no sandbox can be made",
                place.file_system
            ),
            "greenroom serve --data /path/on/a/local/disk",
        ),
        "tmpfs" => no(
            "data_directory",
            format!("{path} lies in memory: everything is lost when the machine restarts"),
            "greenroom serve --data /path/on/a/disk",
        ),
        kind => yes("data_directory", format!("{path} lies on {kind}")),
    })
}

fn free_disk(facts: &Facts) -> Option<Capability> {
    let place = facts.data.as_ref()?;
    let told = format!("{:.1} GB free below {}", place.free_bytes as f64 / 1e9, place.path.display());
    Some(if place.free_bytes >= WANTED_FREE_BYTES {
        yes("free_disk", told)
    } else {
        let lost = format!("{told}; images and sessions of a few repositories need 10");
        no("free_disk", lost, "greenroom serve --data /path/on/a/larger/disk")
    })
}

fn btrfs(facts: &Facts) -> Capability {
    let without = "disk use of sandboxes is not bounded, and a snapshot copies files";
    if facts.is_user_mode {
        return no(
            "btrfs",
            format!("an ordinary user mounts none: {without}"),
            "run greenroom as root: sudo greenroom serve",
        );
    }
    match (facts.has_file_system("btrfs"), facts.has_program("mkfs.btrfs")) {
        (false, _) => no("btrfs", format!("the kernel has no btrfs: {without}"), "modprobe btrfs"),
        (true, false) => {
            no("btrfs", format!("mkfs.btrfs is missing: {without}"), "apt-get install btrfs-progs")
        }
        (true, true) => yes("btrfs", "a volume of our own bounds disk use and makes snapshots"),
    }
}

fn loop_devices(facts: &Facts) -> Capability {
    if facts.exists("dev/loop-control") {
        return yes("loop_devices", "present");
    }
    let lost = "the volume for workspaces cannot be mounted: disk use of sandboxes is not bounded";
    no("loop_devices", lost, "modprobe loop (in a container: docker run --privileged -v /dev:/dev)")
}

fn swap(facts: &Facts) -> Capability {
    let devices: Vec<String> = facts
        .text("proc/swaps")
        .unwrap_or_default()
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect();
    if devices.is_empty() {
        let remedy = "modprobe zram && zramctl --find --size 4G && mkswap /dev/zram0 && swapon /dev/zram0";
        return no("swap", "idle sandboxes keep their memory", remedy);
    }
    yes("swap", format!("memory of idle sandboxes goes to {}", devices.join(", ")))
}

fn bounds(facts: &Facts) -> Vec<Capability> {
    let sysctl = |name, key: &str, wanted: u64, raised: u64, what: &str, lost: &str| {
        let path = format!("proc/sys/{}", key.replace('.', "/"));
        match facts.number(&path) {
            Some(now) if now < wanted => {
                no(name, format!("{what}: {now}; {lost}"), format!("sysctl -w {key}={raised}"))
            }
            Some(now) => yes(name, format!("{what}: {now}")),
            None => yes(name, format!("{what}: no bound is known")),
        }
    };
    let watchers = "file watchers of all sandboxes together";
    let out_of_watchers = "then `watch` modes of development servers fail in further ones";
    let watched = "watched directories of all sandboxes together";
    let keys = "kernel keyrings of all sandboxes together";
    let out_of_keys = "then further sandboxes cannot be made";
    let processes = "processes of the whole machine";
    vec![
        sysctl("inotify", "fs.inotify.max_user_instances", WANTED_INOTIFY, 8192, watchers, out_of_watchers),
        sysctl(
            "inotify_watches",
            "fs.inotify.max_user_watches",
            WANTED_WATCHES,
            1_048_576,
            watched,
            out_of_watchers,
        ),
        sysctl("keyrings", "kernel.keys.maxkeys", WANTED_KEYS, 8000, keys, out_of_keys),
        sysctl("process_ids", "kernel.pid_max", WANTED_PIDS, 4_194_304, processes, "then nothing can start"),
        open_files(facts),
    ]
}

fn open_files(facts: &Facts) -> Capability {
    match facts.open_files() {
        Some(now) if now < WANTED_FILES => no(
            "open_files",
            format!("open files of the server: {now}; about {} sandboxes at a time", now / 20),
            "ulimit -Hn 1048576 (systemd: LimitNOFILE=1048576)",
        ),
        Some(now) => yes("open_files", format!("open files of the server: {now}")),
        None => yes("open_files", "open files of the server: no bound is known"),
    }
}

fn landlock(facts: &Facts) -> Capability {
    match facts.landlock {
        version if crate::landlock::holds_to_reading(version) => {
            yes("landlock", format!("version {version}: a second lock on files, signals and sockets"))
        }
        2.. => no(
            "landlock",
            "a second lock on files; commands that only read (read_only) are refused, because nothing holds them to it",
            "a kernel with version 3 of Landlock (Linux 6.2 or later)",
        ),
        _ => no(
            "landlock",
            "sandboxes are held by namespaces and the call filter alone; commands that only read (read_only) are refused, \
             because nothing holds them to it",
            "add landlock to the kernel's command line: lsm=landlock,… (Linux 6.2 or later)",
        ),
    }
}

fn id_tools(facts: &Facts) -> Capability {
    if facts.has_program("newuidmap") && facts.has_program("newgidmap") {
        return yes("id_tools", "newuidmap and newgidmap are present; this version does not use them yet");
    }
    no("id_tools", "one user id inside a sandbox", "run greenroom as root: sudo greenroom serve")
}

#[cfg(test)]
mod tests;
