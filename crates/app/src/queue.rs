//! The prompts that wait in a session, as its log has them. They are changed by commands.

use crate::{App, Result};
use greenroom_domain::state::QueuedPrompt;
use greenroom_domain::{Person, Right, SessionId};
use greenroom_wire::QueuedPromptView;

impl App {
    /// In the order in which they are answered, those held back included.
    pub async fn queue(&self, caller: &Person, id: SessionId) -> Result<Vec<QueuedPromptView>> {
        let state = self.open(caller, Right::View, id).await?.state().await?;
        Ok(state.queue.into_iter().map(view).collect())
    }
}

pub(crate) fn view(queued: QueuedPrompt) -> QueuedPromptView {
    QueuedPromptView {
        prompt: queued.prompt,
        author: queued.author,
        text: queued.text,
        delivery: queued.delivery,
        is_held: queued.is_held,
    }
}
