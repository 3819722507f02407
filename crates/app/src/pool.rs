//! Warm sandboxes: started and synced before anyone needs them, given to sessions by `rebind`. Owns which there are, for
//! which repository and branch, and who has reserved one. An entry is offered only while it stands at the head of its
//! branch, on the newest image. Sessions come first: entries end when places or memory run short.
//!
//! `keeper` makes and ends entries, `entry` is how one is made, `take` gives one to a session, `demand` says how many.

mod demand;
mod entry;
mod keeper;
mod pressure;
mod reserve;
mod take;
mod views;

use crate::services::Services;
use crate::workspaces::sync::Landing;
use demand::Demand;
use greenroom_domain::{BranchName, CommitHash, ImageId, PersonId, RepositoryId};
use greenroom_image::ImageManifest;
use greenroom_sandbox::{Fence, Sandbox};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};

/// How many warm sandboxes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Kept for a repository that was used within a day.
    pub floor: usize,
    /// Most for one repository, however much it is used.
    pub cap: usize,
    /// Most of all repositories, reserved ones included; 0: there is no pool.
    pub most: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { floor: 1, cap: 4, most: 8 }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    limits: PoolLimits,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    demand: HashMap<RepositoryId, Demand>,
    /// Repositories whose last entry could not be made: not before then, and how often in a row.
    failed: HashMap<RepositoryId, (Instant, u32)>,
    /// The provider cannot give a running sandbox away, or the server stops.
    is_off: bool,
}

/// A warm sandbox, or one that becomes it.
#[derive(Debug)]
struct Entry {
    repository: RepositoryId,
    branch: BranchName,
    image: ImageId,
    made_at: Instant,
    stage: watch::Sender<Stage>,
    reserved: Option<Reservation>,
}

#[derive(Clone, Debug)]
enum Stage {
    Preparing,
    Ready(Warm),
    Gone,
}

/// Kept for the next session of a person who is writing its prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) person: PersonId,
    pub(crate) expires: Instant,
}

/// What stands ready.
#[derive(Clone, Debug)]
pub(crate) struct Warm {
    sandbox: Arc<dyn Sandbox>,
    fence: Fence,
    manifest: Arc<ImageManifest>,
    /// From the image's commit to where it stands.
    landing: Landing,
    services: Services,
}

impl Warm {
    fn commit(&self) -> &CommitHash {
        &self.landing.to
    }
}

impl Entry {
    fn warm(&self) -> Option<Warm> {
        match &*self.stage.borrow() {
            Stage::Ready(warm) => Some(warm.clone()),
            Stage::Preparing | Stage::Gone => None,
        }
    }

    fn is_preparing(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Preparing)
    }
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { limits, state: Mutex::default(), wake: Notify::new() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something changed that decides how many there should be, or where they should stand.
    /// What failed may be tried again at once.
    #[cfg(test)]
    pub(crate) fn forgive(&self) {
        self.with(|state| state.failed.clear());
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn count(&self) -> usize {
        self.with(|state| state.entries.len())
    }

    /// No further entry is made or offered.
    pub(crate) fn turn_off(&self) {
        self.with(|state| state.is_off = true);
    }

    fn is_on(&self) -> bool {
        self.limits.most > 0 && !self.with(|state| state.is_off)
    }
}

#[cfg(test)]
mod tests;
