//! Predictive warm-up: whoever begins to write a prompt has a sandbox made ready for it. Cheap to ask again and again;
//! what is not used in time goes back. Never fails for want of a sandbox: the session then starts without.

use crate::pool::Reservation;
use crate::{App, Inner, Result, require};
use greenroom_domain::{BranchName, ErrorCode, ImageId, Person, PersonId, Problem, RepositoryName, Role};
use greenroom_wire::{WarmRepository, WarmState, WarmView};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A reservation lasts this long after the last call.
const LASTS: Duration = Duration::from_secs(60);
/// Sandboxes that may be reserved for one person.
const PER_PERSON: usize = 2;
/// New reservations of one person within `RATE_WINDOW`; further calls are told that there is none.
const RATE: usize = 12;
const RATE_WINDOW: Duration = Duration::from_secs(60);
const PEOPLE_LIMIT: usize = 10_000;

/// When each person's latest reservations were made.
#[derive(Debug, Default)]
pub(crate) struct WarmUps {
    by_person: Mutex<HashMap<PersonId, Vec<Instant>>>,
}

impl WarmUps {
    fn may_reserve(&self, person: PersonId, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < RATE_WINDOW;
        let mut all = self.by_person.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PEOPLE_LIMIT {
            all.retain(|_, made| made.iter().any(is_recent));
        }
        let made = all.entry(person).or_default();
        made.retain(is_recent);
        let may = made.len() < RATE;
        if may {
            made.push(now);
        }
        may
    }
}

/// What is to be made ready, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct WarmUp {
    pub(crate) person: PersonId,
    pub(crate) repository: greenroom_directory::RepositoryRow,
    pub(crate) branch: BranchName,
    pub(crate) image: ImageId,
}

impl App {
    /// Makes a sandbox ready for the caller's next session, or says how far that is. A call extends the reservation.
    pub async fn warm(
        &self,
        caller: &Person,
        name: &RepositoryName,
        body: WarmRepository,
    ) -> Result<WarmView> {
        require(caller, Role::Member)?;
        self.inner.may_begin()?;
        let row = self.inner.repository_row(name).await?;
        let branch = match &body.base_branch {
            Some(name) => {
                name.parse().map_err(|error| Problem::new(ErrorCode::InvalidRequest, format!("{error}.")))?
            }
            None => row.default_branch.clone(),
        };
        let reservation = Reservation { person: caller.id, expires: Instant::now() + LASTS };
        let lasts_ms = i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX);
        let expires_at_ms = self.inner.now_ms() + lasts_ms;
        let state = self.inner.warm_up(row, branch, reservation).await?;
        Ok(WarmView { state, expires_at_ms })
    }
}

impl Inner {
    async fn warm_up(
        self: &Arc<Self>,
        repository: greenroom_directory::RepositoryRow,
        branch: BranchName,
        reservation: Reservation,
    ) -> Result<WarmState> {
        self.pool_used(repository.id, self.now_ms());
        let Some(image) = self.newest_image(repository.id).await? else {
            self.start_build(&repository, crate::images::Look::Here).await?;
            return Ok(WarmState::WaitingForImage);
        };
        let warm_up = WarmUp { person: reservation.person, repository, branch, image };
        if let Some(state) = self.pool_extends(&warm_up, reservation) {
            return Ok(state);
        }
        // A branch that is not there is said at once, not by a sandbox that cannot be made.
        if self.forge.branch_head(warm_up.repository.id, &warm_up.branch).await?.is_none() {
            let message = format!("The repository has no branch {}.", warm_up.branch);
            return Err(Problem::new(ErrorCode::InvalidRequest, message)
                .hint("Leave the branch out to begin at the default one."));
        }
        if !self.warm_ups.may_reserve(reservation.person, Instant::now()) {
            return Ok(WarmState::Unavailable);
        }
        let manifest = self.manifest(image).await?;
        Ok(self.pool_reserves(warm_up, manifest, reservation, PER_PERSON))
    }
}

#[cfg(test)]
mod tests;
