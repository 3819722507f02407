//! Where the checks read: a tree that is `/` on a real machine, and what only system calls tell.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// `/`, or a tree that a test made.
    pub(super) root: PathBuf,
    pub(super) is_user_mode: bool,
    pub(super) data: Option<Place>,
    /// Version of Landlock; 0 without.
    pub(super) landlock: i64,
    /// Directories of programs, below `root`.
    pub(super) path: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) file_system: &'static str,
    pub(super) free_bytes: u64,
}

/// The control groups of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers {
    /// Names of controllers on version 1.
    v1: Vec<String>,
    pub(super) has_v1: bool,
    /// Where version 2 is mounted, and what it controls.
    pub(super) v2: Option<String>,
    v2_controllers: Vec<String>,
    /// The first mount of any version.
    pub(super) first: Option<String>,
    pub(super) has_fast_moves: bool,
}

impl Controllers {
    pub(super) fn version_of(&self, name: &str) -> Option<&'static str> {
        if self.v1.iter().any(|one| one == name) {
            return Some("v1");
        }
        // Version 2 freezes without a controller.
        let is_v2 =
            self.v2_controllers.iter().any(|one| one == name) || (name == "freezer" && self.v2.is_some());
        is_v2.then_some("v2")
    }
}

impl Facts {
    pub(super) fn of_this_machine(is_user_mode: bool, data: Option<&Path>) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        Self {
            root: "/".into(),
            is_user_mode,
            data: data.and_then(place),
            landlock: crate::landlock::version().max(0),
            path: std::env::split_paths(&path).chain(usual).collect(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    pub(super) fn has_file_system(&self, name: &str) -> bool {
        let known = self.text("proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.split_whitespace().next_back() == Some(name))
    }

    pub(super) fn has_program(&self, name: &str) -> bool {
        let below =
            |directory: &PathBuf| self.root.join(directory.strip_prefix("/").unwrap_or(directory)).join(name);
        self.path.iter().any(|directory| below(directory).is_file())
    }

    /// Hard bound of this process.
    pub(super) fn open_files(&self) -> Option<u64> {
        let limits = self.text("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        match line.split_whitespace().nth(1)? {
            "unlimited" => None,
            number => number.parse().ok(),
        }
    }

    /// `… mount-id … MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`
    pub(super) fn controllers(&self) -> Controllers {
        let mut found = Controllers::default();
        for line in self.text("proc/self/mountinfo").unwrap_or_default().lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4) else { continue };
            let mut kind = kind.split(' ');
            let (name, options) = (kind.next().unwrap_or_default(), kind.nth(1).unwrap_or_default());
            match name {
                "cgroup" => {
                    found.has_v1 = true;
                    found.v1.extend(options.split(',').map(str::to_owned));
                }
                "cgroup2" => {
                    let controllers = format!("{}/cgroup.controllers", point.trim_start_matches('/'));
                    let controllers = self.text(&controllers).unwrap_or_default();
                    found.v2_controllers.extend(controllers.split_whitespace().map(str::to_owned));
                    found.v2 = Some(point.to_owned());
                }
                _ => continue,
            }
            found.first.get_or_insert(point.to_owned());
            found.has_fast_moves |= options.split(',').any(|option| option == "favordynmods");
        }
        found
    }
}

/// Of the directory, or of the nearest one above it that exists.
fn place(path: &Path) -> Option<Place> {
    let present = path.ancestors().find(|ancestor| ancestor.is_dir())?;
    let facts = rustix::fs::statfs(present).ok()?;
    let volume = rustix::fs::statvfs(present).ok()?;
    let file_system = match facts.f_type as u64 {
        0x794c_7630 => "overlay",
        0x9123_683e => "btrfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x2fc1_2fc1 => "zfs",
        _ => "another file system",
    };
    Some(Place {
        path: path.to_owned(),
        file_system,
        free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
    })
}
