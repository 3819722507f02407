//! One owner's hold on a running sandbox. When the sandbox is given to another owner this hold ends, and a new one takes
//! its place over the same processes (`room`).

use crate::conversation::{Answer, REQUEST_LIMIT, Waiter, lock};
use crate::provider::Shared;
use crate::room::Room;
use greenroom_sandbox::{Error, Fence, Identity, Result};
use greenroom_stage::protocol::StageOp;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

pub(crate) use crate::conversation::{Reply, file_error, unexpected};
pub(crate) use crate::exec::{reason_of, validate};

const END_LIMIT: Duration = Duration::from_secs(10);
const GIVEN_AWAY: &str = "it was given to another owner";

#[derive(Debug)]
pub(crate) struct LocalSandbox {
    identity: Identity,
    shared: Weak<Shared>,
    room: Arc<Room>,
    end: watch::Sender<Option<String>>,
}

impl LocalSandbox {
    /// From now on the room is this owner's; a former owner's hold ends. The caller holds the room's gate, or nobody
    /// else knows the room yet. An error when the room has ended meanwhile.
    pub(crate) fn take(room: &Arc<Room>, identity: Identity, shared: Weak<Shared>) -> Result<Arc<Self>> {
        let sandbox =
            Arc::new(Self { identity, shared, room: Arc::clone(room), end: watch::Sender::new(None) });
        let former = lock(&room.owner).replace(Arc::clone(&sandbox));
        if let Some(former) = former {
            former.end.send_replace(Some(GIVEN_AWAY.to_owned()));
        }
        if !room.spawned.is_alive() {
            // Its end may have been told before there was an owner to tell.
            lock(&room.owner).take();
            return Err(Error::Ended { reason: "its first process has ended".into() });
        }
        Ok(sandbox)
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    pub(crate) fn name(&self) -> &str {
        &self.identity.id
    }

    pub(crate) fn workspace(&self) -> &Path {
        &self.identity.workspace
    }

    pub(crate) fn hostname(&self) -> &str {
        &self.identity.hostname
    }

    pub(crate) fn is_older_than(&self, fence: &Fence) -> bool {
        let own = &self.identity.fence;
        own.session == fence.session && (own.epoch, own.generation) < (fence.epoch, fence.generation)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(crate) fn was_given_away(&self) -> bool {
        self.end.borrow().as_deref() == Some(GIVEN_AWAY)
    }

    /// The processes are gone.
    pub(crate) fn end(&self, reason: String) {
        if let Some(shared) = self.shared.upgrade() {
            shared.forget(self.name());
        }
        self.end.send_replace(Some(reason));
    }

    /// Ends the processes, unless they are another owner's by now.
    pub(crate) fn kill(&self, reason: &str) {
        if !self.was_given_away() {
            self.room.kill(reason);
        }
    }

    pub(crate) async fn wait_for_end(&self) -> Result<()> {
        timeout(END_LIMIT, self.ended())
            .await
            .map(drop)
            .map_err(|_| Error::Deadline { what: "ending a sandbox", limit_ms: END_LIMIT.as_millis() as u64 })
    }

    pub(crate) async fn ended(&self) -> String {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the server stopped watching it".into(),
        }
    }

    /// Every command: does its owner still own the session, and this sandbox?
    pub(crate) fn check(&self) -> Result<()> {
        match self.shared.upgrade() {
            Some(shared) => shared.check_fence(&self.identity.fence)?,
            None => return Err(Error::Ended { reason: "the provider is gone".into() }),
        }
        match &*self.end.borrow() {
            Some(reason) => Err(Error::Ended { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// As `check`, for what needs the files alone: those of a sandbox that ended are still there, until a newer owner comes.
    pub(crate) fn check_files(&self) -> Result<()> {
        match self.check() {
            Err(Error::Ended { .. }) if self.has_ended() && !self.was_given_away() => Ok(()),
            other => other,
        }
    }

    /// Sends in the owner's name: nothing is sent for one who lost the sandbox meanwhile.
    pub(crate) async fn send(&self, op: StageOp, body: &[u8], waiter: Waiter) -> Result<()> {
        self.check()?;
        self.room.until_thawed().await;
        let _gate = self.room.gate.read().await;
        self.check()?;
        self.room.stage.send(op, body, waiter).await.map_err(|error| self.explain(error))
    }

    pub(crate) async fn ask(&self, op: StageOp, body: &[u8]) -> Result<Answer> {
        match self.whole(op, body, REQUEST_LIMIT).await?.answer {
            (greenroom_stage::protocol::StageResult::Failed(fault), _) => Err(file_error(fault)),
            (greenroom_stage::protocol::StageResult::Invalid { reason }, _) => Err(Error::Invalid { reason }),
            answer => Ok(answer),
        }
    }

    /// The answer as the stage gave it, with its descriptors; a refusal is an answer.
    pub(crate) async fn ask_whole(&self, op: StageOp) -> Result<Reply> {
        self.whole(op, &[], REQUEST_LIMIT).await
    }

    pub(crate) async fn whole(&self, op: StageOp, body: &[u8], limit: Duration) -> Result<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.send(op, body, Waiter::Answer(sender)).await?;
        let answer = timeout(limit, receiver)
            .await
            .map_err(|_| Error::Deadline { what: "the sandbox", limit_ms: limit.as_millis() as u64 })?;
        answer.map_err(|_| self.explain(crate::conversation::gone()))
    }

    /// Sends; the answer may come at any time.
    pub(crate) async fn begin(&self, op: StageOp) -> Result<oneshot::Receiver<Reply>> {
        let (sender, receiver) = oneshot::channel();
        self.send(op, &[], Waiter::Answer(sender)).await.map(|()| receiver)
    }

    /// Says why it is gone, where that is known.
    fn explain(&self, error: Error) -> Error {
        match (error, self.room.known_reason()) {
            (Error::Ended { .. }, Some(reason)) => Error::Ended { reason: reason.clone() },
            (error, _) => error,
        }
    }

    pub(crate) fn environment(&self, of_run: &[(String, String)]) -> Vec<(String, String)> {
        crate::exec::environment(&self.identity.env, of_run)
    }

    pub(crate) fn oom_kills(&self) -> u64 {
        self.room.oom_kills()
    }
}

pub(crate) fn absolute(path: &str) -> Result<()> {
    if path.starts_with('/') && path.len() <= 4096 && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::Invalid {
        reason: format!("not an absolute path: {:?}", path.chars().take(80).collect::<String>()),
    })
}

/// A path for the kernel's eyes, as text.
pub(crate) fn text(path: &Path) -> Result<String> {
    let refused = || Error::Invalid { reason: format!("{} is not valid UTF-8", path.display()) };
    path.to_str().map(str::to_owned).ok_or_else(refused)
}
