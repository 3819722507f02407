//! The processes of one sandbox, whoever owns it: their first one, their control group, their end. One task waits for the
//! end and tells the owner of that moment.

use crate::cgroup::Cgroup;
use crate::channel::{self, Channel};
use crate::conversation::{Stage, gone, lock, unexpected};
use crate::egress::{self, Owner};
use crate::sandbox::LocalSandbox;
use crate::stock::Attached;
use crate::zygote::{Spawned, protocol};
use greenroom_sandbox::{EgressHandler, Error, Result};
use greenroom_stage::protocol::{Listener, StageOp, StageReply, StageResult, VERSION};
use rustix::fd::OwnedFd;
use rustix::process::{Signal, pidfd_send_signal};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{RwLock, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

const START_LIMIT: Duration = Duration::from_secs(10);
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
/// Two sockets each, as many as one message carries.
const PORTS_AT_ONCE: usize = 8;

pub(crate) type Listeners = Vec<(Listener, OwnedFd)>;

#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) stage: Arc<Stage>,
    pub(crate) spawned: Spawned,
    pub(crate) group: Option<Cgroup>,
    pub(crate) origin: Arc<Owner>,
    pub(crate) was_blank: bool,
    /// Held while a request of the owner is sent, and alone while the owner changes: nothing is sent for two owners.
    pub(crate) gate: RwLock<()>,
    /// None before the first owner and after the end.
    pub(crate) owner: Mutex<Option<Arc<LocalSandbox>>>,
    /// Why it ends, by whoever ended it first.
    reason: OnceLock<String>,
    /// Held while a snapshot is taken or the owner freezes or thaws: one does not undo the other's.
    pub(crate) snapshots: tokio::sync::Mutex<()>,
    /// While true, requests wait.
    frozen: watch::Sender<bool>,
    /// Of ports beyond those every sandbox has.
    extra_egress: Mutex<Vec<AbortHandle>>,
    /// Runs that ended for want of memory, so that a repeated call id hears the same.
    pub(crate) out_of_memory: Mutex<HashMap<String, bool>>,
}

impl Room {
    /// Serves its egress and watches for its end from now on.
    pub(crate) fn open(attached: Attached, origin: Owner, handler: Arc<dyn EgressHandler>) -> Arc<Self> {
        let origin = Arc::new(origin);
        let room = Arc::new(Self {
            stage: Arc::new(Stage::new(attached.channel)),
            spawned: attached.stage,
            group: attached.group,
            origin: Arc::clone(&origin),
            was_blank: attached.was_ready,
            gate: RwLock::new(()),
            owner: Mutex::new(None),
            reason: OnceLock::new(),
            snapshots: tokio::sync::Mutex::new(()),
            frozen: watch::Sender::new(false),
            extra_egress: Mutex::default(),
            out_of_memory: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&room).watch(attached.listeners, handler));
        room
    }

    async fn watch(self: Arc<Self>, listeners: Listeners, handler: Arc<dyn EgressHandler>) {
        let listening = tokio::spawn(Arc::clone(&self.stage).listen());
        let egress = egress::serve(&self.origin, &handler, listeners);
        // A stage that closes its socket or lies is over, whether or not its process still runs.
        tokio::select! {
            _ = listening => self.signal_end(),
            () = wait_readable(&self.spawned.pidfd) => {}
        }
        wait_readable(&self.spawned.pidfd).await;
        self.stage.close();
        egress.abort();
        lock(&self.extra_egress).drain(..).for_each(|egress| egress.abort());
        let reason = self.end_reason();
        if let Some(group) = &self.group {
            group.remove().await;
        }
        let owner = lock(&self.owner).take();
        if let Some(owner) = owner {
            owner.end(reason);
        }
    }

    /// Every address answers on these TCP ports too.
    pub(crate) async fn add_egress(&self, ports: &[u16], handler: &Arc<dyn EgressHandler>) -> Result<()> {
        for ports in ports.chunks(PORTS_AT_ONCE) {
            let listeners = self.listen(ports).await?;
            lock(&self.extra_egress).push(egress::serve(&self.origin, handler, listeners));
        }
        Ok(())
    }

    async fn listen(&self, ports: &[u16]) -> Result<Listeners> {
        let reply = self.stage.ask_whole(StageOp::Listen { ports: ports.to_vec() }, &[], START_LIMIT).await?;
        match reply.answer.0 {
            StageResult::Listening { listeners } if listeners.len() == reply.descriptors.len() => {
                Ok(listeners.into_iter().zip(reply.descriptors).collect())
            }
            StageResult::Failed(fault) => Err(crate::zygote::from_fault(&fault)),
            StageResult::Invalid { reason } => Err(Error::Invalid { reason }),
            result => Err(unexpected(&result)),
        }
    }

    pub(crate) fn kill(&self, reason: &str) {
        // The first reason stands.
        let _ = self.reason.set(reason.to_owned());
        self.signal_end();
    }

    fn signal_end(&self) {
        // Gone already is as good.
        let _ = pidfd_send_signal(&self.spawned.pidfd, Signal::KILL);
        // What is frozen does not die.
        if *self.frozen.borrow()
            && let Some(group) = &self.group
        {
            let _ = group.thaw();
        }
    }

    pub(crate) fn known_reason(&self) -> Option<&String> {
        self.reason.get()
    }

    fn end_reason(&self) -> String {
        let unasked = || {
            if self.oom_kills() > 0 {
                "its memory ran out".to_owned()
            } else {
                "its first process ended unexpectedly".to_owned()
            }
        };
        self.reason.get().cloned().unwrap_or_else(unasked)
    }

    pub(crate) fn oom_kills(&self) -> u64 {
        self.group.as_ref().map_or(0, Cgroup::oom_kills)
    }

    /// Every process but stage stands still, or with control groups stage too; requests wait from now on.
    pub(crate) async fn freeze(&self) -> Result<()> {
        let _alone = self.gate.write().await;
        // First, so that an end meanwhile thaws it.
        self.frozen.send_replace(true);
        let frozen = match self.group.as_ref().filter(|group| group.can_freeze()) {
            Some(group) => {
                group.freeze().await.map_err(|error| crate::zygote::system("freeze", "control group", error))
            }
            None => self.stage.ask(StageOp::Stop, &[], FREEZE_LIMIT).await.map(drop),
        };
        if frozen.is_err() {
            self.frozen.send_replace(false);
        }
        frozen
    }

    pub(crate) async fn thaw(&self) -> Result<()> {
        let _alone = self.gate.write().await;
        match self.group.as_ref().filter(|group| group.can_freeze()) {
            Some(group) => {
                group.thaw().map_err(|error| crate::zygote::system("thaw", "control group", error))?;
            }
            None => drop(self.stage.ask(StageOp::Continue, &[], FREEZE_LIMIT).await?),
        }
        self.frozen.send_replace(false);
        Ok(())
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    /// Resolves when nothing is frozen, or never will be again.
    pub(crate) async fn until_thawed(&self) {
        if *self.frozen.borrow() {
            let mut frozen = self.frozen.subscribe();
            tokio::select! {
                _ = frozen.wait_for(|is_frozen| !is_frozen) => {}
                () = wait_readable(&self.spawned.pidfd) => {}
            }
        }
    }
}

/// Resolves when the process has ended and, as it is PID 1, everything in its namespace with it.
async fn wait_readable(pidfd: &OwnedFd) {
    let Ok(pidfd) = pidfd.try_clone().and_then(|copy| channel::register(copy, Interest::READABLE)) else {
        return;
    };
    // An error would mean that the runtime ends.
    let _ = pidfd.readable().await;
}

/// The stage is up: its egress listeners.
pub(crate) async fn first_word(channel: &Channel) -> Result<Listeners> {
    let limit = START_LIMIT.as_millis() as u64;
    let (message, descriptors) = timeout(START_LIMIT, channel.receive())
        .await
        .map_err(|_| Error::Deadline { what: "the sandbox's first word", limit_ms: limit })?
        .map_err(|_| gone())?;
    match message.header::<StageReply>().map_err(protocol)?.result {
        StageResult::Ready { version: VERSION, listeners, .. } if listeners.len() == descriptors.len() => {
            Ok(listeners.into_iter().zip(descriptors).collect())
        }
        StageResult::Refused(fault) => Err(crate::zygote::from_fault(&fault)),
        result => Err(unexpected(&result)),
    }
}
