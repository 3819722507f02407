//! The embedded static program, as something that can be executed.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::io::Write;
use std::process::{Child, Command, Stdio};

static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/greenroom-stage"));

/// Starts the program in a role with `socket` as its standard input. Sealed, so that nothing inside a sandbox can change
/// the program that later sandboxes run.
pub(crate) fn start(role: &str, socket: OwnedFd) -> std::io::Result<Child> {
    let mut image = std::fs::File::from(memfd_create(
        "greenroom-stage",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    image.write_all(IMAGE)?;
    fcntl_add_seals(&image, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // The child resolves the path before its exec closes the descriptor.
    Command::new(format!("/proc/self/fd/{}", image.as_raw_fd()))
        .arg(role)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
