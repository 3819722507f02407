//! Backups at intervals, as settings say: each is made by a process of its own (`greenroom backup create`), so that a
//! large one takes nothing from the server but the disk.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// After one that failed.
const RETRY: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupSchedule {
    pub(crate) every: Duration,
    pub(crate) to: PathBuf,
    pub(crate) keep: u32,
}

/// Until the server stops; one that is being made then is ended, and leaves nothing that counts.
pub(crate) async fn back_up(data: PathBuf, schedule: BackupSchedule, stopping: CancellationToken) {
    let mut pause = until_due(&schedule, SystemTime::now());
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match create(&data, &schedule, &stopping).await {
            Ok(()) => schedule.every,
            Err(reason) => {
                tracing::error!(reason, "no backup was made");
                RETRY.min(schedule.every)
            }
        };
    }
}

/// Counted from the last that is there, so that restarts neither skip one nor add one.
fn until_due(schedule: &BackupSchedule, now: SystemTime) -> Duration {
    let known = greenroom_backup::list(&schedule.to).unwrap_or_default();
    let last = known.into_iter().filter_map(|known| known.manifest.ok()).map(|one| one.began_at_ms).max();
    let Some(last) = last.and_then(|last| u64::try_from(last).ok()) else { return Duration::ZERO };
    let due = UNIX_EPOCH + Duration::from_millis(last) + schedule.every;
    // A clock that was ahead then does not put it off for longer than that.
    due.duration_since(now).unwrap_or_default().min(schedule.every)
}

async fn create(
    data: &std::path::Path,
    schedule: &BackupSchedule,
    stopping: &CancellationToken,
) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--json", "backup", "create", "--keep", &schedule.keep.to_string()]);
    command.arg("--data").arg(data).arg("--to").arg(&schedule.to);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(|error| error.to_string())?;
    tokio::select! {
        () = stopping.cancelled() => Ok(()),
        ended = child.wait_with_output() => match ended {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_backup::{FILE_NAME, Manifest};

    #[test]
    fn a_clock_that_was_ahead_puts_a_backup_off_by_one_interval_at_most() {
        let to = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        let schedule = BackupSchedule { every: hour, to: to.path().to_owned(), keep: 1 };
        let now = UNIX_EPOCH + 1000 * hour;
        assert_eq!(until_due(&schedule, now), Duration::ZERO, "there is none");
        let made = |at: Duration| {
            let at_ms = i64::try_from(at.as_millis()).unwrap();
            let manifest = Manifest {
                format: 1,
                version: "test".into(),
                began_at_ms: at_ms,
                ended_at_ms: at_ms,
                has_key: false,
                sessions: vec![],
                repositories: vec![],
                files: vec![],
            };
            let path = to.path().join("2026-11-21T03-00-00Z");
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(FILE_NAME), serde_json::to_string(&manifest).unwrap()).unwrap();
        };
        made(1000 * hour - hour / 4);
        assert_eq!(until_due(&schedule, now), hour * 3 / 4);
        made(9000 * hour);
        assert_eq!(until_due(&schedule, now), hour);
    }
}
