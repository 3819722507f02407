//! Quotas of people: what admins set, what each has used, and the refusals. What is counted is in the directory
//! (`greenroom_directory::Counted`); what holds is in memory, so that nothing is asked on the way of a prompt where no
//! quota is set. How a quota reads is `domain::quota`'s.

use crate::{App, Inner, Result, require};
use greenroom_directory::{Counted, Directory};
use greenroom_domain::money::Budget;
use greenroom_domain::quota::{QuotaKind, Quotas, check, free_at_ms, reached, since_ms};
use greenroom_domain::{
    BlobDigest, Command, Event, LoginName, Person, PersonId, Problem, Role, SessionId, SessionState, TurnId,
};
use greenroom_session::SessionHandle;
use greenroom_wire::{PersonQuotas, QuotaUsage, QuotaUse, QuotasView};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// By then a new session is in the index.
const INDEXED_AFTER: Duration = Duration::from_secs(60);
/// Longer than any quota counts.
const USED_KEPT_MS: i64 = 40 * 86_400_000;
/// As long as an upload waits for its session.
const UPLOADS_KEPT_MS: i64 = 86_400_000;
const FORGET_EVERY: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct QuotaBook {
    set: RwLock<Set>,
    /// Sessions that were made a moment ago, by whom: the index may not have them yet.
    fresh: Mutex<HashMap<SessionId, (PersonId, Instant)>>,
}

#[derive(Clone, Debug, Default)]
struct Set {
    everyone: Quotas,
    people: HashMap<PersonId, Quotas>,
}

impl QuotaBook {
    pub(crate) async fn load(directory: &Directory) -> Result<Self> {
        let mut set = Set::default();
        for (person, quotas) in directory.quotas().await? {
            match person {
                Some(person) => drop(set.people.insert(person, quotas)),
                None => set.everyone = quotas,
            }
        }
        Ok(Self { set: RwLock::new(set), ..Self::default() })
    }

    fn bound(&self, person: PersonId, kind: QuotaKind) -> Option<u64> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        let own = set.people.get(&person).copied().unwrap_or_default();
        set.everyone.bound_for(&own, kind)
    }

    fn own(&self, person: PersonId) -> Quotas {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.people.get(&person).copied().unwrap_or_default()
    }

    fn put(&self, person: Option<PersonId>, quotas: Quotas) {
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        match person {
            Some(person) => drop(set.people.insert(person, quotas)),
            None => set.everyone = quotas,
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<SessionId, (PersonId, Instant)>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// What is set, for admins.
    pub async fn quotas(&self, caller: &Person) -> Result<QuotasView> {
        require(caller, Role::Admin)?;
        let everyone = self.inner.quotas.set.read().unwrap_or_else(PoisonError::into_inner).everyone;
        let people = self.inner.directory.people().await?.into_iter().filter_map(|person| {
            let quotas = self.inner.quotas.own(person.id);
            (quotas != Quotas::default()).then_some(PersonQuotas { login: person.login, quotas })
        });
        Ok(QuotasView { everyone, people: people.collect() })
    }

    /// In place of what was set, for everyone or for one person.
    pub async fn set_quotas(
        &self,
        caller: &Person,
        login: Option<&LoginName>,
        quotas: Quotas,
    ) -> Result<QuotasView> {
        require(caller, Role::Admin)?;
        let person = match login {
            Some(login) => Some(self.person_by_login(login.clone()).await?.id),
            None => None,
        };
        self.inner.directory.set_quotas(person, quotas).await?;
        self.inner.quotas.put(person, quotas);
        self.quotas(caller).await
    }

    /// What somebody used of what they may; one's own, or for admins anybody's.
    pub async fn quota_usage(&self, caller: &Person, login: &LoginName) -> Result<QuotaUsage> {
        let person = match *login == caller.login {
            true => caller.id,
            false => {
                require(caller, Role::Admin)?;
                self.person_by_login(login.clone()).await?.id
            }
        };
        let (own, now) = (self.inner.quotas.own(person), self.inner.now_ms());
        let mut used = vec![];
        for kind in QuotaKind::ALL {
            used.push(QuotaUse {
                kind,
                used: self.inner.used(person, kind).await?,
                limit: self.inner.quotas.bound(person, kind),
                is_own: own.of(kind).is_some(),
                free_at_ms: free_at_ms(kind, now),
            });
        }
        Ok(QuotaUsage { login: login.clone(), used })
    }
}

impl Inner {
    async fn used(&self, person: PersonId, kind: QuotaKind) -> Result<u64> {
        let since = since_ms(kind, self.now_ms()).unwrap_or(0);
        Ok(match kind {
            QuotaKind::Sessions => self.open_sessions_of(person).await?.len() as u64,
            QuotaKind::Sandboxes => self.sandboxes_of(person).await?.len() as u64,
            QuotaKind::PromptsPerDay => self.directory.prompts_since(person, since).await?,
            QuotaKind::CostPerDay | QuotaKind::CostPerMonth => {
                self.directory.cost_since(person, since).await?
            }
            QuotaKind::StoredBytes => self.directory.stored_bytes(person).await?,
        })
    }

    async fn open_sessions_of(&self, person: PersonId) -> Result<Vec<SessionId>> {
        let mut sessions = self.directory.open_sessions_of(person).await?;
        let mut fresh = self.quotas.fresh();
        fresh.retain(|_, (_, since)| since.elapsed() < INDEXED_AFTER);
        sessions.extend(fresh.iter().filter(|(_, (whose, _))| *whose == person).map(|(id, _)| *id));
        sessions.sort_unstable();
        sessions.dedup();
        Ok(sessions)
    }

    pub(crate) async fn sandboxes_of(&self, person: PersonId) -> Result<Vec<SessionId>> {
        let alive = self.workspaces.sessions();
        if alive.is_empty() {
            return Ok(vec![]);
        }
        let mut own = self.open_sessions_of(person).await?;
        own.retain(|session| alive.contains(session));
        Ok(own)
    }

    /// Another session of this person; it counts from now on.
    pub(crate) async fn admit_session(&self, person: PersonId, session: SessionId) -> Result<()> {
        if let Some(most) = self.quotas.bound(person, QuotaKind::Sessions) {
            let mut open = self.open_sessions_of(person).await?;
            // Those that came in while the index was read.
            let mut fresh = self.quotas.fresh();
            open.extend(fresh.iter().filter(|(_, (whose, _))| *whose == person).map(|(id, _)| *id));
            open.sort_unstable();
            open.dedup();
            open.retain(|other| *other != session);
            check(QuotaKind::Sessions, open.len() as u64, 1, most, self.now_ms())?;
            fresh.insert(session, (person, Instant::now()));
        } else {
            self.quotas.fresh().insert(session, (person, Instant::now()));
        }
        Ok(())
    }

    /// A command that brings an archived session back: it is one more of whoever made it, whoever gives the command.
    /// Answers whether it is.
    pub(crate) async fn admit_return(
        &self,
        caller: PersonId,
        handle: &SessionHandle,
        command: &Command,
    ) -> Result<bool> {
        if !matches!(command, Command::Unarchive {} | Command::Prompt { .. } | Command::Compact {}) {
            return Ok(false);
        }
        let archived = |state: &SessionState| state.origin.as_ref().filter(|_| state.is_archived).cloned();
        let Some(origin) = handle.look(archived).await? else { return Ok(false) };
        let whose = origin.author.on_behalf_of;
        self.admit_session(whose, handle.id()).await.map_err(|problem| match whose == caller {
            true => problem,
            false => {
                let message = format!(
                    "{} made this session, and has as many open ones as they may.",
                    origin.author.name
                );
                Problem { message, ..problem }
            }
        })?;
        Ok(true)
    }

    /// It was not made, is archived, or deleted.
    pub(crate) fn session_is_gone(&self, session: SessionId) {
        self.quotas.fresh().remove(&session);
    }

    /// Counts a prompt of this person, before it is sent on. `key` is what a repetition comes with: that is no other prompt,
    /// and is let through.
    pub(crate) async fn admit_prompt(self: &Arc<Self>, person: PersonId, key: &str) -> Result<CountedPrompt> {
        let (now, key) = (self.now_ms(), key.to_owned());
        let most = self.quotas.bound(person, QuotaKind::PromptsPerDay);
        let costs = [QuotaKind::CostPerDay, QuotaKind::CostPerMonth]
            .map(|kind| self.quotas.bound(person, kind).map(|most| (kind, most)));
        let mut counted = CountedPrompt { app: Arc::clone(self), person, key, is: IsCounted::Later };
        if most.is_none() && costs.iter().all(Option::is_none) {
            return Ok(counted);
        }
        let since = since_ms(QuotaKind::PromptsPerDay, now).unwrap_or(0);
        counted.is = match self.directory.count_prompt(person, counted.key.clone(), now, since, most).await? {
            Counted::New => IsCounted::Now,
            Counted::Known => return Ok(CountedPrompt { is: IsCounted::Before, ..counted }),
            Counted::Refused { used } => {
                return Err(reached(QuotaKind::PromptsPerDay, used, most.unwrap_or(used), now));
            }
        };
        for (kind, most) in costs.into_iter().flatten() {
            if let Err(problem) = check(kind, self.used(person, kind).await?, 0, most, now) {
                counted.refused().await;
                return Err(problem);
            }
        }
        Ok(counted)
    }

    /// Counts a file that came for this session, or for the next one.
    pub(crate) async fn admit_file(
        &self,
        person: PersonId,
        session: Option<SessionId>,
        digest: BlobDigest,
        bytes: u64,
    ) -> Result<Counted> {
        let most = self.quotas.bound(person, QuotaKind::StoredBytes);
        match self.directory.count_file(person, session, digest, bytes, self.now_ms(), most).await? {
            counted @ (Counted::New | Counted::Known) => Ok(counted),
            Counted::Refused { used } => {
                Err(reached(QuotaKind::StoredBytes, used, most.unwrap_or(used), self.now_ms()))
            }
        }
    }

    /// Before a file is received: whether so many bytes more would fit.
    pub(crate) async fn expect_file(&self, person: PersonId, bytes: u64) -> Result<()> {
        match self.quotas.bound(person, QuotaKind::StoredBytes) {
            Some(most) => {
                let used = self.directory.stored_bytes(person).await?;
                check(QuotaKind::StoredBytes, used, bytes.max(1), most, self.now_ms())
            }
            None => Ok(()),
        }
    }

    /// Makes place among the sandboxes of whoever made this session, by ending one of theirs that nobody uses, or refuses.
    pub(crate) async fn admit_sandbox(self: &Arc<Self>, person: PersonId, session: SessionId) -> Result<()> {
        let Some(most) = self.quotas.bound(person, QuotaKind::Sandboxes) else { return Ok(()) };
        let mut others = self.sandboxes_of(person).await?;
        others.retain(|other| *other != session);
        let mut used = others.len() as u64;
        for other in self.workspaces.longest_unused(&others) {
            if used < most {
                break;
            }
            let Ok(handle) = self.sessions().get(other).await else { continue };
            if handle.state().await.is_ok_and(|state| state.running.is_none()) {
                let why = "another session of the same person needed its place";
                self.end_sandbox(&handle, crate::moments::Ending::Parked, why).await;
                used -= 1;
            }
        }
        check(QuotaKind::Sandboxes, used, 1, most, self.now_ms())
    }

    /// What a turn in this person's name may cost, `spent` of it already.
    pub(crate) async fn bounded_budget(
        &self,
        budget: Budget,
        person: PersonId,
        spent: u64,
    ) -> Result<Budget> {
        let mut most = budget.cost_microusd;
        for kind in [QuotaKind::CostPerDay, QuotaKind::CostPerMonth] {
            if let Some(bound) = self.quotas.bound(person, kind) {
                // `spent` is among what was used.
                let used = self.used(person, kind).await?;
                most = most.min(bound.saturating_sub(used).saturating_add(spent.min(used)));
            }
        }
        Ok(Budget { cost_microusd: most, ..budget })
    }

    /// Until the app is gone.
    pub(crate) async fn forget_usage(app: Weak<Self>) {
        loop {
            let Some(inner) = app.upgrade() else { return };
            let now = inner.now_ms();
            let forgotten = inner.directory.forget_usage(now - USED_KEPT_MS, now - UPLOADS_KEPT_MS);
            if let Err(error) = forgotten.await {
                tracing::warn!(%error, "old counts of usage are left over");
            }
            drop(inner);
            tokio::time::sleep(FORGET_EVERY).await;
        }
    }
}

/// A prompt on its way.
#[derive(Debug)]
#[must_use]
pub(crate) struct CountedPrompt {
    app: Arc<Inner>,
    person: PersonId,
    key: String,
    is: IsCounted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IsCounted {
    /// No quota is set: it is counted, for people to see, once it is accepted, and does not wait for that.
    Later,
    Now,
    /// When it was first sent.
    Before,
}

impl CountedPrompt {
    pub(crate) fn accepted(self) {
        if self.is != IsCounted::Later {
            return;
        }
        tokio::spawn(async move {
            let Self { app, person, key, .. } = self;
            if let Err(error) = app.directory.count_prompt(person, key, app.now_ms(), 0, None).await {
                tracing::warn!(%error, "a prompt was not counted");
            }
        });
    }

    /// For a reason of its own: then it does not count, unless it was accepted earlier.
    pub(crate) async fn refused(self) {
        if self.is != IsCounted::Now {
            return;
        }
        if let Err(error) = self.app.directory.uncount_prompt(self.person, self.key).await {
            tracing::warn!(%error, "a refused prompt was counted");
        }
    }
}

/// What a turn costs, counted for the person in whose name it works.
#[derive(Debug)]
pub(crate) struct Spending {
    turn: TurnId,
    person: PersonId,
    began_ms: i64,
    total_microusd: AtomicU64,
}

impl Spending {
    pub(crate) fn new(turn: TurnId, person: PersonId, began_ms: i64, spent_microusd: u64) -> Self {
        Self { turn, person, began_ms, total_microusd: spent_microusd.into() }
    }

    /// Told again after a restart, it comes to the same.
    pub(crate) fn observe(&self, app: &Arc<Inner>, events: &[Event]) {
        let costs = events.iter().filter_map(Event::usage).map(|(usage, _)| usage.cost_microusd);
        let cost = costs.fold(0, u64::saturating_add);
        if cost == 0 {
            return;
        }
        let add = |total: u64| Some(total.saturating_add(cost));
        let before = self.total_microusd.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        let total = before.unwrap_or_default().saturating_add(cost);
        let (app, turn, person, began) = (Arc::clone(app), self.turn, self.person, self.began_ms);
        tokio::spawn(async move {
            if let Err(error) = app.directory.put_cost(turn, person, began, total).await {
                tracing::warn!(%error, "what a turn cost was not counted");
            }
        });
    }
}
