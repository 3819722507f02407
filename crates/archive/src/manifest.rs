//! The first member: what the file is, whose session it was, and what else is in it, with sizes and digests.

use crate::{Error, FILES_LIMIT, LOG_LIMIT, Result, damaged};
use greenroom_domain::{BlobDigest, BranchName, CommitHash, LoginName, PersonId, RepositoryName, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Says that a file is one of these.
pub const KIND: &str = "greenroom-session";
/// Raised when a reader of the last one could not read it.
pub const FORMAT: u32 = 1;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const LOG: &str = "log.ndjson";
pub(crate) const BUNDLE: &str = "work.bundle";
const BLOBS: &str = "blobs/";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub kind: String,
    pub format: u32,
    /// The program's version that wrote it.
    pub product: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub exported_at_ms: i64,
    pub exported_by: Exporter,
    pub session: SessionFacts,
    /// Who is named in the log and known where it was exported.
    pub people: Vec<Known>,
    /// The session's branch at the forge; `None`: it had none.
    pub work: Option<Work>,
    /// Digests of files that the log names and that were not there any more.
    #[serde(default)]
    pub missing: Vec<BlobDigest>,
    /// All other members, in the order in which they follow. The log is the first.
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exporter {
    pub login: LoginName,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    pub id: SessionId,
    pub title: String,
    pub repository: RepositoryName,
    pub base_branch: BranchName,
    /// How many entries the log has.
    pub entries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub id: PersonId,
    pub login: LoginName,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub head: CommitHash,
    /// What the bundle needs to be there; `None`: it is complete.
    pub base: Option<CommitHash>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// What a member is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Log,
    Blob(BlobDigest),
    Bundle,
}

impl Member {
    pub(crate) fn place(&self) -> Option<Place> {
        match self.name.as_str() {
            LOG => Some(Place::Log),
            BUNDLE => Some(Place::Bundle),
            name => name.strip_prefix(BLOBS)?.parse().ok().map(Place::Blob),
        }
    }

    /// A file of the session.
    pub fn blob(digest: &BlobDigest, bytes: u64) -> Self {
        Self { name: format!("{BLOBS}{digest}"), bytes, sha256: digest.as_str().to_owned() }
    }

    /// `Some`: it is a file of the session.
    pub fn digest(&self) -> Option<BlobDigest> {
        match self.place() {
            Some(Place::Blob(digest)) => Some(digest),
            _ => None,
        }
    }

    pub fn is_log(&self) -> bool {
        self.name == LOG
    }
}

impl Manifest {
    /// All of the members, in bytes.
    pub fn bytes(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.bytes))
    }

    pub(crate) fn parse(text: &[u8], most_bytes: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            format: u32,
        }
        let head: Head = serde_json::from_slice(text).map_err(|_| no_manifest())?;
        if head.kind != KIND {
            return Err(no_manifest());
        }
        if head.format > FORMAT {
            return Err(Error::TooNew { found: head.format });
        }
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| damaged(format!("its manifest cannot be read: {error}")))?;
        manifest.check(most_bytes)?;
        Ok(manifest)
    }

    fn check(&self, most_bytes: u64) -> Result<()> {
        if self.members.len() > FILES_LIMIT + 1 {
            return Err(damaged(format!("it names more than {FILES_LIMIT} files")));
        }
        if !self.members.first().is_some_and(Member::is_log) {
            return Err(damaged("the log does not come first"));
        }
        let mut seen = HashSet::new();
        for member in &self.members {
            let place =
                member.place().ok_or_else(|| damaged(format!("it names {:?}", short(&member.name))))?;
            if !seen.insert(&member.name) {
                return Err(damaged(format!("it names {:?} twice", member.name)));
            }
            if matches!(&place, Place::Blob(digest) if digest.as_str() != member.sha256) {
                return Err(damaged(format!("{} is listed with another digest", member.name)));
            }
        }
        let has_bundle = self.members.iter().any(|member| member.place() == Some(Place::Bundle));
        if has_bundle != self.work.is_some() {
            return Err(damaged("it does not say what its work is"));
        }
        if self.members[0].bytes > LOG_LIMIT {
            return Err(Error::TooLarge { what: "the log in it", limit: LOG_LIMIT });
        }
        if self.bytes() > most_bytes {
            return Err(Error::TooLarge { what: "what is in it", limit: most_bytes });
        }
        Ok(())
    }
}

pub(crate) fn no_manifest() -> Error {
    damaged("it does not begin with a session's manifest")
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}
