//! Takes a push in, in git's own order but with our words: commands are parsed and checked first; the pack goes through
//! `git index-pack --strict` into a quarantine directory that only this push sees; connectivity and policy are checked
//! there; then the pack is moved in and all references change in one transaction that compares their old values.
//!
//! We speak report-status ourselves instead of running `git receive-pack` with hooks: the policy is typed values of
//! this process, a refusal is one sentence that an ordinary git prints, and no script or environment carries either.
//! A push is all or nothing, even when it names several branches without `--atomic`.

use super::{
    LocalForge,
    git::{Git, read_tail},
    pkt::{self, Packet, PktError},
    policy::{self, Refusal},
};
use crate::{Error, PushPolicy, Result};
use greenroom_domain::{BranchName, RepositoryId};
use rustix::process::{Resource, Rlimit};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const DEADLINE: Duration = Duration::from_secs(900);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
pub(super) const MOST_COMMANDS: usize = 1000;
const PERSON_SIZE_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// Address space of index-pack: a few kilobytes of deltas can claim to unfold to gigabytes.
const UNPACK_MEMORY: u64 = 3 * 1024 * 1024 * 1024;
const CAPABILITIES: &str = "report-status delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 \
    agent=greenroom";
/// The prefix by which git itself recognises and prunes left-over quarantines.
pub(crate) const QUARANTINE_PREFIX: &str = "tmp_objdir-incoming-";
const MOVED: &str =
    "the branch moved in the meantime (or its name clashes with another); fetch and push again";
pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000";

/// One reference that the push wants to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefUpdate {
    pub(crate) old: String,
    pub(crate) new: String,
    pub(crate) name: String,
}

impl RefUpdate {
    pub(crate) fn is_delete(&self) -> bool {
        self.new == ZERO
    }

    pub(crate) fn is_create(&self) -> bool {
        self.old == ZERO
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim_end_matches('\n').splitn(3, ' ');
        let (old, new, name) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hash = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hash(old) && is_hash(new) && !name.is_empty()).then(|| Self {
            old: old.to_ascii_lowercase(),
            new: new.to_ascii_lowercase(),
            name: name.to_owned(),
        })
    }
}

/// What is in front of the pack.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) updates: Vec<RefUpdate>,
    pub(super) wants_report: bool,
    has_side_band: bool,
}

/// What the push may do and where to.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) repository: &'a Path,
    pub(crate) default_branch: BranchName,
    pub(crate) policy: PushPolicy,
    pub(crate) forge: &'a LocalForge,
    pub(crate) id: RepositoryId,
    /// Serialises what moves references with merges of the same repository.
    pub(crate) lock: &'a tokio::sync::Mutex<()>,
}

/// The references as `receive-pack` advertises them, service line included.
pub(crate) async fn advertise(repository: &Path) -> Result<Vec<u8>> {
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/"];
    let refs = Git::at(repository).args(list).success().await?.text();
    let mut answer = Vec::new();
    pkt::write(&mut answer, b"# service=git-receive-pack\n");
    pkt::flush(&mut answer);
    let mut capabilities = format!("\0{CAPABILITIES}");
    for line in refs.lines() {
        pkt::write(&mut answer, format!("{line}{capabilities}\n").as_bytes());
        capabilities.clear();
    }
    if refs.is_empty() {
        pkt::write(&mut answer, format!("{ZERO} capabilities^{{}}{capabilities}\n").as_bytes());
    }
    pkt::flush(&mut answer);
    Ok(answer)
}

/// Answers one push. `Ok` also when it was refused: the client was told.
pub(crate) async fn receive(
    target: Target<'_>,
    mut input: Box<dyn AsyncRead + Send + Unpin>,
    mut output: Box<dyn AsyncWrite + Send + Unpin>,
) -> Result<()> {
    let work = async {
        let request = read_request(&mut input)
            .await
            .map_err(|error| Error::Git { operation: "receive-pack".into(), output: error.to_string() })?;
        if request.updates.is_empty() {
            return Ok(Vec::new()); // git probes with an empty request before a large push
        }
        let outcome = take_in(&target, &request.updates, &mut input).await;
        drain(&mut input).await;
        match outcome {
            Ok(()) => Ok(report(&request, None)),
            Err(Failure::Refused(refusal)) => Ok(report(&request, Some(&refusal))),
            Err(Failure::Broken(error)) => {
                tracing::error!(%error, repository = %target.repository.display(), "a push failed");
                Ok(report(&request, Some(&Refusal::new("the forge failed; its log says why"))))
            }
        }
    };
    let answer = tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| {
        Err(Error::Git { operation: "receive-pack".into(), output: "no end within 15 minutes".into() })
    })?;
    let sent = async {
        output.write_all(&answer).await?;
        output.shutdown().await
    };
    sent.await.map_err(|source| Error::Io { operation: "answering", path: "a push".into(), source })
}

/// Why a push was not taken.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) async fn read_request(input: &mut (impl AsyncRead + Unpin)) -> Result<Request, PktError> {
    let mut request = Request::default();
    loop {
        let data = match pkt::read(input).await? {
            Packet::Flush => return Ok(request),
            Packet::Data(data) => data,
            Packet::Special(_) => return Err(PktError::Length),
        };
        let text = String::from_utf8(data).map_err(|_| PktError::Length)?;
        let (line, capabilities) = text.split_once('\0').unwrap_or((&text, ""));
        // Which commits the client cut off does not matter: connectivity is checked against what is here.
        if line.starts_with("shallow ") {
            continue;
        }
        if request.updates.is_empty() {
            let mut offered = capabilities.split_ascii_whitespace();
            request.wants_report = offered.clone().any(|word| word == "report-status");
            request.has_side_band = offered.any(|word| word == "side-band-64k");
        }
        request.updates.push(RefUpdate::parse(line).ok_or(PktError::Length)?);
        if request.updates.len() > MOST_COMMANDS {
            return Err(PktError::Length);
        }
    }
}

pub(super) async fn take_in(
    target: &Target<'_>,
    updates: &[RefUpdate],
    input: &mut (impl AsyncRead + Unpin + Send),
) -> Result<(), Failure> {
    policy::check_commands(&target.policy, &target.default_branch, updates)?;
    let quarantine = Quarantine::new(target.repository)?;
    if updates.iter().any(|update| !update.is_delete()) {
        quarantine.unpack(input, size_limit(&target.policy)).await?;
        policy::check_objects(&quarantine, target, updates).await?;
    }
    let _held = target.lock.lock().await;
    check_old_values(target.repository, updates).await?;
    record_pushers(target, updates).await?;
    quarantine.migrate()?;
    update_references(target.repository, updates).await
}

/// Before the references move: nobody may approve what they pushed themselves, or had a session push, whatever a crash
/// leaves.
async fn record_pushers(target: &Target<'_>, updates: &[RefUpdate]) -> Result<()> {
    let people = match &target.policy {
        PushPolicy::Person(person) => vec![*person],
        PushPolicy::Session { people, .. } => people.clone(),
    };
    let branch = |update: &RefUpdate| update.name.strip_prefix("refs/heads/")?.parse::<BranchName>().ok();
    let branches: Vec<BranchName> = updates.iter().filter_map(branch).collect();
    let id = target.id;
    target.forge.store(move |store| store.add_pushers(id, &branches, &people)).await
}

fn size_limit(policy: &PushPolicy) -> u64 {
    match policy {
        PushPolicy::Person(_) => PERSON_SIZE_LIMIT,
        PushPolicy::Session { size_limit_bytes, .. } => *size_limit_bytes,
    }
}

/// Before anything is moved in, so that a push that came too late leaves nothing. Exact, because the lock is held.
async fn check_old_values(repository: &Path, updates: &[RefUpdate]) -> Result<(), Failure> {
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/"];
    let output = Git::at(repository).args(list).success().await?.text();
    let current: HashMap<&str, &str> =
        output.lines().filter_map(|line| line.split_once(' ')).map(|(hash, name)| (name, hash)).collect();
    match updates
        .iter()
        .find(|update| current.get(update.name.as_str()).copied().unwrap_or(ZERO) != update.old)
    {
        Some(_) => Err(Refusal::new(MOVED).into()),
        None => Ok(()),
    }
}

async fn update_references(repository: &Path, updates: &[RefUpdate]) -> Result<(), Failure> {
    let lines: String = updates
        .iter()
        .map(|update| format!("update {}\0{}\0{}\0", update.name, update.new, update.old))
        .collect();
    let output = Git::at(repository).args(["update-ref", "--stdin", "-z"]).stdin(lines).run().await?;
    if output.status.success() {
        return Ok(());
    }
    tracing::info!(said = output.stderr, "references did not move");
    Err(Refusal::new(MOVED).into())
}

/// New objects before anybody else can see them: a directory inside the repository's `objects` that borrows from it.
#[derive(Debug)]
pub(crate) struct Quarantine {
    repository: PathBuf,
    objects: PathBuf,
    directory: tempfile::TempDir,
}

impl Quarantine {
    fn new(repository: &Path) -> Result<Self> {
        let objects = repository.join("objects");
        let directory = tempfile::Builder::new()
            .prefix(QUARANTINE_PREFIX)
            .tempdir_in(&objects)
            .and_then(|directory| std::fs::create_dir(directory.path().join("pack")).map(|()| directory))
            .map_err(|source| io("making a quarantine in", &objects, source))?;
        Ok(Self { repository: repository.to_owned(), objects, directory })
    }

    /// git that sees the new objects beside those of the repository.
    pub(crate) fn git(&self) -> Git {
        Git::at(&self.repository)
            .env("GIT_OBJECT_DIRECTORY", self.directory.path())
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
            .env("GIT_QUARANTINE_PATH", self.directory.path())
    }

    async fn unpack(&self, input: &mut (impl AsyncRead + Unpin + Send), limit: u64) -> Result<(), Failure> {
        let maximum = format!("--max-input-size={limit}");
        let mut git =
            self.git().args(["index-pack", "--stdin", "--fix-thin", "--strict", "--threads=2", &maximum]);
        let mut running = git.spawn()?;
        if let Some(pid) = running.pid() {
            let memory = Rlimit { current: Some(UNPACK_MEMORY), maximum: Some(UNPACK_MEMORY) };
            // It has read nothing yet, so nothing is unpacked before the limit holds.
            let _ = rustix::process::prlimit(Some(pid), Resource::As, memory);
        }
        let (mut stdin, mut stdout, stderr) = running.pipes();
        let feed = async move {
            // When index-pack ends early this fails with a broken pipe; its words say why.
            tokio::io::copy(&mut input.take(limit + 1), &mut stdin).await.unwrap_or(0)
        };
        let mut name = Vec::new();
        let feed_until_it_ends = async {
            let end = stdout.read_to_end(&mut name);
            tokio::pin!(end);
            tokio::select! {
                copied = feed => { let _ = end.await; copied }
                _ = &mut end => 0,
            }
        };
        let (copied, said) = tokio::join!(feed_until_it_ends, read_tail(stderr));
        let status =
            running.wait().await.map_err(|source| io("waiting for", Path::new("index-pack"), source))?;
        if copied > limit || said.contains("exceeds maximum allowed size") {
            let words = format!("the push is larger than the limit of {} MB", limit / 1_000_000);
            return Err(Refusal::unpack(words).into());
        }
        if !status.success() {
            return Err(Refusal::unpack(last_line(&said)).into());
        }
        Ok(())
    }

    /// Moves the pack into the repository, its index last: git looks for indexes.
    fn migrate(&self) -> Result<()> {
        let from = self.directory.path().join("pack");
        let to = self.objects.join("pack");
        let read = |source| io("reading", &from, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&from).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            names.push((name.to_string_lossy().ends_with(".idx"), name));
        }
        names.sort();
        std::fs::create_dir_all(&to).map_err(|source| io("making", &to, source))?;
        for (_, name) in &names {
            let target = to.join(name);
            std::fs::rename(from.join(name), &target).map_err(|source| io("moving", &target, source))?;
        }
        std::fs::File::open(&to)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| io("syncing", &to, source))
    }
}

fn report(request: &Request, refusal: Option<&Refusal>) -> Vec<u8> {
    let mut lines = Vec::new();
    let unpack = refusal.and_then(|refusal| refusal.unpack.as_deref()).unwrap_or("ok");
    pkt::write(&mut lines, format!("unpack {unpack}\n").as_bytes());
    for update in &request.updates {
        let line = match refusal {
            None => format!("ok {}\n", update.name),
            Some(refusal) => format!("ng {} {}\n", update.name, refusal.reason),
        };
        pkt::write(&mut lines, line.as_bytes());
    }
    pkt::flush(&mut lines);
    if !request.wants_report {
        return Vec::new();
    }
    if !request.has_side_band {
        return lines;
    }
    let mut answer = Vec::new();
    if let Some(hint) = refusal.and_then(|refusal| refusal.hint.as_ref()) {
        pkt::write_band(&mut answer, 2, format!("{hint}\n").as_bytes());
    }
    pkt::write_band(&mut answer, 1, &lines);
    pkt::flush(&mut answer);
    answer
}

/// A client that is still sending would not read the answer. Bounded by time; a client that goes on is cut off.
async fn drain(input: &mut (impl AsyncRead + Unpin)) {
    let _ = tokio::time::timeout(DRAIN_DEADLINE, tokio::io::copy(input, &mut tokio::io::sink())).await;
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("the pack is broken");
    line.trim_start_matches("fatal: ").trim_start_matches("error: ").chars().take(300).collect()
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_and_capabilities_are_read() {
        let (a, b) = ("a".repeat(40), "B".repeat(40));
        let mut bytes = Vec::new();
        pkt::write(&mut bytes, format!("shallow {a}").as_bytes());
        let first = format!("{ZERO} {a} refs/heads/x\0 report-status side-band-64k agent=git/2");
        pkt::write(&mut bytes, first.as_bytes());
        pkt::write(&mut bytes, format!("{a} {b} refs/heads/y z\n").as_bytes());
        pkt::flush(&mut bytes);
        bytes.extend_from_slice(b"PACK");
        let mut from = bytes.as_slice();
        let request = read_request(&mut from).await.unwrap();
        assert!(request.wants_report && request.has_side_band);
        assert_eq!(request.updates[0].name, "refs/heads/x");
        assert_eq!(request.updates[1].new, "b".repeat(40));
        assert_eq!(from, b"PACK");
    }

    #[tokio::test]
    async fn a_broken_command_is_refused() {
        for bad in ["x", "0000 0000 refs/heads/x", &format!("{ZERO} {ZERO} "), &format!("{ZERO} {ZERO}")] {
            let mut bytes = Vec::new();
            pkt::write(&mut bytes, bad.as_bytes());
            pkt::flush(&mut bytes);
            assert!(read_request(&mut bytes.as_slice()).await.is_err(), "{bad}");
        }
    }
}
