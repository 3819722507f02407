//! What the fake answers: each use case with next to nothing behind it.

use super::{Fake, PAGE, PAST, Result, ada, ben, entry, problem, session_id, session_view};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use greenroom_api::{BuildFrames, Frames, Preview, SessionsFrames, UseCases, WebSession};
use greenroom_app::{
    Archived, BlobFile, ExportedSession, GitService, HookCall, PreviewUse, RightsChanges, SharedFrame,
    StatisticsRange, Upload,
};
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{
    Attachment, BlobDigest, ChangeId, Command, CommandId, ErrorCode, ExchangeName, ImageId, Person,
    RepositoryName, Right, Role, SessionId, ShareLinkId,
};
use greenroom_telemetry::Gauges;
use greenroom_wire::*;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

fn unused<T>() -> Result<T> {
    Err(problem(ErrorCode::Internal))
}

#[async_trait]
impl UseCases for Fake {
    async fn readiness(&self) -> Readiness {
        Readiness { is_ready: true, checks: vec![] }
    }

    fn is_draining(&self) -> bool {
        false
    }

    async fn machine(&self, _: &Person) -> Result<Machine> {
        Ok(Machine { mode: "fake".into(), capabilities: vec![] })
    }
    async fn retention(&self, _: &Person) -> Result<RetentionView> {
        unused()
    }
    async fn retention_plan(&self, _: &Person) -> Result<RetentionReport> {
        unused()
    }
    async fn run_retention(&self, _: &Person) -> Result<RetentionReport> {
        unused()
    }
    async fn machine_resources(&self, _: &Person) -> Result<MachineResources> {
        unused()
    }
    async fn metrics(&self, caller: &Person, gauges: Gauges) -> Result<String> {
        match caller.role {
            Role::Admin => self.local_metrics(gauges).await,
            _ => Err(problem(ErrorCode::NotAllowed)),
        }
    }
    async fn local_metrics(&self, gauges: Gauges) -> Result<String> {
        Ok(self.telemetry.render(&gauges))
    }
    async fn session_trace(&self, _: &Person, _: SessionId, _: Option<u64>) -> Result<Vec<TurnTrace>> {
        Ok(vec![])
    }
    async fn session_context(&self, _: &Person, _: SessionId) -> Result<ContextView> {
        Err(problem(ErrorCode::SessionUnknown))
    }
    async fn person_of_cookie(&self, secret: &str) -> Result<Person> {
        self.known(secret == "good-cookie")
    }
    async fn person_of_token(&self, secret: &str) -> Result<Person> {
        if secret == "grt_admin" {
            return Ok(Person { role: Role::Admin, ..self.known(true)? });
        }
        if secret == "grt_other" {
            return Ok(ben());
        }
        self.known(secret == "grt_good")
    }
    async fn sign_in(&self, body: SignIn) -> Result<WebSession> {
        match body.password.as_str() {
            "right" => Ok(WebSession { person: ada(), secret: "good-cookie".into(), max_age_s: 60 }),
            "panic" => panic!("a bug"),
            _ => Err(problem(ErrorCode::WrongCredentials)),
        }
    }
    async fn use_sign_in_link(&self, _: UseSignInLink) -> Result<WebSession> {
        unused()
    }
    async fn sign_out(&self, _: &str) -> Result<()> {
        self.sign_everyone_out();
        Ok(())
    }
    fn rights_changes(&self) -> RightsChanges {
        self.rights.changes()
    }
    async fn people(&self, _: &Person) -> Result<Vec<Person>> {
        Ok(vec![ada()])
    }
    async fn add_person(&self, _: &Person, _: AddPerson) -> Result<PersonAdded> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn quotas(&self, _: &Person) -> Result<QuotasView> {
        unused()
    }
    async fn set_quotas(
        &self,
        _: &Person,
        _: Option<&greenroom_domain::LoginName>,
        _: greenroom_domain::quota::Quotas,
    ) -> Result<QuotasView> {
        unused()
    }
    async fn quota_usage(&self, _: &Person, _: &greenroom_domain::LoginName) -> Result<QuotaUsage> {
        unused()
    }
    async fn create_token(&self, _: &Person, _: CreateToken) -> Result<TokenCreated> {
        unused()
    }
    async fn repositories(&self, _: &Person) -> Result<Vec<RepositoryView>> {
        Ok(vec![])
    }
    async fn add_repository(&self, _: &Person, _: AddRepository) -> Result<RepositoryView> {
        unused()
    }
    async fn repository(&self, _: &Person, _: &RepositoryName) -> Result<RepositoryView> {
        Err(problem(ErrorCode::RepositoryUnknown))
    }
    async fn remove_repository(&self, _: &Person, _: &RepositoryName) -> Result<()> {
        unused()
    }
    async fn create_hook(&self, _: &Person, _: &RepositoryName) -> Result<HookCreated> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn remove_hook(&self, _: &Person, _: &RepositoryName) -> Result<()> {
        unused()
    }
    async fn push_hook(&self, _: &RepositoryName, call: HookCall<'_>) -> Result<()> {
        match call.signature {
            Some("sha256=good") if call.body == b"{}" => Ok(()),
            _ => Err(problem(ErrorCode::HookRefused)),
        }
    }
    async fn egress(&self, _: &Person, _: &RepositoryName) -> Result<EgressView> {
        unused()
    }
    async fn set_egress(&self, _: &Person, _: &RepositoryName, _: SetEgress) -> Result<EgressView> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn secrets(&self, _: &Person, _: &RepositoryName) -> Result<Vec<SecretView>> {
        Ok(vec![])
    }
    async fn add_secret(&self, _: &Person, _: &RepositoryName, _: AddSecret) -> Result<SecretView> {
        Err(problem(ErrorCode::NotAllowed))
    }
    async fn remove_secret(&self, _: &Person, _: &RepositoryName, _: &str) -> Result<()> {
        Err(problem(ErrorCode::SecretUnknown))
    }
    async fn warm(&self, _: &Person, _: &RepositoryName, _: WarmRepository) -> Result<WarmView> {
        Ok(WarmView { state: WarmState::Preparing, expires_at_ms: 1 })
    }
    async fn build_image(&self, _: &Person, _: &RepositoryName) -> Result<ImageView> {
        unused()
    }
    async fn export_image(&self, _: &Person, _: ImageId, _: ExchangeName) -> Result<ExportedImage> {
        unused()
    }
    async fn import_image(&self, _: &Person, _: &RepositoryName, _: ExchangeName) -> Result<ImageView> {
        unused()
    }
    async fn images(&self, _: &Person, _: &RepositoryName) -> Result<Vec<ListedImage>> {
        unused()
    }
    async fn image(&self, _: &Person, _: ImageId) -> Result<ImageView> {
        unused()
    }
    async fn image_contents(&self, _: &Person, _: ImageId) -> Result<ImageContents> {
        unused()
    }
    async fn image_log(&self, _: &Person, _: ImageId) -> Result<BuildFrames> {
        let frame = BuildFrame::Output { text: "one\ntwo\n".into() };
        Ok(Box::pin(stream::iter([frame])))
    }
    async fn models(&self, _: &Person) -> Result<Vec<ModelView>> {
        Ok(vec![])
    }
    async fn add_model(&self, _: &Person, _: AddModel) -> Result<ModelView> {
        unused()
    }
    async fn remove_model(&self, _: &Person, _: &str) -> Result<()> {
        unused()
    }
    async fn test_model(&self, _: &Person, _: &str) -> Result<ModelTested> {
        unused()
    }
    async fn sessions(
        &self,
        _: &Person,
        _: Option<&RepositoryName>,
        _: Archived,
        _: u32,
    ) -> Result<Vec<SessionView>> {
        Ok(vec![session_view(session_id())])
    }
    async fn search(
        &self,
        _: &Person,
        _: &str,
        _: Option<&RepositoryName>,
        _: usize,
    ) -> Result<Vec<SearchHit>> {
        Ok(vec![SearchHit { session: session_view(session_id()), matches: vec![] }])
    }
    async fn statistics(&self, _: &Person, _: StatisticsRange) -> Result<StatisticsView> {
        Err(problem(ErrorCode::PersonUnknown))
    }
    async fn follow_sessions(&self, _: &Person, name: Option<&RepositoryName>) -> Result<SessionsFrames> {
        if name.is_some_and(|name| name.as_str() != "sample") {
            return Err(problem(ErrorCode::RepositoryUnknown));
        }
        let (reader, lines) = mpsc::unbounded_channel();
        self.lists.lock().unwrap().push(reader);
        let first = SessionsFrame::Snapshot { sessions: vec![session_view(session_id())], reads: vec![] };
        let lines = stream::unfold(lines, async |mut lines| Some((lines.recv().await?, lines)));
        Ok(Box::pin(stream::iter([first]).chain(lines)))
    }
    async fn create_session(&self, _: &Person, _: &CommandId, _: CreateSession) -> Result<SessionView> {
        Ok(session_view(session_id()))
    }
    async fn fork_session(
        &self,
        _: &Person,
        _: &CommandId,
        id: SessionId,
        _: ForkSession,
    ) -> Result<SessionView> {
        Ok(session_view(id))
    }
    async fn session_queue(&self, _: &Person, _: SessionId) -> Result<Vec<QueuedPromptView>> {
        Ok(vec![])
    }
    async fn session_asks(&self, _: &Person, _: SessionId) -> Result<Vec<AskView>> {
        Ok(vec![])
    }
    async fn session_outbox(&self, _: &Person, _: SessionId) -> Result<OutboxView> {
        Ok(OutboxView { head_seq: 0, consumers: vec![] })
    }
    async fn session_tree(&self, _: &Person, id: SessionId) -> Result<SessionTree> {
        Ok(SessionTree { root: id, sessions: vec![session_view(id)] })
    }
    async fn session_environment(&self, _: &Person, _: SessionId) -> Result<SessionEnvironment> {
        let port = PortView { port: 3000, name: None, is_listening: true, url: String::new() };
        Ok(SessionEnvironment {
            is_running: true,
            image: None,
            services: vec![],
            ports: vec![port],
            snapshots: vec![],
            memory_bytes: None,
            processes: None,
            disk_bytes: None,
        })
    }
    async fn preview(&self, caller: &Person, _: SessionId, port: u16, wanted: PreviewUse) -> Result<Preview> {
        let right = if caller.role == Role::Viewer { Right::View } else { Right::Prompt };
        if (right, wanted) == (Right::View, PreviewUse::Act) {
            return Err(problem(ErrorCode::NotAllowed));
        }
        let stream =
            crate::inside::connect(port, &self.inside).ok_or_else(|| problem(ErrorCode::PortClosed))?;
        Ok((Box::new(stream), right))
    }
    async fn session(&self, _: &Person, id: SessionId) -> Result<SessionView> {
        match id == session_id() {
            true if self.is_shut.load(Ordering::Relaxed) => Err(problem(ErrorCode::NotAllowed)),
            true => Ok(session_view(id)),
            false => Err(problem(ErrorCode::SessionUnknown)),
        }
    }
    async fn require_right(&self, caller: &Person, id: SessionId, right: Right) -> Result<()> {
        let count = |left: u64| left.checked_sub(1);
        if self.unanswered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok() {
            return Err(problem(ErrorCode::Deadline));
        }
        self.session(caller, id).await?;
        let may = right == Right::View || caller.role >= Role::Member;
        may.then_some(()).ok_or_else(|| problem(ErrorCode::NotAllowed))
    }
    async fn delete_session(&self, _: &Person, _: SessionId) -> Result<()> {
        Ok(())
    }
    async fn submit_command(&self, caller: &Person, _: SessionId, body: SubmitCommand) -> Result<Receipt> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut held = self.is_held.subscribe();
        held.wait_for(|is_held| !is_held).await.expect("the fake is there");
        if caller.role == Role::Viewer {
            return Err(problem(ErrorCode::NotAllowed));
        }
        if body.command == (Command::Stop { hold_queue: false }) {
            return Err(problem(ErrorCode::NotRunning));
        }
        let seq = PAST + 1 + self.commands.fetch_add(1, Ordering::Relaxed);
        Ok(Receipt { key: body.key, seq: Some(seq), problem: None })
    }
    async fn entries(&self, _: &Person, _: SessionId, _: u64, _: usize) -> Result<EntryPage> {
        Ok(EntryPage { entries: vec![], head_seq: PAST })
    }
    async fn session_people(&self, _: &Person, _: SessionId) -> Result<SessionPeople> {
        unused()
    }
    async fn create_share_link(
        &self,
        _: &Person,
        _: SessionId,
        _: CreateShareLink,
    ) -> Result<ShareLinkCreated> {
        unused()
    }
    async fn share_links(&self, _: &Person, _: SessionId) -> Result<Vec<ShareLinkView>> {
        Ok(vec![])
    }
    async fn revoke_share_link(&self, _: &Person, _: SessionId, _: ShareLinkId) -> Result<()> {
        Err(problem(ErrorCode::ShareLinkUnknown))
    }
    /// One secret leads somewhere, one to a disk that is full.
    async fn use_share_link(&self, _: &Person, body: UseShareLink) -> Result<SessionView> {
        match body.secret.as_str() {
            "good" => Ok(session_view(session_id())),
            "full" => Err(problem(ErrorCode::DiskFull)),
            _ => Err(problem(ErrorCode::ShareLinkUnknown)),
        }
    }
    async fn presence(&self, _: &Person, _: SessionId) -> Result<Presence> {
        Ok(Presence::default())
    }
    async fn say_typing(&self, _: &Person, _: SessionId, client: ClientKind, is_typing: bool) -> Result<()> {
        self.say(format!("{} types: {is_typing}", client.as_str()));
        Ok(())
    }
    async fn mark_read(&self, _: &Person, session: SessionId, seq: u64) -> Result<ReadPosition> {
        self.say(format!("read to {seq}"));
        Ok(ReadPosition { session, seq: seq.min(PAST) })
    }
    async fn read_positions(&self, _: &Person) -> Result<Vec<ReadPosition>> {
        Ok(vec![ReadPosition { session: session_id(), seq: 1 }])
    }
    async fn draft(
        &self,
        _: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
    ) -> Result<Draft> {
        Ok(Draft { session, repository, text: "kept".into(), revision: 7, updated_at_ms: 1 })
    }
    async fn write_draft(
        &self,
        _: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
        body: WriteDraft,
    ) -> Result<DraftAnswer> {
        let is_refused = body.revision != 7;
        let (text, revision) = if is_refused { ("kept".into(), 7) } else { (body.text, 8) };
        self.say(format!("typed {text}"));
        Ok(DraftAnswer { draft: Draft { session, repository, text, revision, updated_at_ms: 1 }, is_refused })
    }
    /// Says which were asked for.
    async fn entries_before(&self, _: &Person, _: SessionId, before: u64, _: usize) -> Result<EntryPage> {
        Ok(EntryPage { entries: vec![], head_seq: before })
    }
    async fn subscribe(
        &self,
        _: &Person,
        _: SessionId,
        after: u64,
        window: Option<u32>,
        _: ClientKind,
    ) -> Result<Frames> {
        let (viewer, live) = mpsc::unbounded_channel();
        self.live.lock().unwrap().push(viewer);
        let hello = Frame::Hello { protocol: PROTOCOL, head_seq: PAST, epoch: 1 };
        // Only that the window arrives here: what it means is tested where it is made.
        let after = window.map_or(after, |window| after.max(PAST.saturating_sub(window.into())));
        let past = (after + 1..=PAST).map(entry);
        let replay = std::iter::once(hello).chain(past).chain([Frame::CaughtUp { seq: PAST }]);
        let live = stream::unfold(live, async |mut live| Some((live.recv().await?, live)));
        Ok(Box::pin(stream::iter(replay.collect::<Vec<_>>()).chain(live).map(SharedFrame::from)))
    }
    async fn session_diff(&self, _: &Person, _: SessionId) -> Result<Vec<FileDiffView>> {
        Ok(vec![])
    }
    async fn session_steps(&self, _: &Person, _: SessionId, _: Option<u64>) -> Result<SessionSteps> {
        Ok(SessionSteps { steps: vec![], at: None, forward: None, reverting: None })
    }
    async fn tree_diff(&self, _: &Person, _: SessionId, _: TreesOf) -> Result<Vec<FileDiffView>> {
        Ok(vec![])
    }
    async fn session_blame(&self, _: &Person, _: SessionId, _: &str) -> Result<Blame> {
        Err(problem(ErrorCode::FileUnknown))
    }
    async fn attach(
        &self,
        _: &Person,
        _: Option<SessionId>,
        name: &str,
        _: Option<u64>,
        mut upload: Upload,
    ) -> Result<Attachment> {
        let mut bytes = vec![];
        tokio::io::AsyncReadExt::read_to_end(&mut upload, &mut bytes).await.unwrap();
        if bytes == b"too much" {
            return Err(problem(ErrorCode::QuotaReached));
        }
        let (digest, media_type) = ("0".repeat(64).parse().unwrap(), "text/plain".to_owned());
        Ok(Attachment {
            digest,
            name: name.into(),
            media_type,
            bytes: bytes.len() as u64,
            width: None,
            height: None,
        })
    }
    async fn export_session(&self, _: &Person, id: SessionId) -> Result<ExportedSession> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, PAGE.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(ExportedSession { file, bytes: PAGE.len() as u64, name: format!("{id}.greenroom") })
    }
    async fn import_session(
        &self,
        _: &Person,
        _: &CommandId,
        _: Option<&RepositoryName>,
        mut upload: Upload,
    ) -> Result<SessionView> {
        let mut bytes = vec![];
        tokio::io::AsyncReadExt::read_to_end(&mut upload, &mut bytes).await.unwrap();
        Err(problem(ErrorCode::ArchiveDamaged))
    }
    /// Its bytes are always a page.
    async fn blob(&self, caller: &Person, id: SessionId, digest: &BlobDigest) -> Result<BlobFile> {
        self.session(caller, id).await?;
        let media_type = match &digest.as_str()[..1] {
            "1" => "image/png",
            "2" => "text/plain",
            _ => return Err(problem(ErrorCode::AttachmentUnknown)),
        };
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, PAGE.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Ok(BlobFile { file, bytes: PAGE.len() as u64, media_type })
    }
    async fn artifacts(&self, _: &Person, _: SessionId) -> Result<Vec<ArtifactView>> {
        Ok(vec![])
    }
    async fn exec(&self, _: &Person, _: SessionId, _: Exec) -> Result<ExecResult> {
        unused()
    }
    async fn changes(&self, _: &Person, _: Option<&RepositoryName>) -> Result<Vec<ChangeView>> {
        Ok(vec![])
    }
    async fn change(&self, _: &Person, _: ChangeId) -> Result<ChangeView> {
        Err(problem(ErrorCode::ChangeUnknown))
    }
    async fn change_diff(&self, _: &Person, _: ChangeId) -> Result<Vec<FileDiffView>> {
        unused()
    }
    async fn approve_change(&self, _: &Person, _: ChangeId, _: ApproveChange) -> Result<ChangeView> {
        Err(problem(ErrorCode::SelfApproval))
    }
    async fn merge_change(&self, _: &Person, _: ChangeId) -> Result<ChangeView> {
        unused()
    }
    async fn git_advertise(
        &self,
        _: &Person,
        name: &RepositoryName,
        _: GitService,
        protocol: Option<&str>,
    ) -> Result<Vec<u8>> {
        Ok(format!("refs of {name}, {}", protocol.unwrap_or_default()).into_bytes())
    }
    /// Keeps what it is sent and answers it; refuses the repository `locked`.
    async fn git_serve(
        &self,
        _: &Person,
        name: &RepositoryName,
        _: GitService,
        _: Option<&str>,
        mut input: Box<dyn AsyncRead + Send + Unpin>,
        mut output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()> {
        if name.as_str() == "locked" {
            return Err(problem(ErrorCode::PushRefused));
        }
        let mut received = vec![];
        input.read_to_end(&mut received).await.map_err(|_| problem(ErrorCode::Internal))?;
        output.write_all(&received).await.map_err(|_| problem(ErrorCode::Internal))?;
        *self.received.lock().unwrap() = received;
        Ok(())
    }
}
