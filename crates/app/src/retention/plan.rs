//! What a pass would do: the same rules, asked of the directory and of what is in memory. Opening a session would write to
//! its file, so none is.

use super::{EXPIRING, PAGE, Pass};
use crate::{Inner, Result};
use greenroom_domain::retention::due_before_ms;
use greenroom_wire::{RetentionReport, RetiredSession, RetiredSessions, RowKind};
use std::sync::Arc;

/// Sessions that a plan names.
const LISTED: usize = 200;

impl Inner {
    pub(super) async fn plan_retention(self: &Arc<Self>) -> Result<RetentionReport> {
        let (settings, now) = (self.config.retention, self.now_ms());
        let mut pass = Pass::new(now);
        pass.report.is_plan = true;
        if let Some(before) = due_before_ms(settings.archive_idle_days, now) {
            pass.report.archived = self.look_through(&mut pass, false, before).await?;
        }
        if let Some(before) = due_before_ms(settings.delete_archived_days, now) {
            pass.report.deleted = self.look_through(&mut pass, true, before).await?;
        }
        for (kind, expiring) in EXPIRING {
            if let Some(before) = self.rows_due_before(expiring) {
                pass.add_rows(kind, self.directory.count_expired(expiring, before).await?);
            }
        }
        pass.add_rows(
            RowKind::Leftovers,
            self.directory.count_leftovers(now, self.deleted_but_there().await?).await?,
        );
        let (builds, bytes) = self.old_failed_builds().await?;
        pass.report.failed_builds = builds.len() as u64;
        pass.report.failed_builds_bytes = bytes;
        Ok(pass.end())
    }

    async fn look_through(
        self: &Arc<Self>,
        pass: &mut Pass,
        is_archived: bool,
        before_ms: i64,
    ) -> Result<RetiredSessions> {
        let (mut found, mut behind) = (RetiredSessions::default(), None);
        loop {
            let page = self.directory.resting_sessions(is_archived, before_ms, behind, PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            behind = Some((last.updated_at_ms, last.id));
            for row in page {
                if let Some(by) = self.kept_by_line(&row, before_ms).await? {
                    pass.keep(by);
                    continue;
                }
                let bytes = if is_archived { self.bytes_of_session(row.id).await? } else { 0 };
                found.sessions += 1;
                found.bytes += bytes;
                if found.listed.len() < LISTED {
                    found.listed.push(RetiredSession {
                        session: row.id,
                        repository: row.repository_name,
                        title: row.title,
                        rests_since_ms: row.updated_at_ms,
                        bytes,
                    });
                }
            }
        }
    }
}
