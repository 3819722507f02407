//! What the machine must have. On Debian and as root it is installed; otherwise the one command to run is said, and
//! the verb goes on where it can.

use crate::process::{self, find, is_root};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Something that is looked for, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    is_there: fn() -> bool,
}

const FOR_DEMO: &[Need] = &[
    Need { what: "git", packages: &["git"], is_there: || find("git").is_some() },
    Need { what: "Python", packages: &["python3"], is_there: || find("python3").is_some() },
    Need { what: "a C compiler", packages: &["gcc"], is_there: || find("cc").is_some() },
    Need { what: "the static C library", packages: &["libc6-dev"], is_there: has_static_libc },
    Need {
        what: "certificates",
        packages: &["ca-certificates"],
        is_there: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
    },
    Need {
        what: "btrfs, for bounded disks of sandboxes",
        packages: &["btrfs-progs"],
        is_there: || find("mkfs.btrfs").is_some() || Path::new("/sbin/mkfs.btrfs").exists(),
    },
    Need { what: "Node and npm", packages: &["nodejs", "npm"], is_there: || find("npm").is_some() },
];

const FOR_TESTS: &[Need] = &[Need {
    what: "Chromium",
    packages: &["chromium"],
    is_there: || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| find(name).is_some()),
}];

const FOR_IMAGES: &[Need] =
    &[Need { what: "mmdebstrap", packages: &["mmdebstrap"], is_there: || find("mmdebstrap").is_some() }];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Demo,
    Tests,
    Images,
}

/// Installs what is missing, or says how to.
pub(crate) fn install(purpose: Purpose) -> Result<()> {
    let more = match purpose {
        Purpose::Demo => &[],
        Purpose::Tests => FOR_TESTS,
        Purpose::Images => FOR_IMAGES,
    };
    let missing: Vec<&Need> = FOR_DEMO.iter().chain(more).filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let command =
        format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        missing
            .iter()
            .for_each(|need| println!("Missing: {} (Debian: {}).", need.what, need.packages.join(" ")));
        return Ok(());
    }
    if !is_root() {
        missing.iter().for_each(|need| println!("Missing: {}.", need.what));
        println!("To install it, run as root:\n  {command}");
        return Ok(());
    }
    missing.iter().for_each(|need| eprintln!("Installing {} ({}).", need.what, need.packages.join(" ")));
    process::run(apt_get().args(["-qq", "update"]))?;
    process::run(apt_get().args(["-qq", "install", "-y", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The compiler answers with a path where it has the file, otherwise with the name alone.
fn has_static_libc() -> bool {
    let asked = Command::new("cc").arg("-print-file-name=libc.a").output();
    asked.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute())
}
