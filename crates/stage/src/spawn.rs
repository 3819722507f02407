//! One spawn request: open the host's trees, clone into new namespaces, give the child its ids, let it go. Done by the
//! zygote itself, or by a carrier: a copy of it that the server has put into a sandbox's control groups beforehand,
//! because moving a process costs milliseconds and being born there costs nothing.

use crate::enter::{self, Trees};
use crate::sys::{self, At, Forked, Outcome};
use crate::zygote::{HostTrees, Zygote, write_maps};
use greenroom_stage::protocol::{PlanBase, SpawnPlan};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Whose child the sandbox becomes: always the zygote's, so that it ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spawner {
    Zygote,
    Carrier,
}

pub(crate) fn spawn(
    zygote: &Zygote,
    plan: &SpawnPlan,
    socket: OwnedFd,
    spawner: Spawner,
) -> Outcome<(i32, OwnedFd)> {
    let kinship = if spawner == Spawner::Carrier { libc::CLONE_PARENT } else { 0 };
    let trees = zygote.with_host(|host| open_trees(host, plan))?;
    let (go_reader, go_writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe", "go")?;
    match sys::fork_into(NAMESPACES | kinship).at("clone3", "namespaces")? {
        Forked::Child => {
            drop(go_writer);
            enter::enter(zygote, plan, &trees, socket, &go_reader)
        }
        Forked::Parent { pid, pidfd } => {
            // A child whose `go` pipe closes without a byte ends by itself.
            write_maps(zygote.proc.as_fd(), pid, zygote.ids)?;
            rustix::io::write(&go_writer, b"g").at("write", "go")?;
            Ok((pid, pidfd))
        }
    }
}

fn open_trees(host: HostTrees<'_>, plan: &SpawnPlan) -> Outcome<Trees> {
    let base = match &plan.base {
        PlanBase::HostRoot => None,
        PlanBase::Directory { path } => Some(host.mapped(path)?),
    };
    let layers = plan.layers.iter().map(|path| host.plain(path)).collect::<Outcome<_>>()?;
    let binds = plan.binds.iter().map(|bind| host.mapped(&bind.source)).collect::<Outcome<_>>()?;
    Ok(Trees { base, layers, workspace: host.plain(&plan.workspace)?, binds })
}
