//! How long things are kept, and what keeps a session from being archived or deleted by the installation itself.

use crate::{Event, SessionState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// As whom the installation does something of its own accord.
pub const INSTALLATION: &str = "Greenroom";

const DAY_MS: i64 = 86_400_000;

/// In days; 0: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionSettings {
    /// Without anything new in a session, before it is archived.
    pub archive_idle_days: u32,
    /// Without anything new in an archived session, before it is deleted.
    pub delete_archived_days: u32,
    /// Rows that the figures are added up from.
    pub statistics_days: u32,
    /// Share links that expired or were revoked.
    pub share_links_days: u32,
}

impl Default for RetentionSettings {
    /// No session is touched.
    fn default() -> Self {
        Self { archive_idle_days: 0, delete_archived_days: 0, statistics_days: 730, share_links_days: 30 }
    }
}

/// What is as old as this or older has been kept for so many days; `None`: it is kept for ever.
pub fn due_before_ms(days: u32, now_ms: i64) -> Option<i64> {
    (days > 0).then(|| now_ms.saturating_sub(i64::from(days) * DAY_MS))
}

/// Why a session stays that is old enough to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// A turn runs.
    Turn,
    /// Prompts wait in it.
    Queue,
    /// Its change is neither merged nor withdrawn.
    Change,
    /// Somebody has it open.
    Viewer,
    /// Its sandbox is alive.
    Sandbox,
    /// Others are still to be told of it.
    Delivery,
    /// Somebody typed in it a while ago and did not send it.
    Draft,
    /// It was used again while the others were gone through.
    Use,
}

impl SessionState {
    /// What in the session itself speaks against touching it, where nothing may have happened after `before_ms`.
    pub fn kept_by(&self, before_ms: i64) -> Option<KeptBy> {
        match () {
            () if self.running.is_some() => Some(KeptBy::Turn),
            () if !self.queue.is_empty() => Some(KeptBy::Queue),
            () if self.change.as_ref().is_some_and(|change| !change.is_merged) => Some(KeptBy::Change),
            () if self.updated_at_ms > before_ms => Some(KeptBy::Use),
            () => None,
        }
    }

    /// Archives it in the installation's name; empty when it is archived.
    pub fn archived_by_itself(&self) -> Vec<Event> {
        let archived = Event::SessionArchived { by: None, name: INSTALLATION.to_owned() };
        (!self.is_archived).then_some(archived).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_ever_is_never_due_and_the_rest_is_to_the_millisecond() {
        assert_eq!(due_before_ms(0, 5), None);
        assert_eq!(due_before_ms(2, 3 * DAY_MS), Some(DAY_MS));
        let settings = RetentionSettings::default();
        assert_eq!((settings.archive_idle_days, settings.delete_archived_days), (0, 0));
    }

    #[test]
    fn a_session_at_rest_is_free_from_its_last_entry_on_and_not_before() {
        let mut state = SessionState::default();
        state.updated_at_ms = 10;
        assert_eq!(state.kept_by(9), Some(KeptBy::Use));
        assert_eq!(state.kept_by(10), None);
    }
}
