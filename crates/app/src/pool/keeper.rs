//! Makes reality follow demand: an input-free pass over what there is and what there should be, run when something
//! changed and every few seconds. Ends what is stale or too much, begins what is missing, a few at a time.

use super::demand::{DAY_MS, Want, allot};
use super::entry::Making;
use super::pressure::{Pressure, pressure};
use crate::{Inner, Result};
use greenroom_directory::{Archived, Onlooker, RepositoryRow};
use greenroom_domain::{BranchName, CommitHash, ImageId, RepositoryId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);
const SESSIONS_FIRST: Duration = Duration::from_millis(300);
/// Entries that are made at the same time.
const AT_ONCE: usize = 2;
/// An entry is replaced when it is this old: what runs in it does not live for ever.
const LONGEST_LIFE: Duration = Duration::from_secs(4 * 60 * 60);
/// Sessions that tell, after a start, which repositories are in use.
const SESSIONS_READ: u32 = 200;

/// What a repository's entries are measured by.
struct Facts {
    row: RepositoryRow,
    image: Option<ImageId>,
    heads: HashMap<BranchName, Option<CommitHash>>,
}

/// An entry, as far as the keeper cares.
struct Seen {
    number: u64,
    repository: RepositoryId,
    branch: BranchName,
    image: ImageId,
    is_preparing: bool,
    /// Where it stands; `None` while it is prepared.
    commit: Option<CommitHash>,
    is_reserved: bool,
    age: Duration,
}

impl Inner {
    /// Until the app is gone.
    pub(crate) async fn keep_pool(inner: Weak<Self>) {
        if let Some(app) = inner.upgrade() {
            if app.pool.limits.most == 0 {
                return;
            }
            if let Err(problem) = app.recall_demand().await {
                tracing::warn!(%problem, "the pool does not know which repositories are in use");
            }
        }
        loop {
            let Some(app) = inner.upgrade() else { return };
            let tended = if app.pool.is_on() { app.tend_pool().await } else { Ok(()) };
            if let Err(problem) = tended {
                tracing::warn!(%problem, "the pool could not be looked after");
            }
            let pool = Arc::clone(&app.pool);
            drop(app);
            if tokio::time::timeout(EVERY, pool.wake.notified()).await.is_ok() {
                // Whoever took an entry is about to run its first command: the next entry does not compete with it.
                tokio::time::sleep(SESSIONS_FIRST).await;
            }
        }
    }

    /// After a start, the session index says what is in use.
    async fn recall_demand(&self) -> Result<()> {
        let since_ms = self.now_ms() - DAY_MS;
        let sessions = self.directory.sessions(Onlooker::All, None, Archived::Shown, SESSIONS_READ).await?;
        let used = sessions.into_iter().map(|session| (session.repository, session.created_at_ms));
        let added = self.directory.repositories().await?.into_iter().map(|row| (row.id, row.added_at_ms));
        for (repository, at_ms) in used.chain(added).filter(|(_, at_ms)| *at_ms >= since_ms) {
            self.pool_used(repository, at_ms);
        }
        Ok(())
    }

    /// Somebody will need a sandbox of this repository: it was added, or a prompt is being written.
    pub(crate) fn pool_used(&self, repository: RepositoryId, at_ms: i64) {
        self.pool.with(|state| state.demand.entry(repository).or_default().used(at_ms));
    }

    /// A repository is removed, or has a new image: what was made for it is of no use.
    pub(crate) fn pool_forgets(self: &Arc<Self>, repository: RepositoryId) {
        let numbers: Vec<u64> = self.pool.with(|state| {
            state.demand.remove(&repository);
            let of_it = state.entries.iter().filter(|(_, entry)| entry.repository == repository);
            of_it.map(|(number, _)| *number).collect()
        });
        numbers.into_iter().for_each(|number| self.end_entry(number));
    }

    /// Sessions need places: at most `places` entries stay. Reserved ones go last.
    pub(crate) fn pool_yields(self: &Arc<Self>, places: usize) {
        let mut seen = self.seen();
        let surplus = seen.len().saturating_sub(places);
        seen.sort_by_key(|seen| (seen.is_reserved, seen.number));
        seen.into_iter().take(surplus).for_each(|seen| self.end_entry(seen.number));
    }

    fn seen(&self) -> Vec<Seen> {
        self.pool.with(|state| {
            let seen = |(number, entry): (&u64, &mut super::Entry)| {
                if entry.reserved.is_some_and(|reserved| reserved.is_over()) {
                    entry.reserved = None;
                }
                Seen {
                    number: *number,
                    repository: entry.repository,
                    branch: entry.branch.clone(),
                    image: entry.image,
                    is_preparing: entry.is_preparing(),
                    commit: entry.warm().map(|warm| warm.commit().clone()),
                    is_reserved: entry.reserved.is_some(),
                    age: entry.made_at.elapsed(),
                }
            };
            state.entries.iter_mut().map(seen).collect()
        })
    }

    async fn tend_pool(self: &Arc<Self>) -> Result<()> {
        self.tend_under(pressure().await).await
    }

    pub(super) async fn tend_under(self: &Arc<Self>, pressure: Pressure) -> Result<()> {
        let facts = self.facts().await?;
        let kept = self.end_stale(&facts);
        for seen in &kept {
            let head = facts.get(&seen.repository).and_then(|facts| facts.heads.get(&seen.branch));
            let is_behind =
                matches!((&seen.commit, head), (Some(commit), Some(Some(head))) if commit != head);
            if is_behind {
                self.follow_again(seen.number);
            }
        }
        self.even_out(&facts, kept, pressure).await
    }

    /// Of every repository that is used or has entries.
    async fn facts(&self) -> Result<HashMap<RepositoryId, Facts>> {
        let mut branches: HashMap<RepositoryId, Vec<BranchName>> =
            self.pool.with(|state| state.demand.keys().map(|repository| (*repository, vec![])).collect());
        for seen in self.seen() {
            branches.entry(seen.repository).or_default().push(seen.branch);
        }
        let mut all = HashMap::new();
        for (repository, mut branches) in branches {
            let Some(row) = self.directory.repository(repository).await? else { continue };
            branches.sort_unstable();
            branches.dedup();
            let mut heads = HashMap::new();
            for branch in branches {
                let head = self.forge.branch_head(repository, &branch).await?;
                heads.insert(branch, head);
            }
            let image = self.newest_image(repository).await?;
            all.insert(repository, Facts { row, image, heads });
        }
        Ok(all)
    }

    /// Ends what can never be offered again; answers what is left.
    fn end_stale(self: &Arc<Self>, facts: &HashMap<RepositoryId, Facts>) -> Vec<Seen> {
        let is_stale = |seen: &Seen| match facts.get(&seen.repository) {
            None => true,
            Some(facts) => {
                facts.image != Some(seen.image)
                    || matches!(facts.heads.get(&seen.branch), Some(None))
                    || (seen.age > LONGEST_LIFE && !seen.is_reserved && !seen.is_preparing)
            }
        };
        let (stale, kept): (Vec<_>, Vec<_>) = self.seen().into_iter().partition(is_stale);
        stale.into_iter().for_each(|seen| self.end_entry(seen.number));
        kept
    }

    /// Begins what is missing and ends what is too much. Reserved entries count against the places, not the wishes.
    async fn even_out(
        self: &Arc<Self>,
        facts: &HashMap<RepositoryId, Facts>,
        kept: Vec<Seen>,
        pressure: Pressure,
    ) -> Result<()> {
        let (now, now_ms, limits) = (Instant::now(), self.now_ms(), self.pool.limits);
        let wants = self.pool.with(|state| {
            let want = |(repository, demand): (&RepositoryId, &super::Demand)| Want {
                key: *repository,
                wanted: demand.wanted(now_ms, limits.floor, limits.cap),
                weight: demand.weight_at(now_ms),
            };
            state.demand.iter().map(want).collect::<Vec<_>>()
        });
        let reserved = kept.iter().filter(|seen| seen.is_reserved).count();
        let free = self.config.max_sandboxes.saturating_sub(self.workspaces.count());
        let places = limits.most.min(free).saturating_sub(reserved);
        let shares: HashMap<RepositoryId, usize> = allot(wants, places).into_iter().collect();
        let preparing = kept.iter().filter(|seen| seen.is_preparing).count();
        let mut room = AT_ONCE.saturating_sub(preparing);
        for (repository, facts) in facts {
            let share = shares.get(repository).copied().unwrap_or(0);
            let is_default = |seen: &&Seen| seen.branch == facts.row.default_branch;
            let own = kept.iter().filter(|seen| seen.repository == *repository && !seen.is_reserved);
            let (usable, other): (Vec<_>, Vec<_>) = own.partition(is_default);
            // A reservation that was given back is of use on the default branch only.
            let surplus = usable.iter().take(usable.len().saturating_sub(share)).chain(&other);
            surplus.for_each(|seen| self.end_entry(seen.number));
            let failed = self.pool.with(|state| state.failed.get(repository).copied());
            let may_try = failed.is_none_or(|(until, _)| until <= now);
            let Some(image) = facts.image.filter(|_| pressure == Pressure::None && may_try) else { continue };
            for _ in usable.len()..share {
                if room == 0 {
                    break;
                }
                room -= 1;
                let manifest = self.manifest(image).await?;
                let (repository, branch) = (facts.row.clone(), facts.row.default_branch.clone());
                self.begin_entry(Making { repository, branch, manifest, reserved: None });
            }
        }
        if pressure == Pressure::Severe {
            self.pool_yields(self.pool.count().saturating_sub(1));
        }
        Ok(())
    }
}
