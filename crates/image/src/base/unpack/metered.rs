//! The `tar` crate reads long names and attributes of an entry into memory as long as the archive says they are, and an
//! archive of a few kilobytes can say gigabytes. So what is read to find an entry is bounded; what is in it is not.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use tar::{Archive, Entries, Entry};

/// Headers, names and attributes of one entry.
const MOST: u64 = 1024 * 1024;

/// Shared with the reader below the archive.
#[derive(Clone, Default)]
struct Allowance(Rc<Cell<Option<u64>>>);

pub(crate) struct Metered<R> {
    reader: R,
    allowance: Allowance,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.allowance.0.get() else { return self.reader.read(buffer) };
        if left == 0 {
            return Err(io::Error::other(format!("a name in it is longer than {} KiB", MOST / 1024)));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        self.allowance.0.set(Some(left - read as u64));
        Ok(read)
    }
}

/// Calls `visit` with each entry, then passes over what is left of it.
pub(crate) fn each<R: Read>(
    reader: R,
    mut visit: impl FnMut(&mut Entry<'_, Metered<R>>) -> io::Result<()>,
) -> io::Result<()> {
    let allowance = Allowance::default();
    let mut archive = Archive::new(Metered { reader, allowance: allowance.clone() });
    let mut entries: Entries<'_, Metered<R>> = archive.entries()?;
    loop {
        allowance.0.set(Some(MOST));
        let Some(entry) = entries.next() else { return Ok(()) };
        allowance.0.set(None);
        let mut entry = entry?;
        visit(&mut entry)?;
        io::copy(&mut entry, &mut io::sink())?;
    }
}
