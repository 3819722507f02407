//! Copying with digests, and taking what never changes from the backup before.

use crate::manifest::{Manifest, StoredFile};
use crate::{Result, io, sql};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PIECE: usize = 256 * 1024;
/// A writer of the server holds a file only for its transaction.
const BUSY: Duration = Duration::from_secs(30);

/// A backup that is being written.
pub(crate) struct Target<'a> {
    pub(crate) root: &'a Path,
    pub(crate) before: Option<(PathBuf, &'a Manifest)>,
    pub(crate) files: Vec<StoredFile>,
}

/// Whether the file may be the one of the backup before, without a look into it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Named by its content: the same name and size is the same file.
    Immutable,
    Changing,
}

impl Target<'_> {
    /// Copies one file to the same place of the backup. `false`: it is gone.
    pub(crate) fn copy(&mut self, data: &Path, path: &str, kind: Kind) -> Result<bool> {
        let from = data.join(path);
        let bytes = match fs::symlink_metadata(&from) {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io("reading", &from)(error)),
        };
        if kind == Kind::Immutable && self.take_from_before(path, |known| known.bytes == bytes)? {
            return Ok(true);
        }
        let to = self.place(path)?;
        match copy(&from, &to) {
            Ok((bytes, sha256)) => {
                self.files.push(StoredFile { path: path.to_owned(), bytes, sha256 });
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io("copying", &from)(error)),
        }
    }

    /// Links the file of the backup before where it is the wanted one. A link costs no room.
    pub(crate) fn take_from_before(
        &mut self,
        path: &str,
        is_it: impl Fn(&StoredFile) -> bool,
    ) -> Result<bool> {
        let Some((directory, manifest)) = &self.before else { return Ok(false) };
        let known = manifest.files.binary_search_by(|file| file.path.as_str().cmp(path));
        let Some(known) = known.ok().map(|at| manifest.files[at].clone()).filter(is_it) else {
            return Ok(false);
        };
        let from = directory.join(path);
        let to = self.place(path)?;
        // Gone, or the disk takes no more links to it: it is copied then.
        if fs::hard_link(from, to).is_err() {
            return Ok(false);
        }
        self.files.push(known);
        Ok(true)
    }

    /// Copies a database as it is at one instant, while others write to it.
    pub(crate) fn copy_database(&mut self, data: &Path, path: &str) -> Result<bool> {
        let from = data.join(path);
        if !from.exists() {
            return Ok(false);
        }
        let to = self.place(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(&from, flags).map_err(sql(&from))?;
        source.busy_timeout(BUSY).map_err(sql(&from))?;
        let name = to.to_string_lossy().into_owned();
        source.execute("VACUUM INTO ?", [name]).map_err(sql(&from))?;
        restrict(&to).map_err(io("closing to others", &to))?;
        Ok(true)
    }

    /// Once a database's copy is as it is to stay.
    pub(crate) fn record(&mut self, path: &str) -> Result<()> {
        let (bytes, sha256) = digest(&self.root.join(path)).map_err(io("reading", Path::new(path)))?;
        self.files.push(StoredFile { path: path.to_owned(), bytes, sha256 });
        Ok(())
    }

    pub(crate) fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let to = self.place(path)?;
        new_file(&to).and_then(|mut file| file.write_all(text.as_bytes())).map_err(io("writing", &to))?;
        self.record(path)
    }

    pub(crate) fn place(&self, path: &str) -> Result<PathBuf> {
        let to = self.root.join(path);
        let directory = to.parent().unwrap_or(self.root);
        make_directory(directory).map_err(io("making", directory))?;
        Ok(to)
    }
}

pub(crate) fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Bytes, and the digest of what was copied.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<(u64, String)> {
    let source = File::open(from)?;
    let mut target = new_file(to)?;
    read_through(source, |piece| target.write_all(piece))
}

pub(crate) fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    read_through(File::open(path)?, |_| Ok(()))
}

fn read_through(
    mut source: File,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(u64, String)> {
    let mut piece = vec![0; PIECE];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        let read = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..read]);
        each(&piece[..read])?;
        bytes += read as u64;
    }
    Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Plain files below a directory, as paths below `data`, without following links. One that is gone has none.
pub(crate) fn walk(data: &Path, directory: &str) -> Result<Vec<String>> {
    let (mut found, mut waiting) = (vec![], vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        let path = data.join(&directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io("reading", &path)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(io("reading", &path))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let below = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if kind.is_dir() {
                waiting.push(below);
            } else if kind.is_file() {
                found.push(below);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Changes whenever one of these files is written.
pub(crate) fn stamp(paths: &[PathBuf]) -> String {
    let each = paths.iter().map(|path| match fs::metadata(path) {
        Ok(found) => format!("{}.{:09}/{}", found.mtime(), found.mtime_nsec(), found.len()),
        Err(_) => "-".to_owned(),
    });
    each.collect::<Vec<_>>().join(" ")
}

/// What was written so far is on the disk when this returns.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|file| Ok(rustix::fs::syncfs(file)?));
    synced.map_err(io("syncing", directory))
}
