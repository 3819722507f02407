//! Time and randomness, passed in so that a session can run in a simulation.

use std::time::{SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> i64;
    /// 128 random bits.
    fn random(&self) -> u128;
}

/// The machine's clock and the process's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u128 {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)
            .expect("the kernel's random source never fails once the machine has booted");
        u128::from_le_bytes(bytes)
    }
}
