//! Watches from the server's side: asks stage for the next changes as long as somebody wants them.

use crate::sandbox::{LocalSandbox, absolute, file_error, unexpected};
use greenroom_sandbox::{Error, Result, WatchEvent};
use greenroom_stage::protocol::{Change, Fault, StageOp, StageResult, WATCHED_DIRECTORIES, WATCHES};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Changes that wait for a slow reader here; more wait, gathered, in stage.
const QUEUE: usize = 256;

pub(crate) async fn watch(sandbox: &Arc<LocalSandbox>, path: &str) -> Result<mpsc::Receiver<WatchEvent>> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    absolute(path)?;
    let watch = Open { sandbox: sandbox.clone(), number: NEXT.fetch_add(1, Ordering::Relaxed) };
    let op = StageOp::Watch { watch: watch.number, path: path.to_owned() };
    match sandbox.ask_whole(op).await?.answer.0 {
        StageResult::Done => {}
        StageResult::Failed(fault) => return Err(refusal(fault)),
        result => return Err(unexpected(&result)),
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move { watch.follow(&sender).await });
    Ok(receiver)
}

/// A watch that stage keeps until this goes.
struct Open {
    sandbox: Arc<LocalSandbox>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (sandbox, watch) = (self.sandbox.clone(), self.number);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Never answered; without a stage there is no watch.
        runtime.spawn(async move { drop(sandbox.begin(StageOp::Unwatch { watch }).await) });
    }
}

impl Open {
    async fn follow(&self, sender: &mpsc::Sender<WatchEvent>) {
        loop {
            let Ok(next) = self.sandbox.begin(StageOp::NextChanges { watch: self.number }).await else {
                return;
            };
            let reply = tokio::select! {
                reply = next => reply,
                () = sender.closed() => return,
            };
            let Ok(reply) = reply else { return };
            let StageResult::Changes { changes, is_overflow, is_over } = reply.answer.0 else { return };
            for event in
                is_overflow.then_some(WatchEvent::Overflow).into_iter().chain(changes.into_iter().map(event))
            {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if is_over {
                return;
            }
        }
    }
}

fn event(change: Change) -> WatchEvent {
    let Change { path, is_removed } = change;
    if is_removed { WatchEvent::Removed { path } } else { WatchEvent::Changed { path } }
}

/// Names the bound that was reached, and what raises it.
fn refusal(fault: Fault) -> Error {
    let unavailable = |reason: String| Error::Unavailable { what: "watch files", reason };
    match (fault.operation.as_str(), fault.errno) {
        ("inotify_init1", libc::EMFILE | libc::ENFILE) => unavailable(format!(
            "its own programs hold all the watchers it may have, or all sandboxes together those of this machine (now {}): \
             sysctl -w fs.inotify.max_user_instances=8192",
            bound("max_user_instances"),
        )),
        ("inotify_add_watch", libc::ENOSPC) => unavailable(format!(
            "the machine's watched directories are used up (now {}): sysctl -w fs.inotify.max_user_watches=1048576",
            bound("max_user_watches"),
        )),
        ("watch", libc::E2BIG) => unavailable(format!(
            "there are more than {WATCHED_DIRECTORIES} directories below; watch a smaller tree"
        )),
        ("watch", libc::EMFILE) => {
            Error::Invalid { reason: format!("{WATCHES} watches of this sandbox are open") }
        }
        _ => file_error(fault),
    }
}

fn bound(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
