//! What stage and everything it starts may not do: capabilities outside a small set, and a filter that refuses the
//! system calls that reach beyond a sandbox. Installed once in stage, inherited by every run, never lifted.

use crate::sys::{At, Outcome};
use rustix::io::Errno;

/// Capabilities runs keep inside their user namespace; the usual set of container runtimes.
const KEPT: u64 = 1 << 0 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 13 // NET_RAW
    | 1 << 18 // SYS_CHROOT
    | 1 << 27 // MKNOD
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP
/// Stage alone: reads environments to find what a run started. A run that lacks it cannot trace stage either.
const SYS_PTRACE: u64 = 1 << 19;
const LAST_CAPABILITY: u32 = 63;

pub(crate) fn install() -> Outcome<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .at("prctl", "dumpable")?;
    drop_capabilities().at("capset", "")?;
    rustix::thread::set_no_new_privs(true).at("prctl", "no_new_privs")?;
    install_filter().at("seccomp", "")
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn drop_capabilities() -> rustix::io::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|number| KEPT & (1 << number) == 0) {
        // SAFETY: plain integers. An unknown capability is refused with EINVAL, which is what the loop wants.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    }
    let own = KEPT | SYS_PTRACE;
    let half = |shift: u32| {
        let bits = (own >> shift) as u32;
        CapabilityData { effective: bits, permitted: bits, inheritable: 0 }
    };
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 of the call reads one header and two data words, all live here.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Calls newer than the `libc` crate: their numbers are the same on every architecture of today.
mod newer {
    pub(super) const STATMOUNT: i64 = 457;
    pub(super) const LISTMOUNT: i64 = 458;
    pub(super) const LSM_SET_SELF_ATTR: i64 = 460;
    pub(super) const OPEN_TREE_ATTR: i64 = 467;
    pub(super) const LISTNS: i64 = 470;
    pub(super) const CACHESTAT: i64 = 451;
}

/// Refused with EPERM. Looked through up to Linux 6.18. Left allowed, because they reach only what is inside anyway:
/// `map_shadow_stack`, `mseal`, `futex_*`, `memfd_secret` (own memory), `file_setattr` and `*xattrat` (the same checks as
/// their older forms), `name_to_handle_at` (a handle cannot be opened), `process_madvise`, `pidfd_getfd`, `ptrace` (only
/// processes of the sandbox, never stage, which has more capabilities), `landlock_*`, `lsm_get_self_attr`.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    newer::LSM_SET_SELF_ATTR,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    newer::OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];
/// Said not to exist, so that libraries take their older way. `clone3` hides its flags from filters; `statmount`,
/// `listmount` and `listns` take ids of namespaces; `cachestat` tells what other sandboxes read of shared files.
const ABSENT: &[libc::c_long] = &[
    newer::CACHESTAT,
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    newer::LISTMOUNT,
    newer::LISTNS,
    newer::STATMOUNT,
];

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP
    | 0x80) as u32; // CLONE_NEWTIME; in `clone` no signal that exists
/// Network namespaces do not hold vsock and a few others back, so only these families exist inside.
const FAMILIES: [u32; 4] =
    [libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32];
/// Of the netlink protocols: routes and addresses, socket lists, and what `libudev` opens. Configuration of filters, IPsec
/// and the like is refused by capability already; this keeps their parsers out of reach.
const NETLINK: [u32; 3] =
    [libc::NETLINK_ROUTE as u32, libc::NETLINK_SOCK_DIAG as u32, libc::NETLINK_KOBJECT_UEVENT as u32];
/// Transports whose code the kernel would load for whoever asks: DCCP, SCTP, UDP-Lite.
const RARE_TRANSPORTS: [u32; 3] = [33, libc::IPPROTO_SCTP as u32, 136];

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const fn fail_with(errno: i32) -> u32 {
    0x0005_0000 | errno as u32
}

pub(crate) const LOAD: u16 = 0x20;
pub(crate) const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
pub(crate) const RETURN: u16 = 0x06;
pub(crate) const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

pub(crate) fn step(code: u16, value: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: if_true, jf: if_false, k: value }
}

/// The filter as data, so that it can be read and tested.
fn filter() -> Vec<libc::sock_filter> {
    let mut program = vec![
        step(LOAD, ARCHITECTURE_AT, 0, 0),
        step(EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, fail_with(libc::ENOSYS), 0, 0),
        step(LOAD, NUMBER_AT, 0, 0),
    ];
    // The x32 variant of x86-64 has its own numbers.
    #[cfg(target_arch = "x86_64")]
    program.extend([step(AT_LEAST, 0x4000_0000, 0, 1), step(RETURN, fail_with(libc::ENOSYS), 0, 0)]);
    for (numbers, errno) in [(REFUSED, libc::EPERM), (ABSENT, libc::ENOSYS)] {
        for number in numbers {
            program.extend([step(EQUAL, *number as u32, 0, 1), step(RETURN, fail_with(errno), 0, 0)]);
        }
    }
    for number in [libc::SYS_clone, libc::SYS_unshare] {
        program.extend(when_argument(
            number,
            0,
            &[step(ANY_BIT, NEW_NAMESPACES, 0, 1), step(RETURN, fail_with(libc::EPERM), 0, 0)],
        ));
    }
    program.extend(when_argument(
        libc::SYS_ioctl,
        1,
        &[
            step(EQUAL, libc::TIOCSTI as u32, 1, 0),
            step(EQUAL, libc::TIOCLINUX as u32, 0, 1),
            step(RETURN, fail_with(libc::EPERM), 0, 0),
        ],
    ));
    program.extend(when_argument(libc::SYS_socket, 0, &sockets()));
    program.push(step(RETURN, ALLOW, 0, 0));
    program
}

/// What `socket` may make; begins with the family loaded.
fn sockets() -> Vec<libc::sock_filter> {
    let [unix, inet, inet6, netlink] = FAMILIES;
    let [route, diag, uevent] = NETLINK;
    let [dccp, sctp, udplite] = RARE_TRANSPORTS;
    vec![
        step(EQUAL, unix, 14, 0),
        step(EQUAL, inet, 7, 0),
        step(EQUAL, inet6, 6, 0),
        step(EQUAL, netlink, 1, 0),
        step(RETURN, fail_with(libc::EAFNOSUPPORT), 0, 0),
        step(LOAD, argument_at(2), 0, 0),
        step(EQUAL, route, 8, 0),
        step(EQUAL, diag, 7, 0),
        step(EQUAL, uevent, 6, 5),
        // Transports.
        step(LOAD, argument_at(2), 0, 0),
        step(EQUAL, dccp, 3, 0),
        step(EQUAL, sctp, 2, 0),
        step(EQUAL, udplite, 1, 0),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, fail_with(libc::EPROTONOSUPPORT), 0, 0),
        step(RETURN, ALLOW, 0, 0),
    ]
}

/// Runs `body` on the low word of an argument of one call, then allows it; other calls pass by.
pub(crate) fn when_argument(
    number: libc::c_long,
    index: u32,
    body: &[libc::sock_filter],
) -> Vec<libc::sock_filter> {
    let skip = (body.len() + 2) as u8;
    let mut steps = vec![step(EQUAL, number as u32, 0, skip), step(LOAD, argument_at(index), 0, 0)];
    steps.extend_from_slice(body);
    steps.push(step(RETURN, ALLOW, 0, 0));
    steps
}

fn install_filter() -> rustix::io::Result<()> {
    let mut steps = filter();
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    const SET_MODE_FILTER: libc::c_long = 1;
    // SAFETY: `program` describes `steps`, which outlives the call; the kernel copies and checks it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows the filter for one call, as the kernel would.
    fn verdict(number: libc::c_long, arguments: &[u32]) -> u32 {
        let program = filter();
        let (mut at, mut word) = (0usize, 0u32);
        loop {
            let now = program[at];
            let jump = |is_true: bool| at + 1 + usize::from(if is_true { now.jt } else { now.jf });
            at = match now.code {
                LOAD => {
                    word = match now.k {
                        NUMBER_AT => number as u32,
                        ARCHITECTURE_AT => ARCHITECTURE,
                        offset => arguments[(offset as usize - 16) / 8],
                    };
                    at + 1
                }
                EQUAL => jump(word == now.k),
                AT_LEAST => jump(word >= now.k),
                ANY_BIT => jump(word & now.k != 0),
                RETURN => return now.k,
                other => panic!("unknown step {other}"),
            };
        }
    }

    #[test]
    fn escapes_are_refused_and_work_is_allowed() {
        assert_eq!(verdict(libc::SYS_mount, &[]), fail_with(libc::EPERM));
        assert_eq!(verdict(libc::SYS_bpf, &[]), fail_with(libc::EPERM));
        assert_eq!(verdict(libc::SYS_io_uring_setup, &[]), fail_with(libc::ENOSYS));
        assert_eq!(verdict(libc::SYS_clone, &[libc::SIGCHLD as u32]), ALLOW);
        assert_eq!(verdict(libc::SYS_clone, &[libc::CLONE_NEWUSER as u32]), fail_with(libc::EPERM));
        assert_eq!(verdict(libc::SYS_unshare, &[libc::CLONE_FS as u32]), ALLOW);
        assert_eq!(verdict(libc::SYS_read, &[]), ALLOW);
        assert_eq!(verdict(libc::SYS_ptrace, &[]), ALLOW);
    }

    #[test]
    fn calls_of_newer_kernels_that_reach_beyond_a_sandbox_are_refused() {
        assert_eq!(verdict(newer::OPEN_TREE_ATTR, &[]), fail_with(libc::EPERM));
        assert_eq!(verdict(newer::LSM_SET_SELF_ATTR, &[]), fail_with(libc::EPERM));
        for number in [newer::STATMOUNT, newer::LISTMOUNT, newer::LISTNS, newer::CACHESTAT] {
            assert_eq!(verdict(number, &[]), fail_with(libc::ENOSYS));
        }
        assert_eq!(verdict(libc::SYS_unshare, &[0x80]), fail_with(libc::EPERM));
    }

    #[test]
    fn rare_protocols_do_not_exist() {
        let refused = fail_with(libc::EPROTONOSUPPORT);
        let inet = libc::AF_INET as u32;
        for (family, protocol, wanted) in [
            (inet, 0, ALLOW),
            (inet, libc::IPPROTO_TCP as u32, ALLOW),
            (libc::AF_INET6 as u32, libc::IPPROTO_ICMPV6 as u32, ALLOW),
            (inet, libc::IPPROTO_SCTP as u32, refused),
            (libc::AF_INET6 as u32, 33, refused),
            (inet, 136, refused),
            (libc::AF_NETLINK as u32, libc::NETLINK_SOCK_DIAG as u32, ALLOW),
            (libc::AF_NETLINK as u32, libc::NETLINK_KOBJECT_UEVENT as u32, ALLOW),
            (libc::AF_NETLINK as u32, libc::NETLINK_NETFILTER as u32, refused),
            (libc::AF_NETLINK as u32, libc::NETLINK_GENERIC as u32, refused),
        ] {
            assert_eq!(verdict(libc::SYS_socket, &[family, 1, protocol]), wanted, "{family} {protocol}");
        }
    }

    #[test]
    fn only_plain_socket_families_exist() {
        for family in FAMILIES {
            assert_eq!(verdict(libc::SYS_socket, &[family, 1, 0]), ALLOW);
        }
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET, libc::AF_BLUETOOTH] {
            assert_eq!(verdict(libc::SYS_socket, &[family as u32]), fail_with(libc::EAFNOSUPPORT));
        }
    }

    #[test]
    fn a_terminal_cannot_be_typed_into() {
        assert_eq!(verdict(libc::SYS_ioctl, &[0, libc::TIOCSTI as u32]), fail_with(libc::EPERM));
        assert_eq!(verdict(libc::SYS_ioctl, &[0, libc::TIOCLINUX as u32]), fail_with(libc::EPERM));
        assert_eq!(verdict(libc::SYS_ioctl, &[0, 1]), ALLOW);
    }
}
