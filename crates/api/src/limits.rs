//! How much one person, and one address, may ask for: rates of requests, and back-off where a sign-in fails. Asked before
//! anything is done; refuses with `too_many_requests` and when it is worth asking again. All of it is in memory, in tables
//! of a fixed size, and forgotten at a restart.

mod address;
mod backoff;
mod rate;

pub use address::TrustedProxies;
pub(crate) use address::{Peer, client_address, know_address};

use address::Network;
use backoff::Backoff;
use greenroom_domain::{ErrorCode, PersonId, Problem};
use rate::Rates;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// People, addresses and logins that are remembered of each kind.
const REMEMBERED: usize = 20_000;

/// 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests and frames of one person, whatever they come with.
    pub person_per_minute: u32,
    /// Requests of one address, or of one IPv6 network of 64 bits.
    pub address_per_minute: u32,
}

impl Default for RateLimits {
    /// A busy page asks some hundred times a minute; an office behind one address is a few hundred pages.
    fn default() -> Self {
        Self { person_per_minute: 6_000, address_per_minute: 30_000 }
    }
}

impl RateLimits {
    pub const NONE: Self = Self { person_per_minute: 0, address_per_minute: 0 };
}

#[derive(Debug)]
pub(crate) struct Limits {
    people: Mutex<Rates<PersonId>>,
    addresses: Mutex<Rates<Network>>,
    logins: Mutex<Backoff<String>>,
    guessers: Mutex<Backoff<Network>>,
    pub(crate) proxies: TrustedProxies,
}

impl Limits {
    pub(crate) fn new(rates: RateLimits, proxies: TrustedProxies) -> Self {
        Self {
            people: Mutex::new(Rates::new(rates.person_per_minute, REMEMBERED)),
            addresses: Mutex::new(Rates::new(rates.address_per_minute, REMEMBERED)),
            // One password is guessed a few hundred times a day, from wherever; its owner waits a minute at most.
            logins: Mutex::new(Backoff::new(5, Duration::from_secs(60), REMEMBERED)),
            // Several people may mistype behind one address.
            guessers: Mutex::new(Backoff::new(30, Duration::from_secs(15 * 60), REMEMBERED)),
            proxies,
        }
    }

    /// Counts a request or a frame of this person.
    pub(crate) fn person(&self, person: PersonId) -> Result<(), Problem> {
        admitted(&self.people, person, "You send requests faster than this server takes from one person.")
    }

    /// Counts a request from this address.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), Problem> {
        let text = "This address sends requests faster than this server takes from one.";
        admitted(&self.addresses, Network::of(address), text)
    }

    /// Counts a sign-in as failed until it is known to have succeeded, so that those sent at once count too. Whether there
    /// is such a login plays no part.
    pub(crate) fn begin_sign_in(
        &self,
        login: Option<&str>,
        address: IpAddr,
    ) -> Result<SignInAttempt<'_>, Problem> {
        let (now, network) = (Instant::now(), Network::of(address));
        let login = login.map(str::to_owned);
        let refused = |wait| slow_down("Too many sign-ins failed.", wait);
        lock(&self.guessers).attempt(network, now).map_err(refused)?;
        if let Some(login) = &login
            && let Err(wait) = lock(&self.logins).attempt(login.clone(), now)
        {
            lock(&self.guessers).undo(&network);
            return Err(refused(wait));
        }
        Ok(SignInAttempt { limits: self, login, network })
    }
}

/// A sign-in under way.
#[must_use]
#[derive(Debug)]
pub(crate) struct SignInAttempt<'a> {
    limits: &'a Limits,
    login: Option<String>,
    network: Network,
}

impl SignInAttempt<'_> {
    /// The login's failures are forgotten; the address's others are not.
    pub(crate) fn succeeded(self) {
        if let Some(login) = &self.login {
            lock(&self.limits.logins).forget(login);
        }
        lock(&self.limits.guessers).undo(&self.network);
    }
}

fn admitted<K: Hash + Eq + Copy>(rates: &Mutex<Rates<K>>, key: K, text: &str) -> Result<(), Problem> {
    lock(rates).admit(key, Instant::now()).map_err(|wait| slow_down(text, wait))
}

fn slow_down(text: &str, wait: Duration) -> Problem {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    Problem::new(ErrorCode::TooManyRequests, text)
        .hint(format!("Try again in {seconds} s."))
        .retry_after(wait)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
