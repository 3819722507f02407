//! The forge that Greenroom serves itself: bare repositories under `<data>/repositories`, what git does not know in
//! `<data>/forge.db`. Everything that moves a reference of a repository happens under that repository's lock and still
//! compares old values. Owns no HTTP; `smart_http` reads the requests, `app` and `broker` decide who may make them.

mod bundle;
mod changes;
pub(crate) mod diff;
#[cfg(test)]
mod fuzz;
mod git;
mod import;
mod pkt;
mod policy;
mod receive;
mod refresh;
mod scan;
mod source;
mod store;
mod tree;
mod upload;

use crate::{
    Change, Commit, Error, FileDiff, Forge, GitService, Incoming, OpenChange, PushPolicy, Refreshed, Result,
    Work,
};
use async_trait::async_trait;
use greenroom_domain::{BranchName, ChangeId, CommitHash, ErrorCode, Person, Problem, RepositoryId};
use source::Source;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::Store;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
};

/// Fetches and pushes that run at once; more wait, and are refused after `QUEUE_DEADLINE`.
const MOST_FETCHES: usize = 16;
const MOST_PUSHES: usize = 8;
const QUEUE_DEADLINE: Duration = Duration::from_secs(60);
/// A disk with less left is full for git.
const FULL_BYTES: u64 = 64 * 1024;
/// Directories that are being made or removed.
const UNFINISHED_PREFIX: &str = "unfinished-";

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalForge {
    inner: Arc<Inner>,
}

type Locks = Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<()>>>>;

#[derive(Debug)]
struct Inner {
    data: PathBuf,
    repositories: PathBuf,
    store: Store,
    locks: Locks,
    refreshes: Locks,
    fetches: Semaphore,
    pushes: Semaphore,
    known_secrets: scan::KnownSecrets,
}

impl LocalForge {
    /// Opens (or makes) the forge of a data directory and clears away what an interrupted import left.
    pub fn open(data: &Path) -> Result<Self> {
        let data = std::path::absolute(data).map_err(|source| io("finding", data, source))?;
        let repositories = data.join("repositories");
        std::fs::create_dir_all(&repositories).map_err(|source| io("making", &repositories, source))?;
        clear_unfinished(&repositories)?;
        let inner = Inner {
            store: Store::open(&data.join("forge.db"))?,
            data,
            repositories,
            locks: Locks::default(),
            refreshes: Locks::default(),
            fetches: Semaphore::new(MOST_FETCHES),
            pushes: Semaphore::new(MOST_PUSHES),
            known_secrets: scan::KnownSecrets::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn known_secrets(&self) -> &scan::KnownSecrets {
        &self.inner.known_secrets
    }

    fn path(&self, id: RepositoryId) -> PathBuf {
        self.inner.repositories.join(format!("{id}.git"))
    }

    /// The path of a repository that exists.
    async fn known(&self, id: RepositoryId) -> Result<PathBuf> {
        self.known_default_branch(id).await.map(|_| self.path(id))
    }

    async fn known_default_branch(&self, id: RepositoryId) -> Result<BranchName> {
        self.store(move |store| store.default_branch(id)).await?.ok_or_else(|| unknown(id))
    }

    fn lock(&self, id: RepositoryId) -> Arc<tokio::sync::Mutex<()>> {
        lock_in(&self.inner.locks, id)
    }

    fn lock_for_refresh(&self, id: RepositoryId) -> Arc<tokio::sync::Mutex<()>> {
        lock_in(&self.inner.refreshes, id)
    }

    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner.store))
            .await
            .map_err(|error| Error::Database(error.to_string()))?
    }

    /// Imports beside the final place, then renames.
    async fn make(&self, id: RepositoryId, source: Option<&Source>) -> Result<BranchName> {
        let unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED_PREFIX)
            .tempdir_in(&self.inner.repositories)
            .map_err(|source| io("making a directory in", &self.inner.repositories, source))?;
        let fresh = unfinished.path().join("repository.git");
        let branch = import::import(&fresh, source).await.map_err(|error| self.or_disk_full(error))?;
        let target = self.path(id);
        std::fs::rename(&fresh, &target).map_err(|source| io("moving", &target, source))?;
        sync_directory(&self.inner.repositories)?;
        Ok(branch)
    }

    /// git does not always say that a full disk stopped it.
    fn or_disk_full(&self, error: Error) -> Error {
        let left = rustix::fs::statvfs(&self.inner.repositories).map(|disk| disk.f_bavail * disk.f_frsize);
        match left {
            Ok(..FULL_BYTES) if !error.is_disk_full() => {
                tracing::warn!(%error, "taken for what a full disk causes");
                io("writing to", &self.inner.repositories, std::io::ErrorKind::StorageFull.into())
            }
            _ => error,
        }
    }

    /// Nothing may be cloned out of the data directory: it holds sessions' trees and everybody's repositories.
    fn check_source(&self, source: Option<&Source>) -> Result<()> {
        let Some(path) = source.and_then(Source::path) else { return Ok(()) };
        let (Ok(path), Ok(data)) = (path.canonicalize(), self.inner.data.canonicalize()) else {
            return Ok(());
        };
        if !path.starts_with(&data) {
            return Ok(());
        }
        Err(Error::Refused(
            Problem::new(ErrorCode::CloneFailed, "The source lies in Greenroom's own data directory.")
                .hint("Clone it to another place first."),
        ))
    }
}

#[async_trait]
impl Forge for LocalForge {
    async fn create_repository(&self, id: RepositoryId, source: Option<&str>) -> Result<BranchName> {
        let lock = self.lock(id);
        let _held = lock.lock().await;
        if let Some(branch) = self.store(move |store| store.default_branch(id)).await? {
            return Ok(branch);
        }
        let source = source.map(Source::parse).transpose().map_err(Error::Refused)?;
        self.check_source(source.as_ref())?;
        // Present without a record: a crash came between the two.
        let branch = match self.path(id).is_dir() {
            true => import::default_branch(&self.path(id)).await?,
            false => self.make(id, source.as_ref()).await?,
        };
        let recorded = branch.clone();
        self.store(move |store| store.add_repository(id, &recorded)).await?;
        Ok(branch)
    }

    async fn refresh(&self, id: RepositoryId, source: &str) -> Result<Refreshed> {
        let repository = self.known(id).await?;
        let source = Source::parse(source).map_err(Error::Refused)?;
        self.check_source(Some(&source))?;
        // The network is waited for without the lock, by one at a time.
        let fetching = self.lock_for_refresh(id);
        let _one = fetching.lock().await;
        let fetched =
            refresh::fetch_beside(&repository, &source).await.map_err(|error| self.or_disk_full(error))?;
        let lock = self.lock(id);
        let _held = lock.lock().await;
        refresh::follow(&repository, &fetched).await.map_err(|error| self.or_disk_full(error))
    }

    async fn remove_repository(&self, id: RepositoryId) -> Result<()> {
        let lock = self.lock(id);
        let _held = lock.lock().await;
        let (path, removed) =
            (self.path(id), self.inner.repositories.join(format!("{UNFINISHED_PREFIX}{id}")));
        match std::fs::rename(&path, &removed) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("removing", &path, source));
            }
            _ => {}
        }
        self.store(move |store| store.remove_repository(id)).await?;
        match tokio::fs::remove_dir_all(&removed).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io("removing", &removed, source))
            }
            _ => Ok(()),
        }
    }

    async fn set_required_approvals(&self, id: RepositoryId, count: u32) -> Result<()> {
        match self.store(move |store| store.set_required_approvals(id, count)).await? {
            true => Ok(()),
            false => Err(unknown(id)),
        }
    }

    async fn branch_head(&self, id: RepositoryId, branch: &BranchName) -> Result<Option<CommitHash>> {
        changes::branch_head(&self.known(id).await?, branch).await
    }

    async fn bundle(
        &self,
        id: RepositoryId,
        branch: &BranchName,
        base: Option<&CommitHash>,
        to: &Path,
    ) -> Result<Option<Work>> {
        self.write_bundle(id, branch, base, to).await
    }

    async fn take_bundle(&self, id: RepositoryId, bundle: Incoming<'_>) -> Result<()> {
        self.read_bundle(id, bundle).await
    }

    async fn remove_branch(&self, id: RepositoryId, branch: &BranchName) -> Result<()> {
        self.delete_branch(id, branch).await
    }

    async fn read_file(
        &self,
        id: RepositoryId,
        commit: &CommitHash,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        tree::read_file(&self.known(id).await?, commit, path, limit).await
    }

    async fn list_files(
        &self,
        id: RepositoryId,
        commit: &CommitHash,
        directory: &str,
    ) -> Result<Vec<String>> {
        tree::list_files(&self.known(id).await?, commit, directory).await
    }

    async fn open_change(&self, open: OpenChange) -> Result<Change> {
        self.propose(open).await
    }

    async fn change(&self, id: ChangeId) -> Result<Option<Change>> {
        self.find(id).await
    }

    async fn change_by_number(&self, repository: RepositoryId, number: u64) -> Result<Option<Change>> {
        self.find_by_number(repository, number).await
    }

    async fn changes(&self, repository: Option<RepositoryId>, limit: u32) -> Result<Vec<Change>> {
        self.list(repository, limit).await
    }

    async fn diff(&self, id: ChangeId) -> Result<Vec<FileDiff>> {
        self.files(id).await
    }

    async fn commits(&self, id: ChangeId) -> Result<Vec<Commit>> {
        self.commits_of(id).await
    }

    fn set_known_secrets(&self, secrets: Vec<Vec<u8>>) {
        self.inner.known_secrets.set(secrets);
    }

    async fn approve(&self, id: ChangeId, head: &CommitHash, by: &Person, at_ms: i64) -> Result<Change> {
        self.approve_change(id, head, by, at_ms).await
    }

    async fn merge(&self, id: ChangeId, by: &Person, at_ms: i64) -> Result<Change> {
        self.merge_change(id, by, at_ms).await
    }

    async fn advertise(
        &self,
        id: RepositoryId,
        service: GitService,
        git_protocol: Option<&str>,
    ) -> Result<Vec<u8>> {
        let repository = self.known(id).await?;
        let _permit = permit(&self.inner.fetches).await?;
        match service {
            GitService::UploadPack => upload::advertise(&repository, git_protocol).await,
            GitService::ReceivePack => receive::advertise(&repository).await,
        }
    }

    async fn serve(
        &self,
        id: RepositoryId,
        service: GitService,
        git_protocol: Option<&str>,
        policy: Option<PushPolicy>,
        input: Box<dyn AsyncRead + Send + Unpin>,
        output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()> {
        let default_branch = self.known_default_branch(id).await?;
        let repository = self.path(id);
        match (service, policy) {
            (GitService::UploadPack, _) => {
                let _permit = permit(&self.inner.fetches).await?;
                upload::serve(&repository, git_protocol, input, output).await
            }
            (GitService::ReceivePack, Some(policy)) => {
                let _permit = permit(&self.inner.pushes).await?;
                let lock = self.lock(id);
                let target = receive::Target {
                    repository: &repository,
                    default_branch,
                    policy,
                    forge: self,
                    id,
                    lock: &lock,
                };
                receive::receive(target, input, output).await
            }
            (GitService::ReceivePack, None) => Err(Error::Refused(
                Problem::new(ErrorCode::PushRefused, "Nobody may push here.").hint("Open a change instead."),
            )),
        }
    }
}

fn lock_in(locks: &Locks, id: RepositoryId) -> Arc<tokio::sync::Mutex<()>> {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    locks.retain(|_, lock| Arc::strong_count(lock) > 1);
    locks.entry(id).or_default().clone()
}

async fn permit(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>> {
    match tokio::time::timeout(QUEUE_DEADLINE, semaphore.acquire()).await {
        Ok(permit) => Ok(permit.expect("never closed")),
        Err(_) => Err(Error::Refused(
            Problem::new(ErrorCode::TooManyRequests, "Too many fetches and pushes are running.")
                .hint("Try again in a minute."),
        )),
    }
}

/// Half-made repositories, and quarantines of pushes that were running when the program ended.
fn clear_unfinished(repositories: &Path) -> Result<()> {
    for path in entries(repositories)? {
        if named(&path, UNFINISHED_PREFIX) {
            remove(&path)?;
            continue;
        }
        let objects = path.join("objects");
        if objects.is_dir() {
            let mut left =
                entries(&objects)?.into_iter().filter(|path| named(path, receive::QUARANTINE_PREFIX));
            left.try_for_each(|path| remove(&path))?;
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    listed.map_err(|source| io("reading", directory, source))
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_dir_all(path).map_err(|source| io("removing", path, source))
}

fn sync_directory(path: &Path) -> Result<()> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| io("syncing", path, source))
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation, path: path.display().to_string(), source }
}

fn unknown(id: RepositoryId) -> Error {
    Error::Refused(Problem::new(ErrorCode::RepositoryUnknown, format!("There is no repository {id}.")))
}
