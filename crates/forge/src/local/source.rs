//! What a repository is imported from: a path or a URL, parsed once. Credentials of a URL are taken out of it here and
//! never become part of a command line, a configuration, a database or an error.

use greenroom_domain::{ErrorCode, Problem};
use std::path::{Path, PathBuf};
use url::Url;

const SCHEMES: &[&str] = &["http", "https", "ssh", "git", "file"];

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    /// `https://host:port`: the only place they may be sent to.
    pub(crate) origin: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Path(PathBuf),
    Url { url: String, credentials: Option<Credentials> },
}

impl Source {
    /// A directory, an `http`, `https`, `ssh`, `git` or `file` URL, or `user@host:path`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() || text.len() > 4096 || text.starts_with('-') || text.contains(char::is_control) {
            return Err(refused("The source is not a path or URL that git can clone."));
        }
        if text.contains("://") {
            return Self::parse_url(text);
        }
        match text.split_once(':') {
            // `ext::`, `fd::` and every other transport helper: they run programs.
            Some((_, rest)) if rest.starts_with(':') => {
                Err(refused("Transport helpers (such as ext::) are not allowed as a source."))
            }
            Some((host, _)) if !host.contains('/') => Self::parse_scp_like(text, host),
            _ => Ok(Self::Path(text.into())),
        }
    }

    fn parse_scp_like(text: &str, host: &str) -> Result<Self, Problem> {
        let name = host.rsplit_once('@').map_or(host, |(_, name)| name);
        if name.is_empty() || name.starts_with('-') || host.starts_with('-') {
            return Err(refused("The host of the source is not valid."));
        }
        Ok(Self::Url { url: text.to_owned(), credentials: None })
    }

    fn parse_url(text: &str) -> Result<Self, Problem> {
        // The parser's own message could repeat the URL and its password.
        let mut url = Url::parse(text).map_err(|_| refused("The source is not a valid URL."))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(refused(&format!("URLs of the scheme {}: cannot be cloned.", url.scheme())));
        }
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| refused("The file URL names no local path."))?;
            return Ok(Self::Path(path));
        }
        if url.host_str().is_none_or(|host| host.is_empty() || host.starts_with('-')) {
            return Err(refused("The URL names no valid host."));
        }
        let credentials = take_credentials(&mut url);
        Ok(Self::Url { url: url.into(), credentials })
    }

    /// As git gets it, without credentials; also what people are shown.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Url { url, .. } => url.clone(),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url { .. } => None,
        }
    }
}

/// User and password of http(s); of ssh only the password goes (the user is part of the address there).
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (username, password) = (decode(url.username()), decode(url.password().unwrap_or_default()));
    let _ = url.set_password(None);
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let _ = url.set_username("");
    url.set_fragment(None);
    if username.is_empty() && password.is_empty() {
        return None;
    }
    Some(Credentials { username, password, origin: url.origin().ascii_serialization() })
}

fn refused(message: &str) -> Problem {
    Problem::new(ErrorCode::CloneFailed, message)
        .hint("Give a directory, or a URL that begins with https://, http://, ssh://, git:// or file://.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let source = Source::parse("https://ann:s3cr%40t@git.example.com:8443/a/b.git").unwrap();
        assert_eq!(source.location(), "https://git.example.com:8443/a/b.git");
        assert!(!format!("{source:?}").contains("s3cr"));
        let Source::Url { credentials: Some(found), .. } = source else { panic!("no credentials") };
        assert_eq!((found.username.as_str(), found.password.as_str()), ("ann", "s3cr@t"));
        assert_eq!(found.origin, "https://git.example.com:8443");
    }

    #[test]
    fn a_token_given_as_user_leaves_the_url_too() {
        let source = Source::parse("https://ghp_token@example.com/a.git").unwrap();
        assert!(!source.location().contains("ghp_token"));
    }

    #[test]
    fn sources_that_run_programs_are_refused() {
        for bad in [
            "ext::sh -c touch% x",
            "ext::https://x/",
            "fd::7",
            "-uhttps://x",
            "",
            "a\nb",
            "ftp://example.com/x",
            "ext://example.com/x",
            "-oProxyCommand=x:path",
            "ssh://-oProxyCommand=x/y",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_and_ssh_addresses_are_told_apart() {
        assert_eq!(Source::parse("/srv/a:b").unwrap(), Source::Path("/srv/a:b".into()));
        assert_eq!(Source::parse("file:///srv/a%20b").unwrap(), Source::Path("/srv/a b".into()));
        let ssh = Source::parse("git@example.com:team/project.git").unwrap();
        assert_eq!(ssh.location(), "git@example.com:team/project.git");
        assert_eq!(
            Source::parse("ssh://git:pw@example.com/x").unwrap().location(),
            "ssh://git@example.com/x"
        );
    }
}
