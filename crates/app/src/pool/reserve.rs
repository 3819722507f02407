//! Reservations: an entry that waits for one person's next session.

use super::entry::Making;
use super::{Entry, Reservation, Stage, State};
use crate::Inner;
use crate::warm::WarmUp;
use greenroom_image::ImageManifest;
use greenroom_wire::WarmState;
use std::sync::Arc;

impl Inner {
    /// The person's reservation, for as long again; `None`: there is none.
    pub(crate) fn pool_extends(&self, warm_up: &WarmUp, reservation: Reservation) -> Option<WarmState> {
        self.pool.with(|state| {
            let mut entries = state.entries.values_mut();
            let own = entries.find(|entry| entry.is_for(warm_up) && entry.is_reserved_for(warm_up.person))?;
            own.reserved = Some(reservation);
            Some(own.state())
        })
    }

    /// Reserves an entry that is there, or begins one. The person's oldest reservation makes room for it.
    pub(crate) fn pool_reserves(
        self: &Arc<Self>,
        warm_up: WarmUp,
        manifest: Arc<ImageManifest>,
        reservation: Reservation,
        per_person: usize,
    ) -> WarmState {
        if !self.pool.is_on() {
            return WarmState::Unavailable;
        }
        let taken = self.pool.with(|state| {
            state.release_surplus(&warm_up, per_person);
            let mut entries: Vec<&mut Entry> = state
                .entries
                .values_mut()
                .filter(|entry| entry.is_for(&warm_up) && entry.is_free())
                .collect();
            // One that is ready before one on its way.
            entries.sort_by_key(|entry| entry.is_preparing());
            let entry = entries.into_iter().next()?;
            entry.reserved = Some(reservation);
            Some(entry.state())
        });
        if let Some(state) = taken {
            // Another takes its place among the free ones.
            self.pool.wake();
            return state;
        }
        if !self.has_room_for_one() {
            return WarmState::Unavailable;
        }
        let WarmUp { repository, branch, .. } = warm_up;
        self.begin_entry(Making { repository, branch, manifest, reserved: Some(reservation) });
        WarmState::Preparing
    }

    /// Where the pool is full, somebody's wish counts more than an entry that nobody asked for.
    fn has_room_for_one(self: &Arc<Self>) -> bool {
        let free = self.config.max_sandboxes.saturating_sub(self.workspaces.count());
        let places = self.pool.limits.most.min(free);
        if self.pool.count() < places {
            return true;
        }
        let unreserved = self.pool.with(|state| {
            let mut free = state.entries.iter().filter(|(_, entry)| entry.is_free());
            free.next().map(|(number, _)| *number)
        });
        match unreserved {
            Some(number) if places > 0 => {
                self.end_entry(number);
                true
            }
            _ => false,
        }
    }
}

impl State {
    /// Leaves room for one more reservation of the person.
    fn release_surplus(&mut self, warm_up: &WarmUp, per_person: usize) {
        let mut own: Vec<&mut Entry> =
            self.entries.values_mut().filter(|entry| entry.is_reserved_for(warm_up.person)).collect();
        own.sort_by_key(|entry| entry.reserved.map(|reserved| reserved.expires));
        let surplus = (own.len() + 1).saturating_sub(per_person);
        own.into_iter().take(surplus).for_each(|entry| entry.reserved = None);
    }
}

impl Entry {
    fn is_for(&self, warm_up: &WarmUp) -> bool {
        self.repository == warm_up.repository.id
            && self.branch == warm_up.branch
            && self.image == warm_up.image
    }

    fn is_free(&self) -> bool {
        self.reserved.is_none_or(|reserved| reserved.is_over())
    }

    fn state(&self) -> WarmState {
        match *self.stage.borrow() {
            Stage::Ready(_) => WarmState::Ready,
            Stage::Preparing | Stage::Gone => WarmState::Preparing,
        }
    }
}
