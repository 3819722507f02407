//! Who lives, in which workspace, and the highest fence seen of each session.

use crate::sandbox::LocalSandbox;
use greenroom_sandbox::{Error, Fence, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Sessions whose fence is remembered.
const MAX_FENCES: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Highest (epoch, generation) per session, with when it was last used.
    fences: HashMap<String, (u64, u64, Option<Instant>)>,
    sandboxes: HashMap<String, Slot>,
    is_closed: bool,
}

/// A sandbox that lives, or one that is being made or given away.
#[derive(Debug)]
struct Slot {
    workspace: PathBuf,
    alive: Option<Arc<LocalSandbox>>,
}

/// An id and a workspace kept for one that is on its way; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    registry: &'a Registry,
    id: Option<String>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.registry.forget(id);
        }
    }
}

impl Reserved<'_> {
    /// Lists the sandbox, unless it has ended again already.
    pub(crate) fn fill(mut self, sandbox: &Arc<LocalSandbox>) -> Result<()> {
        let mut state = self.registry.lock();
        let Some(id) = self.id.take() else { return Ok(()) };
        if state.is_closed || sandbox.has_ended() {
            state.sandboxes.remove(&id);
        } else if let Some(slot) = state.sandboxes.get_mut(&id) {
            slot.alive = Some(Arc::clone(sandbox));
        }
        if state.is_closed { Err(shut_down()) } else { Ok(()) }
    }
}

fn shut_down() -> Error {
    Error::Ended { reason: "the provider has shut down".into() }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed by single assignments, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_fence(&self, fence: &Fence) -> Result<()> {
        match self.lock().fences.get(&fence.session) {
            Some((epoch, generation, _)) if (*epoch, *generation) > (fence.epoch, fence.generation) => {
                Err(Error::Fenced { seen: *epoch })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn raise_fence(&self, fence: &Fence) -> Result<()> {
        self.check_fence(fence)?;
        let mut state = self.lock();
        if state.is_closed {
            return Err(shut_down());
        }
        if state.fences.len() >= MAX_FENCES && !state.fences.contains_key(&fence.session) {
            let oldest =
                state.fences.iter().min_by_key(|(_, (_, _, used))| *used).map(|(name, _)| name.clone());
            oldest.and_then(|name| state.fences.remove(&name));
        }
        state.fences.insert(fence.session.clone(), (fence.epoch, fence.generation, Some(Instant::now())));
        Ok(())
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().sandboxes.remove(id);
    }

    /// No more sandboxes; those that live.
    pub(crate) fn close(&self) -> Vec<Arc<LocalSandbox>> {
        let mut state = self.lock();
        state.is_closed = true;
        state.sandboxes.values().filter_map(|slot| slot.alive.clone()).collect()
    }

    pub(crate) fn alive(&self) -> Vec<Arc<LocalSandbox>> {
        self.lock().sandboxes.values().filter_map(|slot| slot.alive.clone()).collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LocalSandbox>> {
        self.lock().sandboxes.get(id)?.alive.clone()
    }

    /// A newer owner of the same workspace takes it over: two mounts of one upper would tear it.
    pub(crate) async fn end_predecessor(&self, workspace: &Path, fence: &Fence) -> Result<()> {
        let predecessor = {
            let state = self.lock();
            let mut same = state.sandboxes.values().filter(|slot| slot.workspace == workspace);
            match same.next().map(|slot| &slot.alive) {
                Some(Some(sandbox)) if sandbox.is_older_than(fence) => Some(sandbox.clone()),
                Some(_) => {
                    return Err(Error::Invalid {
                        reason: "the workspace is in use by another sandbox".into(),
                    });
                }
                None => None,
            }
        };
        match predecessor {
            Some(sandbox) => {
                sandbox.kill("a newer owner took its workspace");
                sandbox.wait_for_end().await
            }
            None => Ok(()),
        }
    }

    pub(crate) fn reserve(&self, id: &str, workspace: &Path) -> Result<Reserved<'_>> {
        let mut state = self.lock();
        let is_taken = state.sandboxes.iter().any(|(other, slot)| other == id || slot.workspace == workspace);
        if is_taken {
            return Err(Error::Invalid { reason: format!("a sandbox {id} or its workspace exists already") });
        }
        state.sandboxes.insert(id.to_owned(), Slot { workspace: workspace.to_owned(), alive: None });
        Ok(Reserved { registry: self, id: Some(id.to_owned()) })
    }
}
