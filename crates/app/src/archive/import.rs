//! Makes a session of a file from anywhere. All of it is checked before anything of it is kept, and the session is there with
//! everything or not at all. Nothing in it acts: no turn runs, no prompt waits, nobody has a right by it but who imports.

use super::carried::{Carried, People, carried};
use super::unfinished::{self, branch_of};
use super::{blocking, damaged, problem_of_archive, unwritten};
use crate::attachments::{Upload, digests, problem_of_blob};
use crate::sessions::{bounded, title_of};
use crate::{App, Inner, Result, require};
use greenroom_archive::{Limits, Manifest, Unpacked};
use greenroom_directory::{Remembered, RepositoryRow};
use greenroom_domain::access::unknown_session;
use greenroom_domain::event::{ImportPoint, ImportedWork};
use greenroom_domain::{
    Attachment, AttachmentRef, Author, BlobDigest, CommandId, ErrorCode, Event, ModelChoice, Person,
    PersonId, Problem, RepositoryName, Role, SessionId,
};
use greenroom_forge::Incoming;
use greenroom_session::{BlobError, Received, Shelf};
use greenroom_wire::SessionView;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use tempfile::TempDir;

/// What a session is made of, checked.
struct Prepared {
    events: Vec<Event>,
    work: Option<greenroom_forge::Work>,
}

impl App {
    /// Makes a session of an exported one, in the repository of the same name or in the one that is named. The key makes
    /// a repetition with the same file answer the same session.
    pub async fn import_session(
        &self,
        caller: &Person,
        key: &CommandId,
        repository: Option<&RepositoryName>,
        upload: Upload,
    ) -> Result<SessionView> {
        require(caller, Role::Member)?;
        self.inner.may_begin()?;
        let received = self.inner.receive_archive(upload).await?;
        let digest = Sha256::digest(format!("{} {repository:?}", received.digest)).into();
        let (at, random) = self.inner.id_parts();
        let fresh = SessionId::from_parts(at, random);
        let scope = format!("import-session/{}", caller.id);
        let now_ms = self.inner.now_ms();
        let key = key.as_str().to_owned();
        let session =
            match self.inner.directory.remember(scope, key, digest, fresh.to_string(), now_ms).await? {
                Remembered::New => fresh,
                Remembered::Same(known) => known.parse().map_err(|_| unknown_session())?,
                Remembered::Different => {
                    return Err(Problem::new(
                        ErrorCode::KeyReused,
                        "This idempotency key was used for another import.",
                    )
                    .hint("Make a new key for every new session."));
                }
            };
        // The same key twice at once makes one session.
        let track = self.inner.snapshots.track(session);
        let made = {
            let _one = track.turn.lock().await;
            Box::pin(self.import_once(caller, session, repository, received)).await
        };
        if made.is_err() {
            self.inner.snapshots.let_go(session, &track);
        }
        made
    }

    async fn import_once(
        &self,
        caller: &Person,
        session: SessionId,
        repository: Option<&RepositoryName>,
        received: Received,
    ) -> Result<SessionView> {
        self.inner.not_deleted(session).await?;
        match self.inner.sessions().get(session).await {
            Ok(handle) => return self.inner.session_view(caller, &handle).await,
            Err(problem) if problem.code == ErrorCode::SessionUnknown => {}
            Err(problem) => return Err(problem),
        }
        let _place = self.inner.archives.enter().await?;
        let (unpacked, scratch) = self.inner.unpack(received).await?;
        let repository = self.inner.target(repository, &unpacked.manifest).await?;
        let made = self.inner.import(caller, session, &repository, unpacked).await;
        drop(scratch);
        made
    }
}

impl Inner {
    async fn receive_archive(&self, upload: Upload) -> Result<Received> {
        let most = self.config.archive_bytes;
        self.blobs.receive(upload, most).await.map_err(|error| match error {
            BlobError::TooLarge { limit } => super::too_large("its file", limit),
            BlobError::Empty => damaged("it is empty"),
            error => problem_of_blob(error),
        })
    }

    /// Into a directory of its own, which goes with what is answered beside.
    async fn unpack(&self, received: Received) -> Result<(Unpacked, TempDir)> {
        let scratch = self.blobs.scratch().map_err(|error| unwritten(&error))?;
        let limits = Limits { bytes: self.config.archive_bytes };
        blocking(move || {
            let file = received.open().map_err(|error| unwritten(&error))?;
            let unpacked =
                greenroom_archive::read(file, limits, scratch.path()).map_err(problem_of_archive)?;
            Ok((unpacked, scratch))
        })
        .await
    }

    async fn target(&self, named: Option<&RepositoryName>, manifest: &Manifest) -> Result<RepositoryRow> {
        let name = named.unwrap_or(&manifest.session.repository);
        self.repository_row(name).await.map_err(|problem| match (problem.code, named) {
            (ErrorCode::RepositoryUnknown, None) => Problem::new(
                ErrorCode::RepositoryUnknown,
                format!("The session is about the repository {name}, which is not here."),
            )
            .hint("Name the repository that it is to go on in, or register that one first."),
            _ => problem,
        })
    }

    async fn import(
        &self,
        caller: &Person,
        session: SessionId,
        repository: &RepositoryRow,
        unpacked: Unpacked,
    ) -> Result<SessionView> {
        let made = async {
            let files = self.take_files(caller, session, &unpacked).await?;
            let prepared = self.prepare(caller, session, repository, &unpacked, &files).await?;
            self.admit_session(caller.id, session).await?;
            if let (Some(work), Some(bundle)) = (&prepared.work, unpacked.bundle_path()) {
                unfinished::note(&self.config.data_dir, session, repository.id)
                    .map_err(|error| unwritten(&error))?;
                let branch = branch_of(session);
                let bundle = Incoming { branch: &branch, work, by: caller.id, from: &bundle };
                self.forge.take_bundle(repository.id, bundle).await?;
            }
            let handle = self.sessions().create(session, prepared.events).await?;
            unfinished::forget(&self.config.data_dir, session);
            for (digest, file) in files {
                // The session is there: who is told otherwise would make another.
                let (now_ms, of) = (self.now_ms(), Some(session));
                let counted =
                    self.directory.count_file(caller.id, of, digest, file.bytes, now_ms, None).await;
                if let Err(error) = counted {
                    tracing::warn!(%session, %error, "a file of an imported session is not counted");
                }
            }
            self.session_view(caller, &handle).await
        };
        let made: Result<SessionView> = made.await;
        // The session itself says whether it is there: after its creation nothing is undone.
        let is_missing = async || {
            self.sessions()
                .head_seq(session)
                .await
                .is_err_and(|problem| problem.code == ErrorCode::SessionUnknown)
        };
        if made.is_err() && is_missing().await {
            self.session_is_gone(session);
            self.forget_files(session).await;
            self.undo_import(session, repository.id).await;
        }
        made
    }

    /// Puts the files where the session will find them, and says what each of them is.
    async fn take_files(
        &self,
        caller: &Person,
        session: SessionId,
        unpacked: &Unpacked,
    ) -> Result<HashMap<BlobDigest, Attachment>> {
        let named = unpacked.entries.iter().flat_map(|entry| digests(std::slice::from_ref(&entry.event)));
        let named: HashSet<BlobDigest> = named.collect();
        let there: HashSet<BlobDigest> = unpacked.blobs().collect();
        if !there.is_subset(&named) {
            return Err(damaged("it holds a file that its log does not name"));
        }
        let is_absent =
            |digest: &&BlobDigest| !there.contains(digest) && !unpacked.manifest.missing.contains(digest);
        if named.iter().any(|digest| is_absent(&digest)) {
            return Err(damaged("its log names a file that it does not hold"));
        }
        let members = &unpacked.manifest.members;
        let bytes =
            members.iter().filter(|member| member.digest().is_some()).map(|member| member.bytes).sum();
        if bytes > 0 {
            self.expect_file(caller.id, bytes).await?;
        }
        let (shelf, limits) = (Shelf::Coming(session), self.config.attachments);
        let mut files = HashMap::new();
        for digest in there {
            let path = unpacked.blob_path(&digest);
            let file = tokio::fs::File::open(path).await.map_err(|error| unwritten(&error))?;
            let received = self.blobs.receive(file, limits.file).await.map_err(problem_of_blob)?;
            self.blobs.keep(received, shelf, limits.session).await.map_err(problem_of_blob)?;
            let named = AttachmentRef { digest: digest.clone(), name: String::new() };
            files.insert(digest, self.described(shelf, named).await?);
        }
        Ok(files)
    }

    async fn prepare(
        &self,
        caller: &Person,
        session: SessionId,
        repository: &RepositoryRow,
        unpacked: &Unpacked,
        files: &HashMap<BlobDigest, Attachment>,
    ) -> Result<Prepared> {
        let manifest = &unpacked.manifest;
        let Some(Event::SessionCreated { base_branch, budget, .. }) =
            unpacked.entries.first().map(|entry| entry.event.clone())
        else {
            return Err(damaged("its log does not begin with a session"));
        };
        let mut people = self.acquaintances(manifest).await?;
        let Carried { mut events, title, team_access, choice, turn } =
            carried(&unpacked.entries, &mut people)?;
        events.iter_mut().for_each(|event| redescribe(event, files));
        let base_branch = match self.forge.branch_head(repository.id, &base_branch).await? {
            Some(_) => base_branch,
            None => repository.default_branch.clone(),
        };
        let choice = match self.check_choice(&choice).await {
            Ok(()) => choice,
            Err(_) => ModelChoice::default(),
        };
        let work = manifest.work.as_ref();
        let point = ImportPoint {
            session: manifest.session.id,
            exported_at_ms: manifest.exported_at_ms,
            exported_by: title_of(Some(&one_line(&manifest.exported_by.name)), None),
            turn,
            work: work.map(|work| ImportedWork { head: work.head.clone(), base: work.base.clone() }),
        };
        let created = Event::SessionCreated {
            repository: repository.id,
            repository_name: repository.name.clone(),
            title: title_of(Some(&one_line(&title)), None),
            author: caller.as_author(),
            branch: branch_of(session),
            base_branch,
            model: choice.model,
            effort: choice.effort,
            budget: bounded(budget, self.config.budget),
            image: self.directory.newest_ready_image(repository.id).await?.map(|image| image.id),
            forked_from: None,
            imported_from: Some(point),
            parent: None,
            team_access,
        };
        events.insert(0, created);
        if work.is_some() {
            // Also in what is forked from it: whoever brought the commits may have made them.
            events.push(Event::CommandsBegun { by: caller.as_author() });
        }
        let work =
            work.map(|work| greenroom_forge::Work { head: work.head.clone(), base: work.base.clone() });
        Ok(Prepared { events, work })
    }

    /// Those of the manifest whom this installation knows by the same login.
    async fn acquaintances(&self, manifest: &Manifest) -> Result<Acquaintances<'_>> {
        let here = self.directory.people().await?;
        let by_login: HashMap<_, _> = here.into_iter().map(|person| (person.login.clone(), person)).collect();
        let known = manifest.people.iter();
        let known = known.filter_map(|known| Some((known.id, by_login.get(&known.login)?.clone()))).collect();
        Ok(Acquaintances { app: self, known, strangers: HashMap::new() })
    }
}

/// Who somebody of the file is here. Nobody else's id is taken from it: whoever is not known gets one that nobody has.
struct Acquaintances<'a> {
    app: &'a Inner,
    known: HashMap<PersonId, Person>,
    strangers: HashMap<PersonId, PersonId>,
}

impl People for Acquaintances<'_> {
    fn author(&mut self, author: &Author) -> Author {
        match self.known.get(&author.on_behalf_of) {
            Some(person) => Author { via: author.via, ..person.as_author() },
            None => Author { on_behalf_of: self.person(author.on_behalf_of), ..author.clone() },
        }
    }

    fn person(&mut self, person: PersonId) -> PersonId {
        match self.known.get(&person) {
            Some(known) => known.id,
            None => *self.strangers.entry(person).or_insert_with(|| {
                let (at, random) = self.app.id_parts();
                PersonId::from_parts(at, random)
            }),
        }
    }
}

/// A file is what its bytes are, whatever the log says of it.
fn redescribe(event: &mut Event, files: &HashMap<BlobDigest, Attachment>) {
    let said: &mut [Attachment] = match event {
        Event::PromptAccepted { attachments, .. } => attachments,
        Event::ArtifactPublished { file, .. } => std::slice::from_mut(file),
        _ => return,
    };
    for file in said {
        let name = greenroom_domain::attachment::file_name(&file.name);
        *file = match files.get(&file.digest) {
            Some(found) => Attachment { name, ..found.clone() },
            None => Attachment {
                name,
                media_type: "application/octet-stream".to_owned(),
                width: None,
                height: None,
                ..file.clone()
            },
        };
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
