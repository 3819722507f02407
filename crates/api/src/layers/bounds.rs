//! How much one person may have in flight, and how long a request may take.

use crate::ApiState;
use crate::error::{ApiError, not_signed_in, panicked};
use crate::extract::Caller;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use greenroom_domain::{ErrorCode, PersonId, Problem};
use http::Method;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Counts what each person has in flight. Holds an entry only for people who have something.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    what: &'static str,
    limit: u32,
    counts: Arc<Mutex<HashMap<PersonId, u32>>>,
}

/// One thing in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    person: PersonId,
    counts: Arc<Mutex<HashMap<PersonId, u32>>>,
}

impl InFlight {
    pub(crate) fn new(what: &'static str, limit: u32) -> Self {
        Self { what, limit, counts: Arc::default() }
    }

    pub(crate) fn count(&self) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().map(|count| u64::from(*count)).sum()
    }

    pub(crate) fn enter(&self, person: PersonId) -> Result<Slot, Problem> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(person).or_default();
        if *count >= self.limit {
            let message = format!("One person may have {} {}.", self.limit, self.what);
            return Err(
                Problem::new(ErrorCode::TooManyRequests, message).hint("Wait for some of them to end.")
            );
        }
        *count += 1;
        Ok(Slot { person, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.person) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.person);
            }
        }
    }
}

pub(crate) async fn in_flight(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<Caller>().ok_or_else(not_signed_in)?;
    let slot = Arc::new(state.requests.enter(caller.person.id)?);
    request.extensions_mut().insert(Arc::clone(&slot));
    let response = next.run(request).await;
    drop(slot);
    Ok(response)
}

/// What changes something runs to its end even when the client leaves or the time is over: it is never cut in half. So
/// long it keeps its slot, and a server that stops waits for it as it does for connections.
pub(crate) async fn deadline(time: Duration, mut request: Request, next: Next) -> Result<Response, ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let answer = tokio::time::timeout(time, next.run(request)).await;
        return answer.map_err(|_| too_slow(time, "Try again in a moment.").into());
    }
    let slot = request.extensions_mut().remove::<Arc<Slot>>();
    let open = request.extensions().get::<TaskTracker>().cloned().unwrap_or_default();
    let work = greenroom_telemetry::request::scope_of(next.run(request)).in_current_span();
    let work = open.spawn(async move {
        let response = work.await;
        drop(slot);
        response
    });
    match tokio::time::timeout(time, work).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(panicked().into()),
        Err(_) => Err(too_slow(time, "It may still be done: look before you repeat it.").into()),
    }
}

fn too_slow(time: Duration, hint: &str) -> Problem {
    let message = format!("The server did not answer within {} seconds.", time.as_secs());
    Problem::new(ErrorCode::Deadline, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_at_the_limit_waits_and_others_do_not() {
        let in_flight = InFlight::new("things", 2);
        let (ada, bob) = (PersonId::from_parts(1, 1), PersonId::from_parts(1, 2));
        let first = in_flight.enter(ada).unwrap();
        let _second = in_flight.enter(ada).unwrap();
        assert_eq!(in_flight.enter(ada).unwrap_err().code, ErrorCode::TooManyRequests);
        drop(in_flight.enter(bob).unwrap());
        drop(first);
        drop(in_flight.enter(ada).unwrap());
        assert_eq!(in_flight.counts.lock().unwrap().len(), 1, "who has nothing in flight is forgotten");
    }
}
