//! The file system that workspaces, layers and snapshots lie on. As root a btrfs of our own: `<data>/volume.btrfs`, a
//! sparse file, mounted at `<data>/volume` in a mount namespace that only this process and its children see, so that
//! nothing is left of it however the process ends. Elsewhere the data directory as it is, with a reason that
//! `greenroom doctor` shows. Owns making, mounting, growing and judging it; knows no sandbox.
//!
//! Once a data directory has a volume, its sessions' files are there and nowhere else: then a machine that cannot mount
//! it is an error with a remedy, never a fallback that would look like lost files.

mod loop_device;
mod make;
mod namespace;

pub use namespace::enter_private_mounts;

use crate::btrfs;
use greenroom_sandbox::{Capability, PlainFiles, Storage, StorageDriver};
use loop_device::LoopDevice;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

const FILE: &str = "volume.btrfs";
const MOUNT_POINT: &str = "volume";
/// `discard`: blocks that files give up are given back to the host's disk.
const OPTIONS: &std::ffi::CStr = c"discard=async,space_cache=v2";

#[derive(Clone, Debug, Default)]
pub struct VolumeSettings {
    /// Most bytes of the host's disk; by default four fifths of what is free, at most 1 TiB.
    pub size_bytes: Option<u64>,
}

/// Cheap to clone; unmounted when the last clone goes.
#[derive(Clone, Debug)]
pub struct Volume {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    kind: Kind,
    limits: Result<(), Reason>,
    /// Dropped after `Inner::drop` has run: fields go last.
    gone: watch::Sender<()>,
}

/// Waits for the last clone of a volume without being one.
#[derive(Debug)]
pub struct VolumeEnd(watch::Receiver<()>);

impl VolumeEnd {
    /// Until the volume is unmounted. Wait with a deadline: whoever keeps a clone keeps it mounted.
    pub async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A file of ours.
    Loop,
    /// The data directory lies on a btrfs already.
    Host,
    Plain,
}

/// Why something is not to be had, and the line that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reason {
    detail: String,
    remedy: Option<String>,
}

impl Reason {
    fn new(detail: impl Into<String>, remedy: &str) -> Self {
        Self { detail: detail.into(), remedy: Some(remedy.to_owned()) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{operation} {path}: {source}")]
    System { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the disk of {path} is full")]
    DiskFull { path: PathBuf },
    /// There is a volume, and it cannot be used here and now; nothing was changed.
    #[error("the volume {path} cannot be mounted: {reason}")]
    Unusable { path: PathBuf, reason: String, remedy: String },
}

impl VolumeError {
    /// The line that may help.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::System { .. } => None,
            Self::DiskFull { path } => Some(format!("df -h {}", path.display())),
            Self::Unusable { remedy, .. } => Some(remedy.clone()),
        }
    }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VolumeError + 'a {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            VolumeError::DiskFull { path: path.to_owned() }
        }
        _ => VolumeError::System { operation, path: path.to_owned(), source },
    }
}

impl Volume {
    /// Finds or makes the volume of a data directory, which exists and is held by this process alone. Blocking; a first
    /// start makes a file system, which takes some 100 ms.
    pub fn open(data: &Path, settings: &VolumeSettings) -> Result<Self, VolumeError> {
        let file = data.join(FILE);
        if !file.try_exists().map_err(failed("look at", &file))? {
            return Self::open_without_file(data, &file, settings);
        }
        let unusable = |reason: Reason| VolumeError::Unusable {
            path: file.clone(),
            reason: reason.detail,
            remedy: reason.remedy.unwrap_or_else(|| rescue(&file)),
        };
        may_mount().map_err(unusable)?;
        make::grow_file(&file, settings)?;
        let mounted = mount(data, &file)?.map_err(unusable)?;
        // Smaller than its file only if the file grew; without the room it goes on as it is.
        if let Err(error) = btrfs::grow(&mounted.root) {
            tracing::warn!(%error, "the volume does not grow");
        }
        Ok(mounted.finish())
    }

    fn open_without_file(data: &Path, file: &Path, settings: &VolumeSettings) -> Result<Self, VolumeError> {
        if btrfs::is_btrfs(data).map_err(failed("look at", data))? {
            return Ok(Self::host(data));
        }
        if let Some(reason) = reason_to_stay_plain(data) {
            return Ok(Self::plain_because(data, reason));
        }
        if let Err(reason) = make::file_system(file, settings)? {
            return Ok(Self::plain_because(data, reason));
        }
        match mount(data, file)? {
            Ok(mounted) => Ok(mounted.finish()),
            Err(reason) => {
                // Nothing is in it yet.
                fs::remove_file(file).map_err(failed("remove", file))?;
                Ok(Self::plain_because(data, reason))
            }
        }
    }

    /// Plain directories in the data directory, by choice.
    pub fn plain(data: &Path) -> Self {
        Self::plain_because(data, Reason { detail: "no volume was asked for".into(), remedy: None })
    }

    fn plain_because(data: &Path, reason: Reason) -> Self {
        Self::new(data.to_owned(), Kind::Plain, Err(reason))
    }

    /// The host's own btrfs: subvolumes there, its settings untouched.
    fn host(data: &Path) -> Self {
        let limits =
            if rustix::process::geteuid().is_root() { probe_limits(data) } else { Err(ordinary_user()) };
        Self::new(data.to_owned(), Kind::Host, limits)
    }

    fn new(root: PathBuf, kind: Kind, limits: Result<(), Reason>) -> Self {
        Self { inner: Arc::new(Inner { root, kind, limits, gone: watch::Sender::default() }) }
    }

    /// Where its directories lie; exists as long as a clone does.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub fn end(&self) -> VolumeEnd {
        VolumeEnd(self.inner.gone.subscribe())
    }

    /// Keeps the volume mounted.
    pub fn storage(&self) -> Result<Storage, VolumeError> {
        let driver: Arc<dyn StorageDriver> = match self.inner.kind {
            Kind::Plain => Arc::new(PlainFiles),
            Kind::Loop | Kind::Host => Arc::new(OnBtrfs { _volume: self.clone() }),
        };
        Storage::open(self.root(), driver).map_err(failed("make directories of", self.root()))
    }

    /// Whether what sandboxes write is bounded, for `greenroom doctor`.
    pub fn capability(&self) -> Capability {
        let (is_available, detail, remedy) = match &self.inner.limits {
            Ok(()) => {
                (true, "btrfs quota of each workspace; 20 GiB unless a recipe says otherwise".into(), None)
            }
            Err(reason) => {
                let detail = format!("what a sandbox writes is not bounded: {}", reason.detail);
                (false, detail, reason.remedy.clone())
            }
        };
        Capability { name: "disk_limit".into(), is_available, detail, remedy }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.kind == Kind::Loop {
            // The namespace goes with the process in any case.
            let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH);
        }
    }
}

#[derive(Debug)]
struct OnBtrfs {
    _volume: Volume,
}

impl StorageDriver for OnBtrfs {
    fn remove(&self, path: &Path) -> io::Result<()> {
        btrfs::remove_tree(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        PlainFiles.sync(path)
    }

    fn used_bytes(&self, path: &Path) -> Option<u64> {
        btrfs::charged_below(path)
    }
}

fn ordinary_user() -> Reason {
    let remedy = "run greenroom as root: sudo greenroom serve";
    Reason::new("an ordinary user can mount no volume", remedy)
}

/// What must hold before anything is made or mounted.
fn may_mount() -> Result<(), Reason> {
    if !rustix::process::geteuid().is_root() {
        return Err(ordinary_user());
    }
    namespace::entered().map_err(|why| {
        let remedy = "in a container: docker run --privileged";
        Reason::new(why, remedy)
    })
}

fn reason_to_stay_plain(data: &Path) -> Option<Reason> {
    if let Err(reason) = may_mount() {
        return Some(reason);
    }
    let has_entries =
        |name: &str| data.join(name).read_dir().is_ok_and(|mut entries| entries.next().is_some());
    ["workspaces", "layers"].into_iter().any(has_entries).then(|| {
        let detail = "this data directory was begun without a volume";
        Reason::new(detail, "greenroom serve --data /another/directory")
    })
}

fn rescue(file: &Path) -> String {
    format!(
        "mv {0} {0}.damaged, which keeps it for `btrfs rescue`; sessions go on without their files, images are built again",
        file.display()
    )
}

/// A mount that no volume owns yet.
struct Mounted {
    root: PathBuf,
}

impl Mounted {
    fn finish(self) -> Volume {
        let quotas = btrfs::enable_quotas(&self.root).map_err(|error| {
            let detail = format!("btrfs has no quotas here ({error})");
            Reason::new(detail, "use a kernel with CONFIG_BTRFS_FS and quotas, for example Linux 6.7")
        });
        let limits = quotas.and_then(|()| probe_limits(&self.root));
        Volume::new(self.root, Kind::Loop, limits)
    }
}

/// The inner error: this machine cannot; the outer: it could, and failed.
fn mount(data: &Path, file: &Path) -> Result<Result<Mounted, Reason>, VolumeError> {
    let root = data.join(MOUNT_POINT);
    fs::create_dir_all(&root).map_err(failed("make directory", &root))?;
    let backing = OpenOptions::new().read(true).write(true).open(file).map_err(failed("open", file))?;
    let device = match LoopDevice::attach(&backing) {
        Ok(device) => device,
        Err(error) => {
            let detail = format!("no loop device is to be had ({error})");
            return Ok(Err(Reason::new(detail, "modprobe loop max_loop=64, or free one: losetup -l")));
        }
    };
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
    match rustix::mount::mount(&device.path, &root, "btrfs", flags, Some(OPTIONS)) {
        Ok(()) => Ok(Ok(Mounted { root })),
        Err(rustix::io::Errno::NODEV) => Ok(Err(Reason::new("the kernel has no btrfs", "modprobe btrfs"))),
        Err(errno) => {
            let detail = format!("mounting the volume failed ({errno})");
            Ok(Err(Reason { detail, remedy: None }))
        }
    }
}

const PROBE: &str = ".probe";

/// Makes a subvolume, bounds it, removes it.
fn probe_limits(root: &Path) -> Result<(), Reason> {
    let path = root.join(PROBE);
    // A crash may have left one.
    let _ = btrfs::destroy(&path);
    let probed = btrfs::create(&path).and_then(|()| btrfs::limit(&path, 1 << 30));
    let _ = btrfs::destroy(&path);
    probed.map_err(|error| {
        let remedy = format!("btrfs quota enable --simple {}", root.display());
        let detail = format!("quotas of its btrfs are off ({error})");
        Reason { detail, remedy: Some(remedy) }
    })
}
