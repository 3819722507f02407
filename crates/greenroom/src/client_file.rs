//! `client.toml`: the servers a person signed in to, with a token for each. Readable by its owner only; a token is
//! sent to the server it came from and to no other.

use crate::exit::Failure;
use greenroom_client::Address;
use greenroom_domain::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientFile {
    /// Used where neither `--server` nor `GREENROOM_SERVER` names one: the last one signed in to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// By address.
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, String>,
}

impl ClientFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(invalid(path, &error.to_string(), "Make it readable, or remove it.").into());
            }
        };
        if fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0) {
            let hint = format!("chmod 600 {}", path.display());
            return Err(invalid(path, "others can read it, and it holds tokens", &hint).into());
        }
        toml::from_str(&text).map_err(|error| {
            invalid(path, error.message(), "Correct it, or remove it and sign in again.").into()
        })
    }

    pub(crate) fn token(&self, server: &Address) -> Option<&String> {
        self.tokens.get(&server.to_string())
    }

    /// Written beside and renamed: whoever reads sees the old file or the new one.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).expect("strings in tables are TOML");
        let save = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let beside: PathBuf = path.with_extension(format!("toml.{}", std::process::id()));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        save().map_err(|error| {
            invalid(
                path,
                &error.to_string(),
                "The token is not kept; GREENROOM_TOKEN works without the file.",
            )
            .into()
        })
    }
}

fn invalid(path: &Path, what: &str, hint: &str) -> Problem {
    Problem::new(ErrorCode::SettingsInvalid, format!("{}: {what}.", path.display())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_private_and_keeps_a_token_per_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("greenroom/client.toml");
        let server: Address = "http://127.0.0.1:7878".parse().unwrap();
        let mut file = ClientFile::read(&path).unwrap_or_default();
        file.tokens.insert(server.to_string(), "grt_1".to_owned());
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let file = ClientFile::read(&path).unwrap();
        assert_eq!(file.token(&server).map(String::as_str), Some("grt_1"));
        assert_eq!(file.token(&"http://127.0.0.1:7879".parse().unwrap()), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let Err(Failure::Problem(problem)) = ClientFile::read(&path).map(|_| ()) else { panic!("accepted") };
        assert_eq!(problem.code, ErrorCode::SettingsInvalid);
    }
}
