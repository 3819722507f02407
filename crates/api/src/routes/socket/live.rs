//! What a client says beside commands: that its person types, what they have read, what they typed so far. Nothing here
//! is answered in order or waits in a queue: of reads and drafts that come too quickly only the newest is carried out.

use crate::ApiState;
use greenroom_domain::{Person, Problem, SessionId};
use greenroom_wire::{ClientKind, Frame, WriteDraft};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two things of one kind that a connection says.
const PAUSE: Duration = Duration::from_millis(200);

type Said = Result<Option<Frame>, Problem>;

/// The newest of one kind, carried out one at a time.
#[derive(Debug)]
struct Newest<T> {
    waiting: Option<T>,
    running: Option<JoinHandle<Said>>,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { waiting: None, running: None }
    }
}

impl<T> Newest<T> {
    fn start(&mut self, act: impl FnOnce(T) -> JoinHandle<Said>) {
        if self.running.is_none() {
            self.running = self.waiting.take().map(act);
        }
    }
}

/// Cancel safe: the task stays until it is done.
async fn finished<T>(one: &mut Newest<T>) -> Said {
    let Some(task) = &mut one.running else { return pending().await };
    let said = task.await.unwrap_or_else(|_| Err(crate::error::panicked()));
    one.running = None;
    said
}

#[derive(Debug, Default)]
pub(super) struct Saying {
    client: ClientKind,
    typing: Newest<bool>,
    reads: Newest<u64>,
    drafts: Newest<WriteDraft>,
}

impl Saying {
    pub(super) fn is_client(&mut self, client: ClientKind) {
        self.client = client;
    }

    pub(super) fn types(&mut self, is_typing: bool) {
        self.typing.waiting = Some(is_typing);
    }

    pub(super) fn has_read(&mut self, seq: u64) {
        self.reads.waiting = self.reads.waiting.max(Some(seq));
    }

    pub(super) fn typed(&mut self, draft: WriteDraft) {
        self.drafts.waiting = Some(draft);
    }

    pub(super) fn go_on(&mut self, state: &ApiState, person: &Arc<Person>, session: SessionId) {
        let client = self.client;
        let with = || (state.app.clone(), Arc::clone(person));
        self.typing.start(|is_typing| {
            let (app, person) = with();
            tokio::spawn(async move {
                app.say_typing(&person, session, client, is_typing).await?;
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            })
        });
        self.reads.start(|seq| {
            let (app, person) = with();
            tokio::spawn(async move {
                app.mark_read(&person, session, seq).await?;
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            })
        });
        self.drafts.start(|draft| {
            let (app, person) = with();
            tokio::spawn(async move {
                let answer = app.write_draft(&person, Some(session), None, draft).await?;
                Ok(Some(Frame::Draft(answer)))
            })
        });
    }

    /// The next thing that is done, with what the client is told of it.
    pub(super) async fn next(&mut self) -> Said {
        tokio::select! {
            said = finished(&mut self.typing) => said,
            said = finished(&mut self.reads) => said,
            said = finished(&mut self.drafts) => said,
        }
    }
}
