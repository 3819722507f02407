//! The key file: 32 random bytes, readable by the serving user alone, complete or absent.

use crate::{Error, Result};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::OsRng};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};
use zeroize::Zeroizing;

pub(crate) type Key = Zeroizing<[u8; 32]>;

/// `None` when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Key>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io("opening", path, source)),
    };
    let mode = file.metadata().map_err(|source| io("reading", path, source))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::KeyExposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    (&mut file).take(33).read_to_end(&mut bytes).map_err(|source| io("reading", path, source))?;
    let key: [u8; 32] =
        bytes.as_slice().try_into().map_err(|_| Error::KeyInvalid { path: path.to_owned() })?;
    Ok(Some(Zeroizing::new(key)))
}

/// Written under another name and linked into place, so that nobody ever sees half a key; of two programs that start at
/// once, the later one takes the key of the earlier.
pub(crate) fn create(path: &Path) -> Result<Key> {
    let key: [u8; 32] = XChaCha20Poly1305::generate_key(&mut OsRng).into();
    let key = Zeroizing::new(key);
    let fresh = path.with_extension(format!("key.{}", std::process::id()));
    write_synced(&fresh, &key).map_err(|source| io("writing", &fresh, source))?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh).map_err(|source| io("removing", &fresh, source))?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return read(path)?.ok_or_else(|| Error::KeyMissing { path: path.to_owned() });
        }
        Err(source) => return Err(io("linking", path, source)),
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|source| io("syncing", directory, source))?;
    Ok(key)
}

fn write_synced(path: &Path, key: &Key) -> std::io::Result<()> {
    // What a crash left under this name is not a key in use.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.as_slice())?;
    file.sync_all()
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation, path: path.to_owned(), source }
}
