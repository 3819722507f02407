//! A blank: clone into new namespaces, give the child its ids, let it go. Done by a carrier, a copy of the zygote that the
//! server has put into a sandbox's control groups beforehand, because moving a process costs milliseconds and being born
//! there costs nothing.

use crate::enter;
use crate::sys::{self, At, Forked, Outcome};
use crate::zygote::{Zygote, write_maps};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The first process of a sandbox.
pub(crate) struct First {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Carries a byte once the workshop is mounted; closed at its other end once that process has become stage, or has
    /// ended.
    staged: OwnedFd,
}

impl First {
    /// The workshop is mounted when this returns: others may work there beside that process.
    pub(crate) fn wait_for_workshop(&self) -> Outcome<()> {
        rustix::io::read(&self.staged, &mut [0u8; 1]).at("read", "staged").map(drop)
    }

    /// What it mounts for itself is mounted when this returns.
    pub(crate) fn wait_until_staged(&self) -> Outcome<()> {
        while rustix::io::read(&self.staged, &mut [0u8; 1]).at("read", "staged")? > 0 {}
        Ok(())
    }
}

/// The sandbox becomes the zygote's child, not the carrier's, so that it ends with the zygote alone.
pub(crate) fn spawn(zygote: &Zygote, tmp_bytes: u64, socket: OwnedFd) -> Outcome<First> {
    let (go_reader, go_writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe", "go")?;
    let (staged, staged_writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe", "staged")?;
    match sys::fork_into(NAMESPACES | libc::CLONE_PARENT).at("clone3", "namespaces")? {
        Forked::Child => {
            drop((go_writer, staged));
            // The writer is closed by the kernel when stage is executed.
            enter::enter(zygote, tmp_bytes, socket, &go_reader, &staged_writer)
        }
        Forked::Parent { pid, pidfd } => {
            // A child whose `go` pipe closes without a byte ends by itself.
            write_maps(zygote.proc.as_fd(), pid, zygote.ids)?;
            rustix::io::write(&go_writer, b"g").at("write", "go")?;
            Ok(First { pid, pidfd, staged })
        }
    }
}
