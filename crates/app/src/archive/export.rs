//! Takes a session out: its log up to one entry, the files that it names, and the commits of its branch. What is in the
//! sandbox and not pushed, drafts, read positions and links stay here.

use super::{blocking, problem_of_archive, too_large, unwritten};
use crate::attachments::{digests, problem_of_blob};
use crate::{App, Inner, Result};
use greenroom_archive::{Described, Exporter, KIND, Known, Manifest, Member, SessionFacts, Work, describe};
use greenroom_domain::access::unknown_session;
use greenroom_domain::{
    BlobDigest, Entry, ErrorCode, Event, Person, PersonId, Problem, Right, SessionId, SessionState,
};
use greenroom_session::{BlobError, SessionHandle, Shelf};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

const PAGE: usize = 1000;
const LOG_FILE: &str = "log";
const BUNDLE_FILE: &str = "bundle";

/// A whole archive, to be sent. Its room is free again when it is dropped.
#[derive(Debug)]
pub struct ExportedSession {
    pub file: File,
    pub bytes: u64,
    /// What the file may be called.
    pub name: String,
}

/// What the log says beside itself.
#[derive(Default)]
struct Named {
    files: BTreeSet<String>,
    people: HashSet<PersonId>,
}

impl App {
    /// The session as one file, as of now. Whoever may let others into the session may take it out: a file lets in whoever
    /// gets hold of it, and who was only let in to look lets in nobody.
    pub async fn export_session(&self, caller: &Person, id: SessionId) -> Result<ExportedSession> {
        let handle = self.open(caller, Right::Share, id).await?;
        let _place = self.inner.archives.enter().await?;
        self.inner.export(caller, &handle).await
    }
}

impl Inner {
    async fn export(&self, caller: &Person, handle: &SessionHandle) -> Result<ExportedSession> {
        let scratch = self.blobs.scratch().map_err(|error| unwritten(&error))?;
        let (session, most) = (handle.id(), self.config.archive_bytes);
        let state = handle.state().await?;
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        if state.head_seq > greenroom_archive::ENTRIES_LIMIT {
            let message = "The session is too large for one file: its log has too many entries.";
            return Err(Problem::new(ErrorCode::TooLarge, message)
                .hint("Fork it, and export the fork: that leaves out what only the old one needs."));
        }
        let named = write_log(handle, state.head_seq, scratch.path().join(LOG_FILE), most).await?;
        let log = described(Described::Log, scratch.path().join(LOG_FILE)).await?;
        let mut members = vec![log];
        let (files, missing) = self.files_named(session, &named.files).await?;
        members.extend(files);
        let bundle = scratch.path().join(BUNDLE_FILE);
        let work = self.work_of(&state, &bundle).await?;
        if work.is_some() {
            members.push(described(Described::Bundle, bundle).await?);
        }
        let people = self.directory.people().await?;
        let manifest = Manifest {
            kind: KIND.to_owned(),
            format: greenroom_archive::FORMAT,
            product: env!("CARGO_PKG_VERSION").to_owned(),
            exported_at_ms: self.now_ms(),
            exported_by: Exporter { login: caller.login.clone(), name: caller.name.clone() },
            session: SessionFacts {
                id: session,
                title: state.title.clone(),
                repository: origin.repository_name.clone(),
                base_branch: origin.base_branch.clone(),
                entries: state.head_seq,
            },
            people: people
                .into_iter()
                .filter(|person| named.people.contains(&person.id))
                .map(|person| Known { id: person.id, login: person.login })
                .collect(),
            work,
            missing,
            members,
        };
        if manifest.bytes() > most {
            return Err(too_large("what belongs to it", most));
        }
        let name = file_name(&state.title, session);
        let blobs = self.blobs.clone();
        let written = move || {
            let open = |member: &Member| match member.digest() {
                Some(digest) => blobs.open_now(Shelf::Session(session), &digest),
                None if member.is_log() => File::open(scratch.path().join(LOG_FILE)),
                None => File::open(scratch.path().join(BUNDLE_FILE)),
            };
            let archive = tempfile::tempfile_in(scratch.path()).map_err(|error| unwritten(&error))?;
            write(archive, &manifest, open)
        };
        let (file, bytes) = blocking(written).await?;
        if bytes > most {
            return Err(too_large("its file", most));
        }
        Ok(ExportedSession { file, bytes, name })
    }

    /// Files that the log names: those that are there, and those that are not any more.
    async fn files_named(
        &self,
        session: SessionId,
        named: &BTreeSet<String>,
    ) -> Result<(Vec<Member>, Vec<BlobDigest>)> {
        let (mut there, mut missing) = (vec![], vec![]);
        for digest in named {
            let digest: BlobDigest = digest.parse().expect("it was one");
            match self.blobs.open_blob(Shelf::Session(session), &digest).await {
                Ok((_, bytes)) => there.push(Member::blob(&digest, bytes)),
                Err(BlobError::Missing) => missing.push(digest),
                Err(error) => return Err(problem_of_blob(error)),
            }
        }
        Ok((there, missing))
    }

    /// What the session's branch at the forge has over the commit that it began at.
    async fn work_of(&self, state: &SessionState, to: &Path) -> Result<Option<Work>> {
        let Some(origin) = &state.origin else { return Ok(None) };
        let begun = state.workspace.base_commit.as_ref();
        let imported = origin.imported_from.as_ref().and_then(|point| point.work.as_ref());
        let base = match begun.or_else(|| imported.and_then(|work| work.base.as_ref())) {
            Some(base) => Some(base.clone()),
            None => self.forge.branch_head(origin.repository, &origin.base_branch).await?,
        };
        let written = self.forge.bundle(origin.repository, &origin.branch, base.as_ref(), to).await?;
        Ok(written.map(|work| Work { head: work.head, base: work.base }))
    }
}

/// Up to this entry, piece by piece.
async fn write_log(handle: &SessionHandle, head: u64, to: PathBuf, most: u64) -> Result<Named> {
    let open = move || File::create_new(to).map_err(|error| unwritten(&error));
    let mut log = BufWriter::new(blocking(open).await?);
    let (mut after, mut named) = (0, Named::default());
    while after < head {
        let mut page = handle.entries(after, PAGE).await?;
        page.retain(|entry| entry.seq <= head);
        let Some(last) = page.last() else { break };
        after = last.seq;
        named.note(&page);
        let wrote = move || {
            greenroom_archive::write_log(&mut log, &page).map_err(|error| unwritten(&error))?;
            log.flush().map_err(|error| unwritten(&error))?;
            let bytes = log.get_ref().metadata().map_err(|error| unwritten(&error))?.len();
            Ok((log, bytes))
        };
        let (again, bytes) = blocking(wrote).await?;
        log = again;
        let most = most.min(greenroom_archive::LOG_LIMIT);
        if bytes > most {
            return Err(too_large("its log", most));
        }
    }
    Ok(named)
}

impl Named {
    fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.files.extend(digests(std::slice::from_ref(&entry.event)).iter().map(ToString::to_string));
            match &entry.event {
                Event::SessionCreated { author, .. }
                | Event::PromptAccepted { author, .. }
                | Event::CommandsBegun { by: author } => {
                    self.people.insert(author.on_behalf_of);
                }
                Event::PromptEdited { by, .. } => {
                    self.people.insert(*by);
                }
                _ => {}
            }
        }
    }
}

async fn described(what: Described, path: PathBuf) -> Result<Member> {
    blocking(move || {
        let file = File::open(path).map_err(|error| unwritten(&error))?;
        describe(what, file).map_err(|error| unwritten(&error))
    })
    .await
}

fn write<R: Read>(
    archive: File,
    manifest: &Manifest,
    mut open: impl FnMut(&Member) -> std::io::Result<R>,
) -> Result<(File, u64)> {
    let mut to = BufWriter::new(archive);
    greenroom_archive::write(&mut to, manifest, |member| open(member).map(BufReader::new))
        .map_err(problem_of_archive)?;
    let rewound = || {
        let mut archive = to.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        archive.rewind()?;
        let bytes = archive.metadata()?.len();
        Ok((archive, bytes))
    };
    rewound().map_err(|error: std::io::Error| unwritten(&error))
}

/// The title in what every file system takes, and where it came from.
fn file_name(title: &str, session: SessionId) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut name: String = words.collect::<Vec<_>>().join("-").to_lowercase().chars().take(60).collect();
    if name.is_empty() {
        name = session.to_string();
    }
    format!("{name}.greenroom")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_as_the_session_is() {
        let session = SessionId::from_parts(1, 1);
        assert_eq!(
            file_name("Fix: the ../parser, für Jürgen", session),
            "fix-the-parser-für-jürgen.greenroom"
        );
        assert_eq!(file_name("…", session), format!("{session}.greenroom"));
    }
}
