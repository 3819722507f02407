//! What Landlock of this machine's kernel can do. Stage uses it; this only knows the version.

use greenroom_sandbox::Error;
use std::sync::LazyLock;

/// The first that knows every way to write.
const HOLDS_TO_READING: i64 = 3;

/// 0 or less: none. Never changes while the machine runs.
static VERSION: LazyLock<i64> = LazyLock::new(|| {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with the version flag the kernel reads nothing through the null pointer.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) }
});

pub(crate) fn version() -> i64 {
    *VERSION
}

pub(crate) fn holds_to_reading(version: i64) -> bool {
    version >= HOLDS_TO_READING
}

pub(crate) fn unavailable() -> Error {
    Error::Unavailable {
        what: "hold a command to reading",
        reason: "that needs Landlock of Linux 6.2 or later; run the command without read_only".into(),
    }
}
