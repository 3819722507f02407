//! Makes a bare repository: empty, or with the branches and tags of another. Everything happens in a directory beside
//! the final place, which appears by one rename; the source's URL is written nowhere.

use super::{
    git::{Git, Output},
    source::{Credentials, Source},
};
use crate::{Error, Result};
use greenroom_domain::{BranchName, ErrorCode, Problem};
use std::{path::Path, time::Duration};

const DEADLINE: Duration = Duration::from_secs(600);
const UPLOAD_PACK: &str = "git -c 'safe.directory=*' upload-pack";
/// Settings of the serving user that decide how a remote is reached. Nothing else of the environment is passed on.
const PASSED_ON: &[&str] = &[
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const CREDENTIAL_HELPER: &str =
    r#"!f() { echo "username=$GREENROOM_GIT_USERNAME"; echo "password=$GREENROOM_GIT_PASSWORD"; }; f"#;

const ALL: &[&str] = &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// What was tried, for whoever reads that it failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum CloneWords {
    Import,
    Refresh,
}

impl CloneWords {
    fn of(self, location: &str) -> String {
        match self {
            Self::Import => format!("{location} could not be cloned."),
            Self::Refresh => format!("New commits could not be fetched from {location}."),
        }
    }
}

/// Builds at `directory` (which must be new) and answers the default branch.
pub(crate) async fn import(directory: &Path, source: Option<&Source>) -> Result<BranchName> {
    init(directory).await?;
    let Some(source) = source else { return Ok(main_branch()) };
    fetch(directory, source, CloneWords::Import, &[], ALL).await?;
    let branch = match remote_head(directory, source).await? {
        Some(branch) => branch,
        None => likely_branch(directory).await?,
    };
    set_head(directory, &branch).await?;
    Ok(branch)
}

/// Which branch HEAD names, whether or not it exists yet.
pub(crate) async fn default_branch(repository: &Path) -> Result<BranchName> {
    let output = Git::at(repository).args(["symbolic-ref", "--short", "HEAD"]).success().await?;
    output.text().parse().map_err(|_| Error::Git { operation: "symbolic-ref".into(), output: output.text() })
}

async fn init(directory: &Path) -> Result<()> {
    let init = ["init", "--quiet", "--bare", "--template=", "--initial-branch=main"];
    Git::bare().args(init).args([directory]).success().await.map(drop)
}

async fn set_head(repository: &Path, branch: &BranchName) -> Result<()> {
    let target = format!("refs/heads/{branch}");
    Git::at(repository).args(["symbolic-ref", "HEAD", &target]).success().await.map(drop)
}

fn check_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    Err(Error::Refused(
        Problem::new(ErrorCode::CloneFailed, format!("There is no directory {}.", path.display()))
            .hint("Give the path of a git repository on the machine that serves Greenroom."),
    ))
}

/// Answers when the objects are here. `refspecs` with a `+` take whatever the source has.
pub(super) async fn fetch(
    directory: &Path,
    source: &Source,
    words: CloneWords,
    options: &[&str],
    refspecs: &[&str],
) -> Result<()> {
    if let Some(path) = source.path() {
        check_directory(path)?;
    }
    let fetch =
        ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap="];
    let git = reach(Git::at(directory), source).args(fetch).args(options);
    let git = with_upload_pack(git, source).args(["--"]).args([source.location()]);
    succeeded(source, words, git.args(refspecs).run().await).map(drop)
}

async fn remote_head(directory: &Path, source: &Source) -> Result<Option<BranchName>> {
    let git = reach(Git::at(directory), source).args(["ls-remote", "--quiet", "--symref"]);
    let git = with_upload_pack(git, source).args(["--"]).args([source.location()]).args(["HEAD"]);
    let output = succeeded(source, CloneWords::Import, git.run().await)?;
    let head = output.text();
    let named = head.lines().filter_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
    Ok(named.filter_map(|name| name.parse().ok()).next())
}

/// For a source whose HEAD names no branch.
async fn likely_branch(repository: &Path) -> Result<BranchName> {
    let list = ["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/"];
    let output = Git::at(repository).args(list).success().await?;
    let branches: Vec<BranchName> = output.text().lines().filter_map(|name| name.parse().ok()).collect();
    let preferred = ["main", "master"].iter().find_map(|name| branches.iter().find(|b| b.as_str() == *name));
    Ok(preferred.or(branches.first()).cloned().unwrap_or_else(main_branch))
}

fn reach(git: Git, source: &Source) -> Git {
    let git = PASSED_ON.iter().fold(git.deadline(DEADLINE), |git, name| match std::env::var_os(name) {
        Some(value) => git.env(name, value),
        None => git,
    });
    match source {
        Source::Url { credentials: Some(found), .. } => authorize(git, found),
        _ => git,
    }
}

/// By a credential helper bound to the origin: asked for only on a 401 of that host, never shown in a process list.
fn authorize(git: Git, credentials: &Credentials) -> Git {
    git.setting(&format!("credential.{}.helper={CREDENTIAL_HELPER}", credentials.origin))
        .env("GREENROOM_GIT_USERNAME", &credentials.username)
        .env("GREENROOM_GIT_PASSWORD", &credentials.password)
}

/// A local source is read by a process of its own, which gets none of our `-c` settings: it would refuse the
/// repository of another user.
fn with_upload_pack(git: Git, source: &Source) -> Git {
    match source {
        Source::Path(_) => git.args([format!("--upload-pack={UPLOAD_PACK}")]),
        Source::Url { .. } => git,
    }
}

fn succeeded(source: &Source, words: CloneWords, output: Result<Output>) -> Result<Output> {
    let said = match output {
        Ok(output) if output.status.success() => return Ok(output),
        Ok(output) => output.stderr,
        Err(Error::Git { output, .. }) => output,
        Err(other) => return Err(other),
    };
    Err(Error::Refused(
        Problem::new(ErrorCode::CloneFailed, words.of(&source.location()))
            .hint("Check that the path or URL is a git repository that the serving user can read.")
            .detail(without_credentials(source, &last_lines(&said))),
    ))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// git was never told them by name, but a server could echo them.
fn without_credentials(source: &Source, text: &str) -> String {
    let Source::Url { credentials: Some(found), .. } = source else { return text.to_owned() };
    let secrets = [&found.password, &found.username].into_iter().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

fn main_branch() -> BranchName {
    "main".parse().expect("main is a branch name")
}
