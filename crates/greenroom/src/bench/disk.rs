//! What one durable write costs on this machine: the floor under every acknowledged command.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Overwrites one 4 KiB block and syncs it, `n` times, on the disk of `directory`.
pub(crate) fn fdatasync(directory: &Path, n: u32) -> std::io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(directory)?;
    let block = [0x5a_u8; 4096];
    (0..n)
        .map(|_| {
            let begun = Instant::now();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&block)?;
            file.sync_data()?;
            Ok(begun.elapsed())
        })
        .collect()
}
