//! Files on prompts and files that the agent publishes: received, described by their content, given back. `told` brings
//! them to the model and into the sandbox; `session::Blobs` keeps their bytes.

mod kind;
mod told;

pub(crate) use told::{Placed, files_of};

use crate::{App, Inner, Result, require};
use greenroom_directory::Counted;
use greenroom_domain::attachment::{ATTACHMENTS_LIMIT, file_name};
use greenroom_domain::{
    Attachment, AttachmentRef, BlobDigest, Entry, ErrorCode, Event, Person, Problem, Right, Role, SessionId,
};
use greenroom_session::{BlobError, Received, Shelf};
use greenroom_wire::ArtifactView;
use std::fs::File;
use std::sync::Weak;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncRead;

/// How long an upload waits for its session.
const STAGED: Duration = Duration::from_secs(24 * 60 * 60);
const EXPIRE_EVERY: Duration = Duration::from_secs(60 * 60);
const MIB: u64 = 1024 * 1024;

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentLimits {
    pub file: u64,
    /// Of all files of a session, published ones included.
    pub session: u64,
}

impl Default for AttachmentLimits {
    fn default() -> Self {
        Self { file: 20 * MIB, session: 500 * MIB }
    }
}

/// Bytes on their way in.
pub type Upload = Box<dyn AsyncRead + Send + Unpin>;

/// A stored file, to be read.
#[derive(Debug)]
pub struct BlobFile {
    pub file: File,
    pub bytes: u64,
    pub media_type: &'static str,
}

impl App {
    /// Keeps a file for a prompt of this session, or for the caller's next session, for a day. The same bytes again are
    /// the same file. `declared`: how many bytes the sender says will come.
    pub async fn attach(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        name: &str,
        declared: Option<u64>,
        upload: Upload,
    ) -> Result<Attachment> {
        let shelf = match session {
            Some(session) => Shelf::Session(self.open(caller, Right::Prompt, session).await?.id()),
            None => {
                require(caller, Role::Member)?;
                Shelf::Person(caller.id)
            }
        };
        self.inner.expect_file(caller.id, declared.unwrap_or(0)).await?;
        let limits = self.inner.config.attachments;
        let expected = declared.unwrap_or(0);
        if expected > limits.file {
            return Err(problem_of_blob(BlobError::TooLarge { limit: limits.file }));
        }
        if !self.inner.blobs.has_room(shelf, expected, limits.session).await.map_err(problem_of_blob)? {
            return Err(problem_of_blob(BlobError::Full));
        }
        // More may have come than was said: what counts is what is there, before anything can name it.
        let received = self.inner.receive(upload).await?;
        let (digest, bytes) = (received.digest.clone(), received.bytes);
        let counted = self.inner.admit_file(caller.id, session, digest.clone(), bytes).await?;
        let kept = self.inner.keep_received(shelf, name, received).await;
        if kept.is_err() && counted == Counted::New {
            self.inner.directory.uncount_file(caller.id, session, digest).await?;
        }
        kept
    }

    /// A file of the session.
    pub async fn blob(&self, caller: &Person, session: SessionId, digest: &BlobDigest) -> Result<BlobFile> {
        let handle = self.open(caller, Right::View, session).await?;
        self.inner.blob(Shelf::Session(handle.id()), digest).await
    }

    /// What the agent published in the session, oldest first.
    pub async fn artifacts(&self, caller: &Person, session: SessionId) -> Result<Vec<ArtifactView>> {
        let handle = self.open(caller, Right::View, session).await?;
        Ok(handle.conversation().await?.into_iter().filter_map(artifact).collect())
    }
}

fn artifact(entry: Entry) -> Option<ArtifactView> {
    match entry.event {
        Event::ArtifactPublished { turn, file, title, description, .. } => {
            Some(ArtifactView { seq: entry.seq, at_ms: entry.at_ms, turn, file, title, description })
        }
        _ => None,
    }
}

impl Inner {
    pub(crate) async fn keep(
        &self,
        shelf: Shelf,
        name: &str,
        bytes: impl AsyncRead + Send + Unpin,
    ) -> Result<Attachment> {
        let received = self.receive(bytes).await?;
        self.keep_received(shelf, name, received).await
    }

    /// On no shelf yet: gone with the answer.
    async fn receive(&self, bytes: impl AsyncRead + Send + Unpin) -> Result<Received> {
        self.blobs.receive(bytes, self.config.attachments.file).await.map_err(problem_of_blob)
    }

    async fn keep_received(&self, shelf: Shelf, name: &str, received: Received) -> Result<Attachment> {
        let digest = received.digest.clone();
        let most = self.config.attachments.session;
        self.blobs.keep(received, shelf, most).await.map_err(problem_of_blob)?;
        self.described(shelf, AttachmentRef { digest, name: name.to_owned() }).await
    }

    async fn blob(&self, shelf: Shelf, digest: &BlobDigest) -> Result<BlobFile> {
        let (file, bytes) = self.blobs.open_blob(shelf, digest).await.map_err(problem_of_blob)?;
        let (file, kind) = kind::of(file).await.map_err(|error| problem_of_blob(error.into()))?;
        Ok(BlobFile { file, bytes, media_type: kind.media_type })
    }

    /// The files that a prompt names, as they are on the shelf.
    pub(crate) async fn attached(&self, shelf: Shelf, named: &[AttachmentRef]) -> Result<Vec<Attachment>> {
        if named.len() > ATTACHMENTS_LIMIT {
            let message = format!("A prompt takes at most {ATTACHMENTS_LIMIT} files.");
            return Err(Problem::new(ErrorCode::InvalidRequest, message)
                .hint("Put them into one archive, or send several prompts."));
        }
        let mut files: Vec<Attachment> = Vec::with_capacity(named.len());
        for one in named {
            if files.iter().all(|known| known.digest != one.digest) {
                files.push(self.described(shelf, one.clone()).await?);
            }
        }
        Ok(files)
    }

    pub(crate) async fn described(&self, shelf: Shelf, named: AttachmentRef) -> Result<Attachment> {
        let (file, bytes) = self.blobs.open_blob(shelf, &named.digest).await.map_err(problem_of_blob)?;
        let (_, kind) = kind::of(file).await.map_err(|error| problem_of_blob(error.into()))?;
        let (width, height) = kind.size.unzip();
        Ok(Attachment {
            digest: named.digest,
            name: file_name(&named.name),
            media_type: kind.media_type.to_owned(),
            bytes,
            width,
            height,
        })
    }

    /// Gives a session that is about to be created the files that its first entries name.
    pub(crate) async fn prepare_files(
        &self,
        from: Shelf,
        session: SessionId,
        events: &[Event],
    ) -> Result<()> {
        for digest in digests(events) {
            match self.blobs.share(from, Shelf::Coming(session), vec![digest.clone()]).await {
                // The log says more than is there: whoever opens the file is told.
                Err(BlobError::Missing) => {
                    tracing::warn!(%session, digest = digest.as_str(), "a file is missing");
                }
                shared => shared.map_err(problem_of_blob)?,
            }
        }
        Ok(())
    }

    /// Of a session that was not created.
    pub(crate) async fn forget_files(&self, session: SessionId) {
        if let Err(error) = self.blobs.discard(Shelf::Coming(session)).await {
            tracing::warn!(%session, %error, "files of a session that was not made are left over");
        }
    }

    /// Until the app is gone.
    pub(crate) async fn expire_uploads(app: Weak<Self>) {
        loop {
            let Some(inner) = app.upgrade() else { return };
            if let Err(error) = inner.blobs.expire(SystemTime::now() - STAGED).await {
                tracing::warn!(%error, "old uploads are left over");
            }
            drop(inner);
            tokio::time::sleep(EXPIRE_EVERY).await;
        }
    }
}

pub(crate) fn digests(events: &[Event]) -> Vec<BlobDigest> {
    let mut digests = vec![];
    for event in events {
        match event {
            Event::PromptAccepted { attachments, .. } => {
                digests.extend(attachments.iter().map(|file| file.digest.clone()));
            }
            Event::ArtifactPublished { file, .. } => digests.push(file.digest.clone()),
            _ => {}
        }
    }
    digests.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    digests.dedup();
    digests
}

pub(crate) fn problem_of_blob(error: BlobError) -> Problem {
    match error {
        BlobError::TooLarge { limit } => {
            let message = format!("The file is larger than {} MiB.", limit / MIB);
            Problem::new(ErrorCode::TooLarge, message)
                .hint("Send a smaller file, or put it where the sandbox can fetch it.")
        }
        BlobError::Empty => Problem::new(ErrorCode::InvalidRequest, "The file is empty."),
        BlobError::Full => {
            Problem::new(ErrorCode::QuotaReached, "The session's files take all the room that they may.")
                .hint("Go on in a new session, or ask an admin to raise `session_files_mib`.")
        }
        BlobError::Missing => {
            Problem::new(ErrorCode::AttachmentUnknown, "There is no file of this digest here.")
                .hint("Upload it again; an upload waits for its session for a day.")
        }
        BlobError::BrokenOff { reason } => {
            Problem::new(ErrorCode::InvalidRequest, format!("The upload broke off: {reason}."))
                .hint("Send it again.")
        }
        BlobError::DiskFull => {
            Problem::new(ErrorCode::DiskFull, "The server's disk is full; the file was not kept.")
                .hint("Free some space on the data directory's disk and send it again.")
        }
        error @ BlobError::Unavailable { .. } => {
            Problem::new(ErrorCode::Internal, format!("The file cannot be used: {error}."))
        }
    }
}

#[cfg(test)]
mod tests;
