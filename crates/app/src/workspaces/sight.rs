//! A sandbox for who wants to see something in it: whoever takes part in the session starts it, whoever only looks at the
//! session finds it running, and neither starts it, on its owner's account, nor keeps it from being parked.

use super::Ready;
use crate::{App, Result};
use greenroom_domain::{Person, Problem, Right};
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use std::sync::Arc;

pub(crate) enum InSight {
    /// The caller may do anything in it.
    Own(Arc<dyn Sandbox>),
    /// They only look; and what they are told when they would do more.
    Shown(Ready, Problem),
}

impl InSight {
    pub(crate) fn sandbox(self) -> Arc<dyn Sandbox> {
        match self {
            Self::Own(sandbox) => sandbox,
            Self::Shown(ready, _) => ready.sandbox,
        }
    }
}

impl App {
    /// Of a session that the caller may look at.
    pub(crate) async fn sandbox_in_sight(&self, handle: &SessionHandle, caller: &Person) -> Result<InSight> {
        let (person, role) = (caller.id, caller.role);
        let refusal = match handle.look(move |state| state.require(person, role, Right::Prompt)).await? {
            Ok(()) => return Ok(InSight::Own(self.inner.ensure_sandbox(handle).await?)),
            Err(refusal) => refusal,
        };
        match self.inner.workspaces.ready(handle.id()) {
            Some(ready) => Ok(InSight::Shown(ready, refusal)),
            None => {
                let message =
                    "The sandbox is not running, and only who takes part in this session can start it.";
                Err(Problem { message: message.to_owned(), ..refusal })
            }
        }
    }
}
