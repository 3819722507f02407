//! What was refused, told to the session once: a program that retries must not fill its log.

use greenroom_domain::{DenyReason, SessionId};
use greenroom_sandbox::Origin;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(600);
/// Different destinations of one sandbox that are told within a window.
const MOST_PER_WINDOW: usize = 30;
const MOST_SANDBOXES: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub sandbox: String,
    /// The session of the sandbox's fence: a session's id, or the name of a build.
    pub owner: String,
    pub session: Option<SessionId>,
    /// As the client named it; the address when it named nothing.
    pub host: String,
    pub port: u16,
    pub reason: DenyReason,
}

/// Called at most once per destination and ten minutes, and at most thirty times per sandbox in them. Must not block.
pub trait DenyLog: Send + Sync + std::fmt::Debug {
    fn denied(&self, denial: Denial);
}

/// Decides what is told.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    destinations: HashSet<(String, u16)>,
}

impl Denials {
    pub(crate) fn is_news(&self, origin: &Origin, host: &str, port: u16) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST_SANDBOXES && !told.contains_key(&origin.sandbox) {
            told.retain(|_, told| now - told.since < WINDOW);
            if told.len() >= MOST_SANDBOXES {
                return false;
            }
        }
        let fresh = || Told { since: now, destinations: HashSet::new() };
        let of_sandbox = told.entry(origin.sandbox.clone()).or_insert_with(fresh);
        if now - of_sandbox.since >= WINDOW {
            *of_sandbox = fresh();
        }
        of_sandbox.destinations.len() < MOST_PER_WINDOW
            && of_sandbox.destinations.insert((host.to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_destination_is_told_once_per_window_and_floods_are_bounded() {
        let origin = Origin {
            sandbox: "a".into(),
            session: String::new(),
            generation: 1,
            destination: "198.18.0.1:443".parse().unwrap(),
        };
        let denials = Denials::default();
        assert!(denials.is_news(&origin, "x.org", 443));
        assert!(!denials.is_news(&origin, "x.org", 443));
        assert!(denials.is_news(&origin, "x.org", 80));
        let told = (0..1000).filter(|n| denials.is_news(&origin, &format!("{n}.org"), 443)).count();
        assert_eq!(told, MOST_PER_WINDOW - 2);
        tokio::time::advance(WINDOW).await;
        assert!(denials.is_news(&origin, "x.org", 443));
    }
}
