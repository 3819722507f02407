//! `greenroom backup …`: on the data directory's files, without a server.

use crate::cli::{Backup, BackupPlace, Global};
use crate::connection::data_dir;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::table::Table;
use greenroom_backup::{self as backups, Error, Manifest, Wanted};
use greenroom_domain::{ErrorCode, Problem};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is said of a backup, in a line or as JSON.
#[derive(Debug, Serialize)]
struct BackupView {
    path: PathBuf,
    began_at_ms: i64,
    took_ms: i64,
    version: String,
    has_key: bool,
    sessions: usize,
    repositories: usize,
    files: usize,
    bytes: u64,
    /// Where it was looked for; empty: it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<String>>,
}

pub(crate) fn backup(global: &Global, verb: Backup) -> Result<Exit, Failure> {
    let (data, out) = (data_dir(global.data.as_deref()), Output::new(global.json));
    match verb {
        Backup::Create { place, with_key, keep } => {
            let to = place_of(&place, &data);
            let wanted = Wanted { data: &data, to: &to, with_key, version: env!("CARGO_PKG_VERSION") };
            let made = backups::create(&wanted).map_err(problem)?;
            if let Some(keep) = keep {
                backups::remove_beyond(&to, keep.get() as usize, false).map_err(problem)?;
            }
            out.document(&view(made.path, &made.manifest, None), |view| {
                format!("Backed up to {}: {}.\n", view.path.display(), contents(view))
            })?;
        }
        Backup::List { place } => list(&place_of(&place, &data), out)?,
        Backup::Verify { backup, place } => {
            let path = backups::find(&place_of(&place, &data), &backup).map_err(problem)?;
            let verified = backups::verify(&path).map_err(problem)?;
            if !verified.problems.is_empty() {
                return Err(problem(Error::Damaged { problems: verified.problems }).into());
            }
            out.document(&view(path, &verified.manifest, Some(verified.problems)), |view| {
                format!("{} is whole: {}.\n", view.path.display(), contents(view))
            })?;
        }
        Backup::Restore { backup, key } => {
            let restored = backups::restore(&backup, &data, key.as_deref()).map_err(problem)?;
            out.document(&view(data.clone(), &restored.manifest, None), |view| {
                format!("{} is restored: {}.\n", view.path.display(), contents(view))
            })?;
            if restored.lacks_key {
                out.progress(&format!(
                    "The vault's key is not in the backup: put your copy to {} (mode 0600) before the server starts.\n",
                    data.join("vault.key").display()
                ));
            }
        }
    }
    Ok(Exit::Done)
}

fn list(place: &Path, out: Output) -> Result<(), Failure> {
    let mut views = vec![];
    for known in backups::list(place).map_err(problem)? {
        match known.manifest {
            Ok(manifest) => views.push(view(known.path, &manifest, None)),
            Err(error) => out.progress(&format!("Passed over: {error}.\n")),
        }
    }
    out.document(&views, |views| {
        let head = ["BACKUP", "SESSIONS", "REPOSITORIES", "MIB", "KEY"];
        let table = Table::new(&head, "No backup yet: greenroom backup create").rows(views, |view| {
            let name = view.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mib = format!("{:.1}", view.bytes as f64 / 1_048_576.0);
            let key = if view.has_key { "yes" } else { "no" };
            vec![name, view.sessions.to_string(), view.repositories.to_string(), mib, key.to_owned()]
        });
        table.right(&[1, 2, 3]).text()
    })?;
    Ok(())
}

fn place_of(place: &BackupPlace, data: &Path) -> PathBuf {
    place.to.clone().unwrap_or_else(|| data.join("backups"))
}

fn view(path: PathBuf, manifest: &Manifest, problems: Option<Vec<String>>) -> BackupView {
    BackupView {
        path,
        began_at_ms: manifest.began_at_ms,
        took_ms: manifest.ended_at_ms - manifest.began_at_ms,
        version: manifest.version.clone(),
        has_key: manifest.has_key,
        sessions: manifest.sessions.len(),
        repositories: manifest.repositories.len(),
        files: manifest.files.len(),
        bytes: manifest.bytes(),
        problems,
    }
}

fn contents(view: &BackupView) -> String {
    let mib = view.bytes as f64 / 1_048_576.0;
    format!("{} sessions, {} repositories, {mib:.1} MiB", view.sessions, view.repositories)
}

fn problem(error: Error) -> Problem {
    let (code, hint) = match &error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            (ErrorCode::DiskFull, "Make room there, or choose another place with --to.")
        }
        Error::Io { .. } => {
            (ErrorCode::SettingsInvalid, "Run it as the server's user, and look at the path's rights.")
        }
        Error::Database { .. } | Error::Git { .. } => {
            (ErrorCode::Internal, "Run `greenroom doctor`; the data directory may be damaged.")
        }
        Error::NoBackup { .. } | Error::Manifest { .. } => {
            (ErrorCode::BackupUnusable, "`greenroom backup list` shows those that are whole.")
        }
        Error::Busy { .. } => (ErrorCode::DataInUse, "Wait for it to end."),
        Error::Mounted { .. } => (ErrorCode::SettingsInvalid, "Name a new directory below it with --data."),
        Error::NotEmpty { .. } => (ErrorCode::DataInUse, "Name a new directory with --data."),
        Error::NoData { .. } => (ErrorCode::SettingsInvalid, "Name the server's data directory with --data."),
        Error::Damaged { .. } => (ErrorCode::BackupUnusable, "Take an older one: `greenroom backup list`."),
    };
    let (message, detail) = match error {
        Error::Damaged { problems } => ("The backup is damaged.".to_owned(), Some(problems.join("\n"))),
        other => (format!("{other}."), None),
    };
    let message = first_upper(&message);
    let problem = Problem::new(code, message).hint(hint);
    match detail {
        Some(detail) => problem.detail(detail),
        None => problem,
    }
}

fn first_upper(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
