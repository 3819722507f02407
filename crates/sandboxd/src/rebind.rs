//! A running sandbox becomes another owner's: its processes and files stay, its names change. At every moment one owner:
//! the former one's requests are refused before the first name changes.

use crate::handle::Handle;
use crate::provider::Shared;
use crate::room::Room;
use crate::sandbox::LocalSandbox;
use crate::zygote::system;
use greenroom_sandbox::{Error, Identity, Result, Sandbox};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::Path;
use std::sync::Arc;

pub(crate) async fn rebind(shared: &Arc<Shared>, id: &str, to: Identity) -> Result<Arc<LocalSandbox>> {
    let _claiming = shared.stock.begin_claim();
    let ended = || Error::Ended { reason: format!("there is no sandbox {id}") };
    let former = shared.registry.get(id).ok_or_else(ended)?;
    shared.registry.raise_fence(&to.fence)?;
    let reserved = shared.registry.reserve(&to.id, &to.workspace)?;
    let room = Arc::clone(former.room());
    let sandbox = {
        // A copy of the workspace that is being made names it by its path.
        let _copies = room.snapshots.lock().await;
        // Whoever comes second finds that the former owner is not the owner any more.
        let _alone = room.gate.write().await;
        former.check()?;
        take_over(shared, &room, &former, to).await?
    };
    shared.registry.forget(id);
    let named = write_hostname(former.hostname().to_owned(), Arc::clone(&sandbox));
    if room.is_frozen() {
        // Requests wait for the thaw, which is the new owner's to give.
        drop(tokio::spawn(named));
    } else {
        named.await;
    }
    if let Err(error) = reserved.fill(&sandbox) {
        sandbox.kill("the provider has shut down");
        return Err(error);
    }
    Ok(sandbox)
}

/// The move of the workspace is the last thing that can fail.
async fn take_over(
    shared: &Arc<Shared>,
    room: &Arc<Room>,
    former: &LocalSandbox,
    to: Identity,
) -> Result<Arc<LocalSandbox>> {
    if to.hostname != former.hostname() {
        shared.stock.rename(to.hostname.clone(), &room.spawned).await?;
    }
    move_workspace(former.workspace(), &to.workspace)?;
    room.origin.change(&to.id, &to.fence);
    LocalSandbox::take(room, to, Arc::downgrade(shared))
}

/// Mounted as it is: the mounts inside follow the directories, not their names.
fn move_workspace(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| system("mkdir", parent.display().to_string(), error))?;
    }
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|errno| system("rename", to.display().to_string(), errno.into()))
}

/// For programs that read the files instead of asking the kernel. Without them only a name is not found.
async fn write_hostname(former: String, sandbox: Arc<LocalSandbox>) {
    let name = sandbox.hostname();
    if name == former {
        return;
    }
    let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback {name}\n");
    let handle = Handle(Arc::clone(&sandbox));
    for (path, text) in [("/etc/hosts", hosts), ("/etc/hostname", format!("{name}\n"))] {
        if let Err(error) = handle.write_file(path, text.as_bytes()).await {
            tracing::warn!(sandbox = sandbox.name(), path, %error, "the new host name is not in its file");
        }
    }
}
