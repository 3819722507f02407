//! The conversation with a sandbox's PID 1: requests out, answers in. What comes from inside is hostile: every answer is
//! bounded, matched to a request of ours, and waited for with a deadline.

use crate::channel::Channel;
use crate::exec::Follower;
use crate::zygote::protocol;
use greenroom_sandbox::{Error, Result};
use greenroom_stage::protocol::{Fault, StageOp, StageReply, StageRequest, StageResult};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const MAX_PENDING: usize = 4096;
/// Acknowledged runs that wait for the next request to tell the stage; more are told at once.
const MAX_DONE: usize = 32;

pub(crate) type Answer = (StageResult, Vec<u8>);

/// An answer, and what the stage passed out with it: not yet checked.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) descriptors: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(crate) enum Waiter {
    Answer(oneshot::Sender<Reply>),
    /// A run's first output goes to its reader without another task in between.
    Run(Box<Follower>),
}

impl Waiter {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Answer(sender) => sender.is_closed(),
            // A run goes on without a reader, but its answer frees nothing.
            Self::Run(follower) => follower.is_abandoned(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Stage {
    channel: Channel,
    next: AtomicU64,
    /// None once the stage is gone.
    pending: Mutex<Option<HashMap<u64, Waiter>>>,
    /// Call ids of acknowledged runs that the stage has not been told of.
    done: Mutex<Vec<String>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            next: AtomicU64::new(1),
            pending: Mutex::new(Some(HashMap::new())),
            done: Mutex::default(),
        }
    }

    pub(crate) async fn ask(&self, op: StageOp, body: &[u8], limit: Duration) -> Result<Answer> {
        match self.ask_whole(op, body, limit).await?.answer {
            (StageResult::Failed(fault), _) => Err(file_error(fault)),
            (StageResult::Invalid { reason }, _) => Err(Error::Invalid { reason }),
            answer => Ok(answer),
        }
    }

    /// The answer with its descriptors, a refusal included.
    pub(crate) async fn ask_whole(&self, op: StageOp, body: &[u8], limit: Duration) -> Result<Reply> {
        let answer = self.begin(op, body).await?;
        let answer = timeout(limit, answer)
            .await
            .map_err(|_| Error::Deadline { what: "the sandbox", limit_ms: limit.as_millis() as u64 })?;
        answer.map_err(|_| gone())
    }

    /// Sends; the answer comes through the receiver.
    pub(crate) async fn begin(&self, op: StageOp, body: &[u8]) -> Result<oneshot::Receiver<Reply>> {
        let (sender, receiver) = oneshot::channel();
        self.send(op, body, Waiter::Answer(sender)).await.map(|()| receiver)
    }

    pub(crate) async fn send(&self, op: StageOp, body: &[u8], waiter: Waiter) -> Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        match lock(&self.pending).as_mut() {
            None => return Err(gone()),
            Some(pending) => {
                if pending.len() >= MAX_PENDING {
                    pending.retain(|_, waiter| !waiter.is_abandoned());
                }
                if pending.len() >= MAX_PENDING {
                    return Err(Error::Invalid { reason: "4096 requests of this sandbox are open".into() });
                }
                pending.insert(id, waiter);
            }
        }
        let request = StageRequest { id, done: std::mem::take(&mut *lock(&self.done)), op };
        let sent = timeout(REQUEST_LIMIT, self.channel.send(&request, body, &[])).await;
        let failed = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Error::Invalid { reason: error.to_string() }
            }
            Ok(Err(_)) => gone(),
            Err(_) => Error::Deadline { what: "sending", limit_ms: REQUEST_LIMIT.as_millis() as u64 },
        };
        lock(&self.pending).as_mut().and_then(|pending| pending.remove(&id));
        Err(failed)
    }

    /// The stage may forget a run. Costs no message of its own unless many are waiting.
    pub(crate) async fn acknowledge(&self, call: &str) -> Result<()> {
        let is_many = {
            let mut done = lock(&self.done);
            done.push(call.to_owned());
            done.len() >= MAX_DONE
        };
        if is_many {
            self.begin(StageOp::Acknowledge, &[]).await?;
        }
        Ok(())
    }

    /// Hands answers to whoever waits, until the stage is gone or breaks its protocol.
    pub(crate) async fn listen(self: Arc<Self>) {
        while let Ok((message, descriptors)) = self.channel.receive().await {
            let Ok(reply) = message.header::<StageReply>() else { break };
            let waiter = lock(&self.pending).as_mut().and_then(|pending| pending.remove(&reply.id));
            let reply = Reply { answer: (reply.result, message.into_body()), descriptors };
            match waiter {
                // The asker may have given up.
                Some(Waiter::Answer(sender)) => drop(sender.send(reply)),
                Some(Waiter::Run(follower)) => follower.first(reply.answer),
                None => {}
            }
        }
        self.close();
    }

    /// Whoever waits learns it from the closed channel.
    pub(crate) fn close(&self) {
        let waiting = lock(&self.pending).take();
        drop(waiting);
    }

    /// Lets go of runs whose answer should have come long ago.
    pub(crate) fn expire(&self, now: Instant) {
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.retain(|_, waiter| !matches!(waiter, Waiter::Run(run) if run.deadline() < now));
        }
    }
}

pub(crate) fn gone() -> Error {
    Error::Ended { reason: "its stage is gone".into() }
}

pub(crate) fn unexpected(result: &StageResult) -> Error {
    protocol(format!("the stage answered {result:?}"))
}

pub(crate) fn file_error(fault: Fault) -> Error {
    let operation = match fault.operation.as_str() {
        "read" | "open" => "read",
        "write" | "rename" | "chmod" => "write",
        "mkdir" => "create",
        "stat" => "inspect",
        "list" => "list",
        _ => "use",
    };
    match fault.errno {
        libc::ENOENT | libc::ENOTDIR => Error::NotFound { path: fault.path },
        libc::ENOSPC | libc::EDQUOT => Error::DiskFull,
        errno => {
            let message = std::io::Error::from_raw_os_error(errno).to_string();
            Error::File { operation, path: fault.path, message }
        }
    }
}
