//! A file as a block device. The device frees itself when the last mount of it goes (autoclear), so a killed server
//! leaves none. Shapes and numbers: include/uapi/linux/loop.h.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const SET_CAPACITY: u64 = 0x4C07;
const CONFIGURE: u64 = 0x4C0A;
const STATUS: u64 = 0x4C05;
const GET_FREE: u64 = 0x4C82;

const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Another process may take the free device that was found.
const ATTEMPTS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const EMPTY: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Holding it keeps the device; once it is mounted, the mount does.
#[derive(Debug)]
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    _handle: OwnedFd,
}

impl LoopDevice {
    /// The device that shows `file` already (a server that was just killed may still hold its mount; the same device can
    /// be mounted again, a second one of the same file could not), or a free one.
    pub(super) fn attach(file: &File) -> io::Result<Self> {
        match Self::existing(file)? {
            Some(device) => Ok(device),
            None => Self::free(file),
        }
    }

    fn existing(file: &File) -> io::Result<Option<Self>> {
        let facts = rustix::fs::fstat(file)?;
        for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            if !entry.path().join("loop/backing_file").exists() {
                continue;
            }
            let path = Path::new("/dev").join(entry.file_name());
            let Ok(handle) = open_device(&path) else { continue };
            let mut info = EMPTY;
            // Asked after it was opened: an open device is not cleared.
            let is_ours = ioctl(handle.as_fd(), STATUS, std::ptr::from_mut(&mut info) as libc::c_ulong)
                .is_ok()
                && (info.device, info.inode) == (facts.st_dev, facts.st_ino);
            if is_ours {
                // Its file may have grown since.
                let _ = ioctl(handle.as_fd(), SET_CAPACITY, 0);
                return Ok(Some(Self { path, _handle: handle }));
            }
        }
        Ok(None)
    }

    fn free(file: &File) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let control = rustix::fs::openat(CWD, "/dev/loop-control", flags, Mode::empty())?;
        let mut last = io::Error::from_raw_os_error(libc::EBUSY);
        for _ in 0..ATTEMPTS {
            let number = ioctl(control.as_fd(), GET_FREE, 0)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let handle = open_device(&path)?;
            // Direct I/O keeps the file's blocks from being cached twice; not every file system has it.
            match configure(&handle, file, AUTOCLEAR | DIRECT_IO).or_else(|error| {
                match error.raw_os_error() {
                    Some(libc::EBUSY) => Err(error),
                    _ => configure(&handle, file, AUTOCLEAR),
                }
            }) {
                Ok(()) => return Ok(Self { path, _handle: handle }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

fn open_device(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

fn configure(device: &OwnedFd, file: &File, flags: u32) -> io::Result<()> {
    let mut config = Config {
        fd: file.as_raw_fd() as u32,
        block_size: 4096,
        info: Info { flags, ..EMPTY },
        reserved: [0; 8],
    };
    ioctl(device.as_fd(), CONFIGURE, std::ptr::from_mut(&mut config) as libc::c_ulong).map(drop)
}

fn ioctl(device: BorrowedFd<'_>, request: u64, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: `argument` is 0 for requests that take none, or the address of a value of the type that the request reads
    // and writes (`Info` for STATUS, `Config` for CONFIGURE), alive and unaliased for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
