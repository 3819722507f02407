//! What every sandbox over the host's root shares: a filtered copy of /etc, the live /usr, a small /dev. Made once by
//! the zygote in its own mount namespace. Everything is an allow-list: what is not named here does not exist inside.
//!
//! Why /etc is a copy: the lower layers show host root's files as owned by the sandbox's root, so a file of mode 0600
//! that appears under a live /etc later would be readable. /usr outside /usr/local is published package content. Under
//! /usr/local and /opt the files keep ids that are not mapped inside, so that the kernel itself refuses what is not
//! readable by everyone, at any time; a skeleton of their directories on top makes them writable.

mod packages;

use crate::sys::{At, Outcome};
use rustix::fs::{Gid, Uid};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// One part of a root that gets an overlay of its own. `name` is its directory in layers and workspaces.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) name: String,
    /// Where it lies, on the host and inside.
    pub(crate) path: &'static str,
    pub(crate) ids: Ids,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Host root's files belong to the sandbox's root.
    Mapped,
    /// Owners are unknown inside: only what everyone may read is readable.
    Foreign,
}

/// How host ids become ids inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdRange {
    pub(crate) base: u32,
    pub(crate) count: u32,
    pub(crate) is_user_mode: bool,
}

impl IdRange {
    fn chown(self, path: &Path, uid: u32, gid: u32) -> Outcome<()> {
        if self.is_user_mode {
            return Ok(());
        }
        let shift = |id: u32| self.base + if id < self.count { id } else { 0 };
        let (uid, gid) = (Uid::from_raw(shift(uid)), Gid::from_raw(shift(gid)));
        let at = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), at).at("chown", path)
    }
}

const LIVE: [(&str, &str, Ids); 5] = [
    ("usr", "/usr", Ids::Mapped),
    ("local", "/usr/local", Ids::Foreign),
    ("opt", "/opt", Ids::Foreign),
    ("dpkg", "/var/lib/dpkg", Ids::Mapped),
    ("apt", "/var/lib/apt", Ids::Mapped),
];
/// Links into /usr on merged systems, volumes where they are directories.
const TOP: [&str; 7] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libo32"];
const EMPTY: [(&str, u32); 26] = [
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/media", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/var", 0o755),
    ("/var/cache", 0o755),
    ("/var/cache/apt", 0o755),
    ("/var/cache/apt/archives", 0o755),
    ("/var/cache/apt/archives/partial", 0o700),
    ("/var/lib", 0o755),
    ("/var/lib/apt", 0o755),
    ("/var/lib/dpkg", 0o755),
    ("/var/log", 0o755),
    ("/var/log/apt", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
    ("/workspace", 0o755),
];
/// Below /etc, besides everything that not everyone may read.
const NOT_FROM_ETC: [&str; 24] = [
    "environment",
    "machine-id",
    "fstab",
    "crypttab",
    "hostname",
    "hosts",
    "resolv.conf",
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "sudoers",
    "sudoers.d",
    "krb5.keytab",
    "docker",
    "containerd",
    "containers",
    "kubernetes",
    "rancher",
    "greenroom",
    "NetworkManager",
    "wireguard",
    "letsencrypt",
    "systemd/system.control",
];
const MAX_ETC_FILE: u64 = 4 * 1024 * 1024;
const MAX_ETC_ENTRIES: usize = 20_000;
const MAX_SKELETON_DIRECTORIES: usize = 20_000;

/// The volumes of this host besides the root itself, outer ones first.
pub(crate) fn volumes() -> Vec<Volume> {
    let live = LIVE.iter().map(|(name, path, ids)| Volume { name: (*name).to_owned(), path, ids: *ids });
    let top = TOP.iter().map(|path| Volume { name: path[1..].to_owned(), path, ids: Ids::Mapped });
    live.chain(top)
        .filter(|volume| fs::symlink_metadata(volume.path).is_ok_and(|facts| facts.is_dir()))
        .collect()
}

/// Fills `root` (an empty directory) with the lowest layer of the root volume.
pub(crate) fn write_skeleton(root: &Path, ids: IdRange) -> Outcome<()> {
    for (path, mode) in EMPTY {
        make_directory(&root.join(&path[1..]), mode, 0, 0, ids)?;
    }
    for path in TOP {
        let inside = root.join(&path[1..]);
        match fs::symlink_metadata(path) {
            Ok(facts) if facts.is_symlink() => copy_link(Path::new(path), &inside, ids)?,
            Ok(facts) if facts.is_dir() => make_directory(&inside, 0o755, 0, 0, ids)?,
            _ => {}
        }
    }
    for (target, name) in [("/run", "var/run"), ("/run/lock", "var/lock")] {
        symlink(target, root.join(name)).at("symlink", name)?;
    }
    packages::write(root, ids)?;
    let mut left = MAX_ETC_ENTRIES;
    copy_readable(Path::new("/etc"), &root.join("etc"), ids, &mut left)?;
    write_identity(&root.join("etc"), "greenroom", ids)?;
    write_shadow(&root.join("etc"), ids)
}

/// Names and addresses inside: everything resolves through the broker.
pub(crate) const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n";

pub(crate) fn hosts(hostname: &str) -> String {
    format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback {hostname}\n")
}

fn write_identity(etc: &Path, hostname: &str, ids: IdRange) -> Outcome<()> {
    let files = [
        ("resolv.conf", RESOLV_CONF.to_owned()),
        ("hosts", hosts(hostname)),
        ("hostname", format!("{hostname}\n")),
        ("machine-id", String::new()),
    ];
    for (name, text) in files {
        let path = etc.join(name);
        fs::write(&path, text).at("write", &path)?;
        ids.chown(&path, 0, 0)?;
    }
    Ok(())
}

/// The host's is withheld. Without one `su` refuses everybody, root too; in this one every password is locked.
fn write_shadow(etc: &Path, ids: IdRange) -> Outcome<()> {
    let users = fs::read_to_string(etc.join("passwd")).unwrap_or_default();
    let names = users.lines().filter_map(|line| line.split(':').next()).filter(|name| !name.is_empty());
    let text: String = names.map(|name| format!("{name}:*:::::::\n")).collect();
    let path = etc.join("shadow");
    fs::write(&path, text).at("write", &path)?;
    ids.chown(&path, 0, 0)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).at("chmod", &path)
}

fn make_directory(path: &Path, mode: u32, uid: u32, gid: u32, ids: IdRange) -> Outcome<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.at("mkdir", path)?,
    }
    ids.chown(path, uid, gid)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).at("chmod", path)
}

fn copy_link(from: &Path, to: &Path, ids: IdRange) -> Outcome<()> {
    let target = fs::read_link(from).at("readlink", from)?;
    symlink(target, to).at("symlink", to)?;
    ids.chown(to, 0, 0)
}

fn copy_readable(from: &Path, to: &Path, ids: IdRange, left: &mut usize) -> Outcome<()> {
    for entry in children(from) {
        *left = left.saturating_sub(1);
        let path = from.join(&entry);
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if *left == 0 || is_withheld(&path) {
            continue;
        }
        let inside = to.join(&entry);
        if facts.is_symlink() {
            copy_link(&path, &inside, ids)?;
        } else if facts.is_dir() && facts.mode() & 0o005 == 0o005 {
            make_directory(&inside, facts.mode() & 0o1777, facts.uid(), facts.gid(), ids)?;
            copy_readable(&path, &inside, ids, left)?;
        } else if facts.is_file() && facts.mode() & 0o004 != 0 && facts.len() <= MAX_ETC_FILE {
            copy_file(&path, &inside, &facts, ids)?;
        }
    }
    Ok(())
}

fn is_withheld(path: &Path) -> bool {
    path.strip_prefix("/etc")
        .is_ok_and(|name| NOT_FROM_ETC.iter().any(|withheld| name == Path::new(withheld)))
}

/// Leaves out a file that vanished, and one that carries a password in an address.
fn copy_file(from: &Path, to: &Path, facts: &Metadata, ids: IdRange) -> Outcome<()> {
    let Ok(bytes) = fs::read(from) else { return Ok(()) };
    if has_password_in_url(&bytes) {
        return Ok(());
    }
    fs::write(to, bytes).at("write", to)?;
    ids.chown(to, facts.uid(), facts.gid())?;
    fs::set_permissions(to, Permissions::from_mode(facts.mode() & 0o777)).at("chmod", to)
}

/// `scheme://user:password@host`, the way credentials slip into readable configuration.
fn has_password_in_url(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|window| window == b"://") {
        rest = &rest[at + 3..];
        let authority = rest.iter().position(|byte| b"/ \t\n\"'<>".contains(byte)).unwrap_or(rest.len());
        let user = rest[..authority].iter().position(|byte| *byte == b'@');
        if user.is_some_and(|end| rest[..end].contains(&b':')) {
            return true;
        }
    }
    false
}

/// The directories below `from` that everyone may enter, owned by the sandbox's root, so that files can be added.
pub(crate) fn write_directories(from: &Path, to: &Path, ids: IdRange) -> Outcome<()> {
    let mut left = MAX_SKELETON_DIRECTORIES;
    let mut pending: Vec<PathBuf> = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        make_directory(&to.join(&relative), 0o755, 0, 0, ids)?;
        for name in children(&from.join(&relative)) {
            let path = from.join(&relative).join(&name);
            let is_open = fs::symlink_metadata(&path).is_ok_and(|f| f.is_dir() && f.mode() & 0o005 == 0o005);
            if is_open && left > 0 {
                left -= 1;
                pending.push(relative.join(name));
            }
        }
    }
    Ok(())
}

fn children(directory: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(directory)
        .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_seen() {
        assert!(has_password_in_url(b"deb https://me:secret@host/debian stable main"));
        assert!(has_password_in_url(b"x=http://a http://b:c@d"));
        assert!(!has_password_in_url(b"deb https://host:443/debian a@b stable"));
        assert!(!has_password_in_url(b"mail me@host"));
    }
}
