//! A build's log, followed from its beginning to the build's end.

use super::view_of;
use crate::App;
use greenroom_domain::ImageId;
use greenroom_wire::BuildFrame;
use std::io::SeekFrom;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

const LOG_CHUNK: u64 = 64 * 1024;

/// A build's log as it grows.
#[derive(Debug)]
pub struct BuildLogStream {
    pub(super) app: App,
    pub(super) image: ImageId,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// `None` once the build is over.
    pub(super) written: Option<watch::Receiver<u64>>,
    /// Bytes of a character that is not complete yet.
    pub(super) partial: Vec<u8>,
    pub(super) is_over: bool,
}

impl BuildLogStream {
    /// The next frame; `None` after `Finished`.
    pub async fn next(&mut self) -> Option<BuildFrame> {
        while !self.is_over {
            if let Some(text) = self.read().await {
                return Some(BuildFrame::Output { text });
            }
            match &mut self.written {
                Some(written) => {
                    if written.changed().await.is_err() {
                        self.written = None;
                    }
                }
                None => self.is_over = true,
            }
            if self.is_over {
                let row = self.app.inner.image_row(self.image).await.ok()?;
                return Some(BuildFrame::Finished { image: view_of(row) });
            }
        }
        None
    }

    async fn read(&mut self) -> Option<String> {
        let mut file = tokio::fs::File::open(&self.path).await.ok()?;
        file.seek(SeekFrom::Start(self.offset)).await.ok()?;
        let mut bytes = std::mem::take(&mut self.partial);
        let read = file.take(LOG_CHUNK).read_to_end(&mut bytes).await.ok()?;
        self.offset += read as u64;
        if read == 0 {
            return None;
        }
        let text = crate::text::take_complete(&mut bytes);
        self.partial = bytes;
        Some(text)
    }
}
