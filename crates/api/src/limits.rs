//! How much one person, and one address, may ask for: rates of requests, and back-off where a sign-in or a share link fails. Asked before
//! anything is done; refuses with `too_many_requests` and when it is worth asking again. All of it is in memory, in tables
//! of a fixed size, and forgotten at a restart.

mod address;
mod backoff;
mod rate;

pub use address::TrustedProxies;
pub(crate) use address::{Peer, address_of, client_address, know_address};

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

/// A page that is being developed asks for each of its modules: previews have rates of their own, so many times as high.
const PREVIEWS: u32 = 5;

/// Longest wait for who fails nowhere near.
const LOGIN_WAIT: Duration = Duration::from_secs(5);

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
    previewers: Mutex<Rates<PersonId>>,
    preview_addresses: Mutex<Rates<Network>>,
    /// A login from one network.
    guesses: Mutex<Backoff<(String, Network)>>,
    logins: Mutex<Backoff<String>>,
    guessers: Mutex<Backoff<Network>>,
    link_guessers: Mutex<Backoff<Network>>,
    pub(crate) proxies: TrustedProxies,
}

impl Limits {
    pub(crate) fn new(rates: RateLimits, proxies: TrustedProxies) -> Self {
        Self {
            people: Mutex::new(Rates::new(rates.person_per_minute, REMEMBERED)),
            addresses: Mutex::new(Rates::new(rates.address_per_minute, REMEMBERED)),
            previewers: Mutex::new(Rates::new(rates.person_per_minute.saturating_mul(PREVIEWS), REMEMBERED)),
            preview_addresses: Mutex::new(Rates::new(
                rates.address_per_minute.saturating_mul(PREVIEWS),
                REMEMBERED,
            )),
            // From one network a password is guessed some thousand times a day, and its owner elsewhere is not concerned.
            guesses: Mutex::new(Backoff::new(5, Duration::from_secs(60), REMEMBERED)),
            // From all networks together some ten thousand times; that is what its owner may have to wait for.
            logins: Mutex::new(Backoff::new(20, LOGIN_WAIT, REMEMBERED)),
            // Several people may mistype behind one address.
            guessers: Mutex::new(Backoff::new(30, Duration::from_secs(15 * 60), REMEMBERED)),
            // A link that was revoked or has expired is followed again by many: of their own, so that none of them waits to sign in.
            link_guessers: Mutex::new(Backoff::new(30, Duration::from_secs(15 * 60), REMEMBERED)),
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

    /// Counts a request of this person to a preview.
    pub(crate) fn previewer(&self, person: PersonId) -> Result<(), Problem> {
        let text = "Your previews are asked faster than this server takes from one person.";
        admitted(&self.previewers, person, text)
    }

    /// Counts a request to a preview from this address.
    pub(crate) fn preview_address(&self, address: IpAddr) -> Result<(), Problem> {
        let text = "This address asks previews faster than this server takes from one.";
        admitted(&self.preview_addresses, Network::of(address), text)
    }

    /// Counts a sign-in as failed until it is known to have succeeded, so that those sent at once count too. Whether there
    /// is such a login plays no part.
    pub(crate) fn begin_sign_in(
        &self,
        login: Option<&str>,
        address: IpAddr,
    ) -> Result<SignInAttempt<'_>, Problem> {
        let attempt = self.attempt(login, Network::of(address), Instant::now());
        attempt.map_err(|wait| slow_down("Too many sign-ins failed.", wait))
    }

    /// What waits at one bound counts at no other: who polls takes nothing from who does not.
    fn attempt(
        &self,
        login: Option<&str>,
        network: Network,
        now: Instant,
    ) -> Result<SignInAttempt<'_>, Duration> {
        lock(&self.guessers).attempt(network, now)?;
        let login = login.map(str::to_owned);
        if let Some(login) = &login {
            self.guess(login, network, now).inspect_err(|_| lock(&self.guessers).undo(&network))?;
        }
        Ok(SignInAttempt { limits: self, login, network })
    }

    fn guess(&self, login: &str, network: Network, now: Instant) -> Result<(), Duration> {
        let key = (login.to_owned(), network);
        lock(&self.guesses).attempt(key.clone(), now)?;
        let admitted = lock(&self.logins).attempt(login.to_owned(), now);
        admitted.inspect_err(|_| lock(&self.guesses).undo(&key))
    }

    /// Counts a share link as one that does not exist until it is known to lead somewhere, so that those followed at once
    /// count too.
    pub(crate) fn begin_share_link(&self, address: IpAddr) -> Result<LinkAttempt<'_>, Problem> {
        let network = Network::of(address);
        let refused =
            |wait| slow_down("Too many share links that do not work were followed from this address.", wait);
        lock(&self.link_guessers).attempt(network, Instant::now()).map_err(refused)?;
        Ok(LinkAttempt { limits: self, network })
    }
}

/// A share link that is being followed.
#[must_use]
#[derive(Debug)]
pub(crate) struct LinkAttempt<'a> {
    limits: &'a Limits,
    network: Network,
}

impl LinkAttempt<'_> {
    /// The link was no guess, whatever became of it then.
    pub(crate) fn was_known(self) {
        lock(&self.limits.link_guessers).undo(&self.network);
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
        if let Some(login) = self.login {
            lock(&self.limits.logins).forget(&login);
            lock(&self.limits.guesses).forget(&(login, self.network));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(RateLimits::NONE, TrustedProxies::default())
    }

    fn network(last: u8) -> Network {
        Network::of([192, 0, 2, last].into())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nobody_holds_a_login_shut_for_who_comes_from_elsewhere() {
        // Whenever its owner comes.
        for arrival in 600..670 {
            let (limits, begin) = (limits(), Instant::now());
            let mut guessed = 0;
            let mut polled = |from: u32, to: u32| {
                for second in from..to {
                    guessed +=
                        u32::from(limits.attempt(Some("ada"), network(1), begin + SECOND * second).is_ok());
                }
            };
            polled(0, arrival + 1);
            let owner = |second: u32| limits.attempt(Some("ada"), network(2), begin + SECOND * second);
            if let Err(wait) = owner(arrival) {
                assert!(wait <= LOGIN_WAIT, "{wait:?}");
                let again = arrival + u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap();
                polled(arrival + 1, again + 1);
                owner(again).expect("after one wait").succeeded();
            }
            assert!((10..40).contains(&guessed), "{guessed} guesses in ten minutes");
        }
    }

    #[test]
    fn who_fails_from_many_networks_waits_for_each_login_too() {
        let (limits, mut now) = (limits(), Instant::now());
        let mut waited = Duration::ZERO;
        for last in 0..=100 {
            while let Err(wait) = limits.attempt(Some("ada"), network(last), now) {
                (now, waited) = (now + wait, waited + wait);
            }
        }
        assert!(waited > LOGIN_WAIT * 70, "{waited:?}");
        assert!(limits.attempt(Some("ben"), network(101), now).is_ok());
    }

    #[test]
    fn who_succeeds_forgets_their_own_failures() {
        let (limits, now) = (limits(), Instant::now());
        for _ in 0..5 {
            drop(limits.attempt(Some("ada"), network(1), now).unwrap());
        }
        limits.attempt(Some("ada"), network(1), now).unwrap().succeeded();
        for _ in 0..6 {
            drop(limits.attempt(Some("ada"), network(1), now).unwrap());
        }
        assert!(limits.attempt(Some("ada"), network(1), now).is_err());
    }
}
