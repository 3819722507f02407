//! What one process holds and uses, as the kernel counts it.

use std::fs;
use std::io::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Linux counts in these units for every program, whatever the kernel's own tick is (`man 7 time`).
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Debug)]
pub(crate) struct Process {
    directory: PathBuf,
}

impl Process {
    pub(crate) fn new(id: u32) -> Self {
        Self { directory: PathBuf::from("/proc").join(id.to_string()) }
    }

    /// Resident bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(self.directory.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| Error::other("the process has no VmRSS"))
    }

    /// Time on processors so far, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.directory.join("stat"))?;
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: std::result::Result<u64, _> = ticks.sum();
        let ticks = ticks.map_err(Error::other)?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Open descriptors of such files, by their names.
    pub(crate) fn open_files(&self, is_counted: impl Fn(&str) -> bool) -> Result<usize> {
        let links = fs::read_dir(self.directory.join("fd"))?.flatten();
        let paths = links.filter_map(|link| fs::read_link(link.path()).ok());
        Ok(paths.filter(|path| is_counted(&path.to_string_lossy())).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory_used_time_and_has_files_open() {
        let here = Process::new(std::process::id());
        assert!(here.resident().unwrap() > 1 << 20);
        let file = tempfile::Builder::new().suffix(".counted").tempfile().unwrap();
        assert_eq!(here.open_files(|path| path.ends_with(".counted")).unwrap(), 1);
        drop(file);
        assert_eq!(here.open_files(|path| path.ends_with(".counted")).unwrap(), 0);
        let before = here.cpu().unwrap();
        // Until the clock of the process has moved.
        while here.cpu().unwrap() <= before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
    }
}
