//! The mount namespace of the server's own.

use std::sync::OnceLock;

static ENTERED: OnceLock<Result<(), String>> = OnceLock::new();

/// Gives this process a mount namespace of its own, in which later mounts of the host still appear and from which none
/// goes back. Called at the top of `main`, before any thread starts; does nothing for ordinary users. A refusal is kept
/// and said by `Volume::open`.
pub fn enter_private_mounts() {
    let _ = ENTERED.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return Err("an ordinary user has no mounts".into());
        }
        unshare().map_err(|errno| format!("this process may not have mounts of its own ({errno})"))
    });
}

pub(super) fn entered() -> Result<(), String> {
    ENTERED.get().cloned().unwrap_or_else(|| Err("this process did not ask for mounts of its own".into()))
}

fn unshare() -> rustix::io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    // SAFETY: called before any other thread starts, so none expects the former namespace, root or working directory;
    // no descriptor is closed by it.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}
