//! Secrets of the installation, encrypted at rest. The key lies beside the database in a file of its own that only the
//! serving user can read, so a copy of the database alone is worth nothing. Each secret is sealed under its name: a row
//! that is moved to another name does not open. Owns no policy: who may ask for what is decided in `app`. Blocking, and
//! quick enough to be called under `spawn_blocking` one at a time.

mod key;
mod secret;
mod store;

pub use secret::Secret;

use chacha20poly1305::{
    AeadCore, KeyInit, XChaCha20Poly1305,
    aead::{Aead, OsRng, Payload},
};
use greenroom_domain::{ErrorCode, Problem};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use store::{Sealed, Store};

const LONGEST_NAME: usize = 200;
const LARGEST_SECRET: usize = 64 * 1024;
/// A row of our own, by which a wrong key is noticed when the vault is opened and not when a secret is needed.
const KEY_CHECK: &str = "\u{1}key-check";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the vault's database: {0}")]
    Database(String),
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    KeyExposed { path: PathBuf, mode: u32 },
    #[error("{} does not hold a key of 32 bytes; put the right file back", path.display())]
    KeyInvalid { path: PathBuf },
    #[error("the vault holds secrets but its key {} is missing; put the file back", path.display())]
    KeyMissing { path: PathBuf },
    #[error("{} is not the key that this vault was written with; put the right file back", path.display())]
    WrongKey { path: PathBuf },
    #[error("the secret {name:?} was changed outside of Greenroom and cannot be read; set it again")]
    Tampered { name: String },
    #[error("invalid secret: {reason}")]
    Invalid { reason: &'static str },
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(ErrorCode::DiskFull, "The disk of the vault is full.").hint("Free some space.")
            }
            Error::Io { .. } | Error::Database(_) => {
                Self::new(ErrorCode::Internal, format!("The vault cannot be used: {error}."))
            }
            Error::Tampered { .. } | Error::Invalid { .. } => {
                Self::new(ErrorCode::InvalidRequest, format!("The secret cannot be used: {error}."))
            }
            _ => Self::new(ErrorCode::SettingsInvalid, format!("The vault cannot be opened: {error}.")),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The open vault of a data directory.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    store: Mutex<Store>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Opens or makes `vault.db` and `vault.key`. Refuses a key that others can read, and one that does not fit.
    pub fn open(data: &Path) -> Result<Self> {
        let path = data.join("vault.key");
        let store = Store::open(&data.join("vault.db"))?;
        let key = match key::read(&path)? {
            Some(key) => key,
            None if !store.is_empty()? => return Err(Error::KeyMissing { path }),
            None => key::create(&path)?,
        };
        let vault = Self { cipher: XChaCha20Poly1305::new((&*key).into()), store: Mutex::new(store) };
        vault.check_key(path)?;
        Ok(vault)
    }

    /// Adds or replaces.
    pub fn put(&self, name: &str, secret: &Secret) -> Result<()> {
        check_name(name)?;
        if secret.expose().len() > LARGEST_SECRET {
            return Err(Error::Invalid { reason: "a secret has at most 64 KiB" });
        }
        let sealed = self.seal(name, secret.expose());
        self.store().put(name, &sealed)
    }

    pub fn get(&self, name: &str) -> Result<Option<Secret>> {
        check_name(name)?;
        let sealed = self.store().get(name)?;
        sealed.map(|sealed| self.unseal(name, &sealed)).transpose()
    }

    /// Lends the secret to one operation; its copy is overwritten afterwards.
    pub fn with<T>(&self, name: &str, operation: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.get(name)?.map(|secret| operation(secret.expose())))
    }

    /// Whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        check_name(name)?;
        self.store().remove(name)
    }

    /// Names, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.store().names()?.into_iter().filter(|name| name != KEY_CHECK).collect())
    }

    fn check_key(&self, path: PathBuf) -> Result<()> {
        let found = self.store().get(KEY_CHECK)?;
        match found.map(|sealed| self.unseal(KEY_CHECK, &sealed)) {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => Err(Error::WrongKey { path }),
            None => {
                let sealed = self.seal(KEY_CHECK, b"");
                self.store().put(KEY_CHECK, &sealed)
            }
        }
    }

    fn seal(&self, name: &str, secret: &[u8]) -> Sealed {
        // 192 random bits: never repeated by chance, so no counter has to be kept.
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let text = self.cipher.encrypt(&nonce, payload).expect("64 KiB are far below the cipher's limit");
        Sealed { nonce: nonce.to_vec(), text }
    }

    fn unseal(&self, name: &str, sealed: &Sealed) -> Result<Secret> {
        let tampered = || Error::Tampered { name: name.to_owned() };
        let nonce: [u8; 24] = sealed.nonce.as_slice().try_into().map_err(|_| tampered())?;
        let payload = Payload { msg: &sealed.text, aad: name.as_bytes() };
        self.cipher.decrypt((&nonce).into(), payload).map(Secret::from).map_err(|_| tampered())
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_control) {
        return Err(Error::Invalid { reason: "a name has 1 to 200 bytes and no control characters" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const CANARY: &str = "canary-3b7f-plaintext";

    fn filled() -> (tempfile::TempDir, Vault) {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path()).unwrap();
        vault.put("model/key", &Secret::from(CANARY)).unwrap();
        (directory, vault)
    }

    #[test]
    fn a_secret_comes_back_after_reopening() {
        let (directory, vault) = filled();
        drop(vault);
        let vault = Vault::open(directory.path()).unwrap();
        assert_eq!(vault.get("model/key").unwrap().unwrap().expose(), CANARY.as_bytes());
        assert_eq!(vault.with("model/key", <[u8]>::len).unwrap(), Some(CANARY.len()));
        assert_eq!(vault.names().unwrap(), ["model/key"]);
        vault.put("model/key", &Secret::from("other")).unwrap();
        assert_eq!(vault.get("model/key").unwrap().unwrap().text(), Some("other"));
        assert!(vault.remove("model/key").unwrap());
        assert!(!vault.remove("model/key").unwrap());
        assert!(vault.get("model/key").unwrap().is_none());
    }

    #[test]
    fn no_file_holds_the_plaintext() {
        let (directory, vault) = filled();
        let holds = || {
            let files = std::fs::read_dir(directory.path()).unwrap();
            let mut texts = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
            texts.any(|text| text.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()))
        };
        assert!(!holds(), "with the write-ahead log");
        drop(vault);
        assert!(!holds(), "after closing");
    }

    #[test]
    fn nothing_printed_shows_the_secret() {
        let (_directory, vault) = filled();
        let secret = vault.get("model/key").unwrap().unwrap();
        assert!(!format!("{secret:?} {vault:?}").contains("canary"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let (directory, vault) = filled();
        drop(vault);
        let path = directory.path().join("vault.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Vault::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_wrong_or_lost_key_is_told_apart() {
        let (directory, vault) = filled();
        drop(vault);
        let path = directory.path().join("vault.key");
        let right = std::fs::read(&path).unwrap();
        std::fs::write(&path, [7; 32]).unwrap();
        assert!(matches!(Vault::open(directory.path()).unwrap_err(), Error::WrongKey { .. }));
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(Vault::open(directory.path()).unwrap_err(), Error::KeyInvalid { .. }));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Vault::open(directory.path()).unwrap_err(), Error::KeyMissing { .. }));
        assert!(!path.exists(), "no new key hides the loss");
        std::fs::write(&path, right).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(Vault::open(directory.path()).is_ok());
    }

    #[test]
    fn a_changed_or_moved_row_does_not_open() {
        let (directory, vault) = filled();
        vault.put("other", &Secret::from("x")).unwrap();
        let database = rusqlite::Connection::open(directory.path().join("vault.db")).unwrap();
        let swap = "UPDATE secret SET (nonce, text) = (SELECT nonce, text FROM secret WHERE name = 'other') \
            WHERE name = 'model/key'";
        database.execute(swap, []).unwrap();
        assert!(matches!(vault.get("model/key").unwrap_err(), Error::Tampered { .. }));
        database.execute("UPDATE secret SET text = x'00' WHERE name = 'other'", []).unwrap();
        assert!(matches!(vault.get("other").unwrap_err(), Error::Tampered { .. }));
    }

    #[test]
    fn impossible_names_and_sizes_are_refused() {
        let (_directory, vault) = filled();
        let large = Secret::from(vec![0; LARGEST_SECRET + 1]);
        for (name, secret) in [("", "x"), (KEY_CHECK, "x"), ("a\nb", "x")] {
            assert!(vault.put(name, &Secret::from(secret)).is_err(), "{name:?}");
        }
        assert!(vault.put("a", &large).is_err());
        assert!(vault.put("a", &Secret::from("")).is_ok());
    }
}
