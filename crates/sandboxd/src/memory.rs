//! What a sandbox holds of the machine's memory, and how it is asked to let go of it.

use crate::room::Room;
use crate::sandbox::LocalSandbox;
use greenroom_sandbox::{Error, Result, Usage};
use std::fs;
use std::io;
use std::sync::Arc;

/// Mappings of one process that are advised on; the kernel takes so many at once.
const MAX_PIECES: usize = 1024;
const MAX_MAPPINGS: usize = 65_536;

pub(crate) async fn usage(sandbox: &Arc<LocalSandbox>) -> Result<Usage> {
    let group = sandbox.room().group.as_ref();
    Ok(Usage {
        memory_bytes: group.and_then(crate::cgroup::Cgroup::memory_bytes),
        processes: group.and_then(crate::cgroup::Cgroup::processes),
        disk_bytes: crate::btrfs::charged(&sandbox.workspace().join("upper")).ok(),
    })
}

pub(crate) fn has_swap() -> bool {
    // The first line is a heading.
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Advises the kernel on every process of the sandbox. Without swap nothing can leave, and nothing is asked.
pub(crate) async fn page_out(room: &Arc<Room>) -> Result<u64> {
    if !has_swap() {
        return Ok(0);
    }
    let Some(members) = room.group.as_ref().map(crate::cgroup::Cgroup::members) else { return Ok(0) };
    tokio::task::spawn_blocking(move || members.into_iter().map(page_out_process).sum())
        .await
        .map_err(|error| Error::Ended { reason: error.to_string() })
}

/// Bytes that left memory; 0 for a process that ended meanwhile or may not be advised on.
fn page_out_process(pid: i32) -> u64 {
    let before = resident(pid);
    let advised = rustix::process::Pid::from_raw(pid).is_some_and(|pid| advise(pid).is_ok());
    if advised { before.saturating_sub(resident(pid)) } else { 0 }
}

fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn advise(pid: rustix::process::Pid) -> io::Result<()> {
    use rustix::fd::AsRawFd;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero()))?;
    let pieces: Vec<libc::iovec> = maps.lines().take(MAX_MAPPINGS).filter_map(mapping).collect();
    for pieces in pieces.chunks(MAX_PIECES) {
        // SAFETY: the addresses are the other process's and are never read here; the array is live and of the length
        // given.
        let advised = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process.as_raw_fd(),
                pieces.as_ptr(),
                pieces.len(),
                libc::MADV_PAGEOUT,
                0,
            )
        };
        if advised < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A line of /proc/PID/maps, without the kernel's own mappings.
fn mapping(line: &str) -> Option<libc::iovec> {
    let (range, rest) = line.split_once(' ')?;
    if ["[vvar", "[vdso", "[vsyscall"].iter().any(|name| rest.contains(name)) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some(libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_a_range_unless_it_is_the_kernels() {
        let piece = mapping("7f00-8000 r-xp 00000000 00:00 0 /bin/sh").unwrap();
        assert_eq!((piece.iov_base.addr(), piece.iov_len), (0x7f00, 0x100));
        assert!(mapping("7ffd-8000 r--p 00000000 00:00 0 [vvar]").is_none());
        assert!(mapping("nonsense").is_none());
    }
}
