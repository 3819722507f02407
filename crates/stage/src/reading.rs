//! A run that only reads: whatever it does, no file of the sandbox changes but below `/tmp` (and devices and `/proc`, whose
//! own rules stay). Landlock refuses every way to write, make, move and remove; a filter refuses what Landlock has no
//! word for: modes, owners, times and attributes, of any file. Both are taken by the child before it executes, so that
//! nothing of such a run is ever without them.

use crate::guard::{self, ALLOW, EQUAL, fail_with, step};
use crate::landlock;
use crate::sys::{self, At, Outcome};
use rustix::fd::{AsRawFd, OwnedFd, RawFd};

/// The first version that knows truncation; an older one would leave a way to write.
const OLDEST: libc::c_long = 3;
const WRITABLE: [&str; 3] = ["/tmp", "/dev", "/proc"];

/// Calls newer than the `libc` crate.
mod newer {
    pub(super) const FCHMODAT2: i64 = 452;
    pub(super) const SETXATTRAT: i64 = 463;
    pub(super) const REMOVEXATTRAT: i64 = 466;
    pub(super) const FILE_SETATTR: i64 = 469;
}

/// What changes a file without opening it for writing.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    newer::FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    newer::SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    newer::REMOVEXATTRAT,
    newer::FILE_SETATTR,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];
/// `ioctl` requests that do the same: FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR.
const REFUSED_REQUESTS: [u32; 2] = [0x4008_6602, 0x401c_5820];

fn filter() -> Vec<libc::sock_filter> {
    let refuse = || step(guard::RETURN, fail_with(libc::EROFS), 0, 0);
    // Stage's own filter has refused other architectures already.
    let mut program = vec![step(guard::LOAD, guard::NUMBER_AT, 0, 0)];
    for number in REFUSED {
        program.extend([step(EQUAL, *number as u32, 0, 1), refuse()]);
    }
    let [flags, attributes] = REFUSED_REQUESTS;
    let body = [step(EQUAL, flags, 1, 0), step(EQUAL, attributes, 0, 1), refuse()];
    program.extend(guard::when_argument(libc::SYS_ioctl, 1, &body));
    program.push(step(guard::RETURN, ALLOW, 0, 0));
    program
}

/// Made once in a sandbox, by the first run that needs it.
#[derive(Debug)]
pub(crate) struct Reading {
    ruleset: OwnedFd,
    filter: Vec<libc::sock_filter>,
}

impl Reading {
    pub(crate) fn prepare() -> Outcome<Self> {
        let version = landlock::version();
        if version < OLDEST {
            return Err(sys::fault("landlock_create_ruleset", format!("version {version}"), libc::ENOSYS));
        }
        let ruleset = landlock::ruleset(version, landlock::WRITES, 0).at("landlock_create_ruleset", "")?;
        for directory in WRITABLE {
            landlock::allow_beneath(&ruleset, directory.as_ref(), landlock::WRITES)
                .at("landlock_add_rule", directory)?;
        }
        Ok(Self { ruleset, filter: filter() })
    }

    /// What a child needs of it, without an allocation.
    pub(crate) fn lock(&self) -> Lock {
        Lock {
            ruleset: self.ruleset.as_raw_fd(),
            length: self.filter.len() as u16,
            steps: self.filter.as_ptr(),
        }
    }
}

/// Borrows from a `Reading`, which must outlive it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    ruleset: RawFd,
    length: u16,
    steps: *const libc::sock_filter,
}

impl Lock {
    /// Binds the calling process to reading, for good. On failure errno says why.
    ///
    /// # Safety
    /// The `Reading` it came from is alive. Makes system calls only, so that a child may call it before it executes.
    pub(crate) unsafe fn take(&self) -> bool {
        let program = libc::sock_fprog { len: self.length, filter: self.steps.cast_mut() };
        const SET_MODE_FILTER: libc::c_long = 1;
        // SAFETY: the ruleset is open and `program` describes live steps, by the contract above; the kernel only reads
        // both.
        unsafe {
            libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset, 0 as libc::c_ulong) == 0
                && libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) == 0
        }
    }
}
