//! The build's log, `<data>/images/<image id>/build.log`: a heading for each part, then its output as it came. Kept for
//! failed builds too.

use std::io;
use std::path::Path;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Of one part or check.
pub(super) const OUTPUT_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct BuildLog {
    file: File,
    written: u64,
    /// What the current part may still write.
    allowance: u64,
    has_dropped: bool,
}

impl BuildLog {
    pub(super) async fn create(directory: &Path) -> io::Result<Self> {
        tokio::fs::create_dir_all(directory).await?;
        let path = directory.join("build.log");
        File::create(&path).await?;
        // Others may add lines of their own (`app` tells what was refused).
        let file = File::options().append(true).open(path).await?;
        Ok(Self { file, written: 0, allowance: 0, has_dropped: false })
    }

    /// Begins a part, whose output is bounded anew.
    pub(super) async fn heading(&mut self, text: &str) -> io::Result<()> {
        self.allowance = OUTPUT_LIMIT_BYTES;
        self.has_dropped = false;
        self.write(format!("== {text}\n").as_bytes()).await
    }

    /// A line of our own, outside of the bound.
    pub(super) async fn note(&mut self, text: &str) -> io::Result<()> {
        self.write(format!("== {text}\n").as_bytes()).await
    }

    /// Answers where the bytes begin in the log and how many were kept.
    pub(super) async fn output(&mut self, bytes: &[u8]) -> io::Result<(u64, usize)> {
        let kept = usize::try_from(self.allowance).unwrap_or(usize::MAX).min(bytes.len());
        let offset = self.written;
        self.write(&bytes[..kept]).await?;
        self.allowance -= kept as u64;
        if kept < bytes.len() && !self.has_dropped {
            self.has_dropped = true;
            self.note("(more output was dropped)").await?;
        }
        Ok((offset, kept))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// The last bytes of an output, from a line's beginning where it was cut.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    const BYTES: usize = 16 * 1024;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() > 2 * Self::BYTES {
            self.0.drain(..self.0.len() - Self::BYTES);
        }
    }

    pub(super) fn text(&self) -> String {
        let from = self.0.len().saturating_sub(Self::BYTES);
        let text = String::from_utf8_lossy(&self.0[from..]).into_owned();
        match text.split_once('\n') {
            Some((_, rest)) if from > 0 => rest.to_owned(),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_writes_no_more_than_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = BuildLog::create(directory.path()).await.unwrap();
        log.heading("step").await.unwrap();
        let half = vec![b'x'; OUTPUT_LIMIT_BYTES as usize / 2 + 1];
        let (first, kept) = log.output(&half).await.unwrap();
        assert_eq!((first, kept), (8, half.len()));
        assert_eq!(log.output(&half).await.unwrap().1, half.len() - 2);
        assert_eq!(log.output(&half).await.unwrap().1, 0);
        log.heading("next").await.unwrap();
        assert_eq!(log.output(b"y").await.unwrap().1, 1);
        let text = std::fs::read(directory.path().join("build.log")).unwrap();
        assert_eq!(text.len() as u64, OUTPUT_LIMIT_BYTES + 8 + 29 + 8 + 1);
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut tail = Tail::default();
        for line in 0..10_000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        assert!(tail.text().ends_with("line 9999\n") && tail.text().starts_with("line "));
        assert!(tail.text().len() <= Tail::BYTES);
    }
}
