//! What this machine can enforce, in sentences for `greenroom doctor`.

use crate::cgroup::{Controller, Layout};
use crate::volume::Volume;
use greenroom_sandbox::{Capabilities, Capability};
use greenroom_stage::protocol::Gap;

pub(crate) fn describe(
    is_user_mode: bool,
    cgroups: &Layout,
    gaps: &[Gap],
    volume: Option<&Volume>,
) -> Capabilities {
    let mut entries = vec![
        yes(
            "namespaces",
            "user, mount, process, network, IPC, host name and cgroup namespaces; system call filter",
        ),
        yes("egress", "no interface but lo; TCP 22, 80, 443, 3128, 9418 and DNS lead to the broker"),
    ];
    entries.extend(limits(is_user_mode, cgroups));
    entries.push(disk_limit(is_user_mode, volume));
    entries.push(ids(is_user_mode));
    entries.extend(crate::doctor::examine(is_user_mode, volume.map(Volume::root)));
    entries.extend(gaps.iter().map(|gap| no(&gap.name, &gap.detail, None)));
    let mode = if is_user_mode { "user" } else { "root" };
    Capabilities { mode: mode.into(), entries }
}

fn disk_limit(is_user_mode: bool, volume: Option<&Volume>) -> Capability {
    match volume {
        Some(volume) if !(is_user_mode && volume.capability().is_available) => volume.capability(),
        _ => no("disk_limit", "what a sandbox writes is not bounded; watch the data directory's disk", None),
    }
}

fn yes(name: &str, detail: &str) -> Capability {
    Capability { name: name.into(), is_available: true, detail: detail.into(), remedy: None }
}

fn no(name: &str, detail: &str, remedy: Option<&str>) -> Capability {
    Capability {
        name: name.into(),
        is_available: false,
        detail: detail.into(),
        remedy: remedy.map(Into::into),
    }
}

fn limits(is_user_mode: bool, cgroups: &Layout) -> Vec<Capability> {
    let remedy = if is_user_mode {
        "run greenroom as root: sudo greenroom serve"
    } else {
        "mount -t cgroup2 none /sys/fs/cgroup, or in a container: docker run --privileged --cgroupns=host"
    };
    let limit = |controller, name, usual: &str, without: &str| match cgroups.describe(controller) {
        Ok(by) => yes(name, &format!("{by}; {usual} unless a recipe says otherwise")),
        Err(reason) => no(name, &format!("{without} ({reason})"), Some(remedy)),
    };
    let processes = match cgroups.describe(Controller::Pids) {
        Ok(by) => format!("{by}; 1024 unless a recipe says otherwise"),
        Err(_) => {
            "RLIMIT_NPROC of the sandbox's user namespace; 1024 unless a recipe says otherwise".to_owned()
        }
    };
    vec![
        limit(Controller::Memory, "memory_limit", "4 GiB", "a sandbox may use all memory of the machine"),
        limit(Controller::Cpu, "cpu_limit", "2 cores", "a sandbox may use all processors"),
        yes("process_limit", &processes),
        freezer(cgroups),
        page_out(cgroups),
    ]
}

/// Works everywhere; the detail says how exactly.
fn freezer(cgroups: &Layout) -> Capability {
    match cgroups.describe(Controller::Freezer) {
        Ok(by) => yes("freeze", by),
        Err(_) => yes(
            "freeze",
            "SIGSTOP and SIGCONT: a process that was stopped inside before goes on after the thaw",
        ),
    }
}

fn page_out(cgroups: &Layout) -> Capability {
    let swap = "modprobe zram && zramctl --find --size 4G && mkswap /dev/zram0 && swapon /dev/zram0";
    match (cgroups.is_none(), crate::memory::has_swap()) {
        (true, _) => no("page_out", "only root may move a sandbox's memory to swap", None),
        (false, false) => {
            no("page_out", "this machine has no swap: idle sandboxes keep their memory", Some(swap))
        }
        (false, true) => yes("page_out", "memory of idle sandboxes goes to swap"),
    }
}

fn ids(is_user_mode: bool) -> Capability {
    if is_user_mode {
        return no(
            "id_range",
            "one user id inside (root): no system packages can be installed, /usr is read-only, no other users",
            Some("run greenroom as root: sudo greenroom serve"),
        );
    }
    yes("id_range", "65536 ids from 100000; root inside is nobody outside")
}
