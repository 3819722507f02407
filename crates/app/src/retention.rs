//! Retention: what goes by itself because it is old enough, in passes: one soon after the start, then one a day, and one
//! whenever an admin asks. A pass is bounded, looks at everything anew, and can end anywhere: the next goes on.
//!
//! Sessions are archived and deleted on the ways that people's archivings and deletions take, in the installation's name. `kept`
//! says which stay whatever their age. A plan is what a pass would do, found out without opening a session.

mod kept;
mod plan;
#[cfg(test)]
mod tests;

use crate::moments::Ending;
use crate::{App, Inner, Result, require};
use greenroom_directory::{Expiring, SessionRow};
use greenroom_domain::retention::due_before_ms;
use greenroom_domain::{ErrorCode, KeptBy, Person, Problem, Role, SessionId, SessionState};
use greenroom_wire::{KeptSessions, RetentionReport, RetentionView, RetiredRows, RetiredSessions, RowKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Mutex;

/// Sessions that one pass archives, and as many that it deletes.
const SESSIONS_AT_ONCE: u64 = 500;
/// Lines of the index that are read at a time.
const PAGE: u32 = 200;
/// Rows that go in one transaction: others write in between.
const ROWS_AT_ONCE: u32 = 1000;
/// Rows of one kind that go in one pass.
const MOST_ROWS: u64 = 200_000;
/// After the start, and after a pass that did not come to its end.
const SOON: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Added to a day, at most: servers that began together need not go on together.
const JITTER_S: u128 = 2 * 3600;

/// One at a time.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    turn: Mutex<()>,
}

impl App {
    /// What is kept for how long, and what the last pass did; for admins.
    pub async fn retention(&self, caller: &Person) -> Result<RetentionView> {
        require(caller, Role::Admin)?;
        let last = self.inner.directory.last_retention_pass().await?;
        Ok(RetentionView { settings: self.inner.config.retention, last })
    }

    /// What a pass would do now. Changes nothing, and wakes no session.
    pub async fn retention_plan(&self, caller: &Person) -> Result<RetentionReport> {
        require(caller, Role::Admin)?;
        self.inner.plan_retention().await
    }

    /// A pass, now; after the one that runs. It goes on when the caller goes away.
    pub async fn run_retention(&self, caller: &Person) -> Result<RetentionReport> {
        require(caller, Role::Admin)?;
        self.inner.may_begin()?;
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.retain().await }).await.map_err(|error| internal(&error))?
    }
}

impl Inner {
    /// Until the app is gone, or stops.
    pub(crate) async fn keep_retention(app: Weak<Self>) {
        let mut wait = SOON;
        loop {
            tokio::time::sleep(wait).await;
            let Some(inner) = app.upgrade() else { return };
            if inner.drain.is_draining() {
                return;
            }
            let passed = inner.retain().await;
            if let Err(problem) = &passed {
                tracing::warn!(%problem, "a pass of retention failed");
            }
            wait = match passed {
                Ok(report) if !report.is_complete => SOON,
                _ => DAY + Duration::from_secs((inner.clock.random() % JITTER_S) as u64),
            };
        }
    }

    /// One pass.
    pub(crate) async fn retain(self: &Arc<Self>) -> Result<RetentionReport> {
        let _one = self.retention.turn.lock().await;
        let (settings, now) = (self.config.retention, self.now_ms());
        let mut pass = Pass::new(now);
        self.finish_deletions().await;
        if let Some(before) = due_before_ms(settings.archive_idle_days, now) {
            pass.report.archived = self.go_through(&mut pass, false, before).await?;
        }
        if let Some(before) = due_before_ms(settings.delete_archived_days, now) {
            pass.report.deleted = self.go_through(&mut pass, true, before).await?;
        }
        self.remove_rows(&mut pass).await?;
        if self.goes_on(&mut pass) {
            let (builds, bytes) = self.old_failed_builds().await?;
            pass.report.failed_builds = builds.len() as u64;
            pass.report.failed_builds_bytes = bytes;
            self.remove_failed_builds(builds).await?;
        }
        let report = pass.end();
        self.directory.note_retention_pass(now, report.clone()).await?;
        tracing::info!(
            archived = report.archived.sessions,
            deleted = report.deleted.sessions,
            rows = report.rows.iter().map(|rows| rows.rows).sum::<u64>(),
            failed = report.failed,
            is_complete = report.is_complete,
            "a pass of retention ended"
        );
        Ok(report)
    }

    /// Sessions that rest for long enough: archives them, or deletes those that are.
    async fn go_through(
        self: &Arc<Self>,
        pass: &mut Pass,
        is_archived: bool,
        before_ms: i64,
    ) -> Result<RetiredSessions> {
        let (mut done, mut behind) = (RetiredSessions::default(), None);
        loop {
            let page = self.directory.resting_sessions(is_archived, before_ms, behind, PAGE).await?;
            let Some(last) = page.last() else { return Ok(done) };
            behind = Some((last.updated_at_ms, last.id));
            for row in page {
                if done.sessions >= SESSIONS_AT_ONCE {
                    pass.report.is_complete = false;
                    return Ok(done);
                }
                if !self.goes_on(pass) {
                    return Ok(done);
                }
                match self.retire(&row, before_ms).await {
                    Ok(Retired::Gone { bytes }) => {
                        done.sessions += 1;
                        done.bytes += bytes;
                    }
                    Ok(Retired::Kept(by)) => pass.keep(by),
                    Err(problem) => {
                        tracing::warn!(session = %row.id, %problem, "the session could not be retired");
                        pass.report.failed += 1;
                    }
                }
            }
        }
    }

    async fn retire(self: &Arc<Self>, row: &SessionRow, before_ms: i64) -> Result<Retired> {
        if let Some(by) = self.kept_by_line(row, before_ms).await? {
            return Ok(Retired::Kept(by));
        }
        if row.is_archived {
            self.delete_resting(row.id, before_ms).await
        } else {
            self.archive_resting(row.id, before_ms).await
        }
    }

    async fn archive_resting(self: &Arc<Self>, id: SessionId, before_ms: i64) -> Result<Retired> {
        let handle = self.sessions().get(id).await?;
        let (say, said) = tokio::sync::oneshot::channel();
        let app = Arc::clone(self);
        // What it decides on is what it is appended to.
        let decided = handle.decide(move |state| {
            let kept = state.kept_by(before_ms).or_else(|| app.kept_by_company(id));
            let events = if kept.is_none() { state.archived_by_itself() } else { vec![] };
            // Who asked waits for both.
            let _ = say.send(kept);
            Ok(events)
        });
        decided.await?;
        if let Some(by) = said.await.map_err(|error| internal(&error))? {
            return Ok(Retired::Kept(by));
        }
        self.end_sandbox(&handle, Ending::Parked, "the session was archived").await;
        Ok(Retired::Gone { bytes: 0 })
    }

    async fn delete_resting(self: &Arc<Self>, id: SessionId, before_ms: i64) -> Result<Retired> {
        let bytes = self.bytes_of_session(id).await?;
        // A copy that is being made is finished first.
        let track = self.snapshots.track(id);
        let one = track.turn.lock().await;
        let (say, said) = tokio::sync::oneshot::channel();
        let app = Arc::clone(self);
        let may = move |state: &SessionState| {
            let kept = match state.is_archived {
                true => state.kept_by(before_ms).or_else(|| app.kept_by_company(id)),
                false => Some(KeptBy::Use),
            };
            let _ = say.send(kept);
            kept.is_none()
        };
        if self.sessions().remove_if(id, may, self.part_with(id)).await? {
            drop(one);
            self.forget_session(id).await;
            tracing::info!(session = %id, "an archived session was deleted");
            return Ok(Retired::Gone { bytes });
        }
        let kept = said.await.map_err(|error| internal(&error))?;
        Ok(Retired::Kept(kept.unwrap_or(KeptBy::Use)))
    }

    /// Of whatever made them: a deletion whose last part failed, for want of room perhaps.
    async fn finish_deletions(self: &Arc<Self>) {
        let removed = self.directory.remembered_deletions().await.unwrap_or_default();
        for session in removed.into_iter().filter(|session| self.has_log(*session)) {
            if let Err(problem) = self.erase(session).await {
                tracing::warn!(%session, %problem, "the files of a deleted session are left over");
            }
        }
    }

    async fn remove_rows(&self, pass: &mut Pass) -> Result<()> {
        for (kind, expiring) in EXPIRING {
            let Some(before) = self.rows_due_before(expiring) else { continue };
            let remove = || self.directory.remove_expired(expiring, before, ROWS_AT_ONCE);
            self.remove_batches(pass, kind, remove).await?;
        }
        let now = self.now_ms();
        let left = self.deleted_but_there().await?;
        let remove = || self.directory.remove_leftovers(now, left.clone(), ROWS_AT_ONCE);
        self.remove_batches(pass, RowKind::Leftovers, remove).await
    }

    /// Deleted sessions of which files are left.
    async fn deleted_but_there(&self) -> Result<Vec<SessionId>> {
        let mut left = self.directory.remembered_deletions().await?;
        let sessions = self.config.data_dir.join("sessions");
        left.retain(|session| sessions.join(session.to_string()).symlink_metadata().is_ok());
        Ok(left)
    }

    async fn remove_batches<R>(
        &self,
        pass: &mut Pass,
        kind: RowKind,
        mut remove: impl FnMut() -> R,
    ) -> Result<()>
    where
        R: Future<Output = greenroom_directory::Result<u64>>,
    {
        let mut rows = 0;
        while self.goes_on(pass) {
            let removed = remove().await?;
            rows += removed;
            if removed == 0 {
                break;
            }
            if rows >= MOST_ROWS {
                pass.report.is_complete = false;
                break;
            }
        }
        pass.add_rows(kind, rows);
        Ok(())
    }

    /// The newest time that goes; `None`: none of them goes.
    fn rows_due_before(&self, what: Expiring) -> Option<i64> {
        let (settings, now) = (self.config.retention, self.now_ms());
        match what {
            Expiring::Statistics => due_before_ms(settings.statistics_days, now),
            Expiring::ShareLinks => due_before_ms(settings.share_links_days, now),
            // Expired, they are as unknown as what never was.
            Expiring::SignInLinks | Expiring::WebSessions => Some(now),
        }
    }

    fn goes_on(&self, pass: &mut Pass) -> bool {
        let is_draining = self.drain.is_draining();
        pass.report.is_complete &= !is_draining;
        !is_draining
    }
}

const EXPIRING: [(RowKind, Expiring); 4] = [
    (RowKind::Statistics, Expiring::Statistics),
    (RowKind::ShareLinks, Expiring::ShareLinks),
    (RowKind::SignIns, Expiring::SignInLinks),
    (RowKind::SignIns, Expiring::WebSessions),
];

enum Retired {
    Gone { bytes: u64 },
    Kept(KeptBy),
}

/// A report that is being written.
struct Pass {
    report: RetentionReport,
    kept: BTreeMap<KeptBy, u64>,
    rows: Vec<(RowKind, u64)>,
}

impl Pass {
    fn new(at_ms: i64) -> Self {
        let report = RetentionReport {
            at_ms,
            is_plan: false,
            is_complete: true,
            archived: RetiredSessions::default(),
            deleted: RetiredSessions::default(),
            kept: vec![],
            failed: 0,
            rows: vec![],
            failed_builds: 0,
            failed_builds_bytes: 0,
        };
        Self { report, kept: BTreeMap::new(), rows: vec![] }
    }

    fn keep(&mut self, by: KeptBy) {
        *self.kept.entry(by).or_default() += 1;
    }

    fn add_rows(&mut self, kind: RowKind, rows: u64) {
        match self.rows.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, known)) => *known += rows,
            None => self.rows.push((kind, rows)),
        }
    }

    fn end(self) -> RetentionReport {
        let kept = self.kept.into_iter().map(|(by, sessions)| KeptSessions { by, sessions });
        let rows = self.rows.into_iter().map(|(kind, rows)| RetiredRows { kind, rows });
        RetentionReport { kept: kept.collect(), rows: rows.collect(), ..self.report }
    }
}

fn internal(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::Internal, format!("Retention failed: {error}."))
}
