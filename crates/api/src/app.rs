//! The application behind the routes: each use case is the `App`'s method of the same name.

use crate::port::{BuildFrames, Frames, Preview, Result, SessionsFrames, UseCases, WebSession};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use greenroom_app::App;
use greenroom_app::{
    Archived, BlobFile, ExportedSession, GitService, HookCall, PreviewUse, RightsChanges, StatisticsRange,
    Upload,
};
use greenroom_domain::quota::Quotas;
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{
    Attachment, BlobDigest, ChangeId, CommandId, ExchangeName, ImageId, LoginName, Person, RepositoryName,
    Right, SessionId, ShareLinkId,
};
use greenroom_telemetry::Gauges;
use greenroom_wire::*;
use tokio::io::{AsyncRead, AsyncWrite};

#[async_trait]
impl UseCases for App {
    async fn readiness(&self) -> Readiness {
        App::readiness(self).await
    }

    fn is_draining(&self) -> bool {
        App::is_draining(self)
    }

    async fn machine(&self, caller: &Person) -> Result<Machine> {
        App::machine(self, caller)
    }

    async fn machine_resources(&self, caller: &Person) -> Result<MachineResources> {
        App::machine_resources(self, caller).await
    }

    async fn retention(&self, caller: &Person) -> Result<RetentionView> {
        App::retention(self, caller).await
    }

    async fn retention_plan(&self, caller: &Person) -> Result<RetentionReport> {
        App::retention_plan(self, caller).await
    }

    async fn run_retention(&self, caller: &Person) -> Result<RetentionReport> {
        App::run_retention(self, caller).await
    }

    async fn metrics(&self, caller: &Person, gauges: Gauges) -> Result<String> {
        App::metrics(self, caller, gauges).await
    }

    async fn local_metrics(&self, gauges: Gauges) -> Result<String> {
        App::local_metrics(self, gauges).await
    }

    async fn person_of_cookie(&self, secret: &str) -> Result<Person> {
        App::person_of_cookie(self, secret).await
    }

    async fn person_of_token(&self, secret: &str) -> Result<Person> {
        App::person_of_token(self, secret).await
    }

    async fn sign_in(&self, body: SignIn) -> Result<WebSession> {
        App::sign_in(self, body).await.map(web_session)
    }

    async fn use_sign_in_link(&self, body: UseSignInLink) -> Result<WebSession> {
        App::use_sign_in_link(self, body).await.map(web_session)
    }

    async fn sign_out(&self, secret: &str) -> Result<()> {
        App::sign_out(self, secret).await
    }

    fn rights_changes(&self) -> RightsChanges {
        App::rights_changes(self)
    }

    async fn people(&self, caller: &Person) -> Result<Vec<Person>> {
        App::people(self, caller).await
    }

    async fn add_person(&self, caller: &Person, body: AddPerson) -> Result<PersonAdded> {
        App::add_person(self, caller, body).await
    }

    async fn quotas(&self, caller: &Person) -> Result<QuotasView> {
        App::quotas(self, caller).await
    }

    async fn set_quotas(
        &self,
        caller: &Person,
        login: Option<&LoginName>,
        quotas: Quotas,
    ) -> Result<QuotasView> {
        App::set_quotas(self, caller, login, quotas).await
    }

    async fn quota_usage(&self, caller: &Person, login: &LoginName) -> Result<QuotaUsage> {
        App::quota_usage(self, caller, login).await
    }

    async fn create_token(&self, caller: &Person, body: CreateToken) -> Result<TokenCreated> {
        App::create_token(self, caller, body).await
    }

    async fn repositories(&self, caller: &Person) -> Result<Vec<RepositoryView>> {
        App::repositories(self, caller).await
    }

    async fn add_repository(&self, caller: &Person, body: AddRepository) -> Result<RepositoryView> {
        App::add_repository(self, caller, body).await
    }

    async fn repository(&self, caller: &Person, name: &RepositoryName) -> Result<RepositoryView> {
        App::repository(self, caller, name).await
    }

    async fn remove_repository(&self, caller: &Person, name: &RepositoryName) -> Result<()> {
        App::remove_repository(self, caller, name).await
    }

    async fn create_hook(&self, caller: &Person, name: &RepositoryName) -> Result<HookCreated> {
        App::create_hook(self, caller, name).await
    }

    async fn remove_hook(&self, caller: &Person, name: &RepositoryName) -> Result<()> {
        App::remove_hook(self, caller, name).await
    }

    async fn push_hook(&self, name: &RepositoryName, call: HookCall<'_>) -> Result<()> {
        App::push_hook(self, name, call).await
    }

    async fn egress(&self, caller: &Person, name: &RepositoryName) -> Result<EgressView> {
        App::egress(self, caller, name).await
    }

    async fn set_egress(
        &self,
        caller: &Person,
        name: &RepositoryName,
        body: SetEgress,
    ) -> Result<EgressView> {
        App::set_egress(self, caller, name, body).await
    }

    async fn secrets(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<SecretView>> {
        App::secrets(self, caller, name).await
    }

    async fn add_secret(
        &self,
        caller: &Person,
        name: &RepositoryName,
        body: AddSecret,
    ) -> Result<SecretView> {
        App::add_secret(self, caller, name, body).await
    }

    async fn remove_secret(&self, caller: &Person, name: &RepositoryName, secret: &str) -> Result<()> {
        App::remove_secret(self, caller, name, secret).await
    }

    async fn warm(&self, caller: &Person, name: &RepositoryName, body: WarmRepository) -> Result<WarmView> {
        App::warm(self, caller, name, body).await
    }

    async fn build_image(&self, caller: &Person, name: &RepositoryName) -> Result<ImageView> {
        App::build_image(self, caller, name).await
    }

    async fn export_image(&self, caller: &Person, id: ImageId, to: ExchangeName) -> Result<ExportedImage> {
        App::export_image(self, caller, id, to).await
    }

    async fn import_image(
        &self,
        caller: &Person,
        name: &RepositoryName,
        from: ExchangeName,
    ) -> Result<ImageView> {
        App::import_image(self, caller, name, from).await
    }

    async fn images(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<ListedImage>> {
        App::images(self, caller, name).await
    }

    async fn image(&self, caller: &Person, id: ImageId) -> Result<ImageView> {
        App::image(self, caller, id).await
    }

    async fn image_contents(&self, caller: &Person, id: ImageId) -> Result<ImageContents> {
        App::image_contents(self, caller, id).await
    }

    async fn image_log(&self, caller: &Person, id: ImageId) -> Result<BuildFrames> {
        let log = App::image_log(self, caller, id).await?;
        Ok(Box::pin(stream::unfold(log, async |mut log| Some((log.next().await?, log)))))
    }

    async fn models(&self, caller: &Person) -> Result<Vec<ModelView>> {
        App::models(self, caller).await
    }

    async fn add_model(&self, caller: &Person, body: AddModel) -> Result<ModelView> {
        App::add_model(self, caller, body).await
    }

    async fn remove_model(&self, caller: &Person, name: &str) -> Result<()> {
        App::remove_model(self, caller, name).await
    }

    async fn test_model(&self, caller: &Person, name: &str) -> Result<ModelTested> {
        App::test_model(self, caller, name).await
    }

    async fn sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
        archived: Archived,
        limit: u32,
    ) -> Result<Vec<SessionView>> {
        App::sessions(self, caller, repository, archived, limit).await
    }

    async fn search(
        &self,
        caller: &Person,
        query: &str,
        repository: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<SearchHit>> {
        App::search(self, caller, query, repository, limit).await
    }

    async fn statistics(&self, caller: &Person, range: StatisticsRange) -> Result<StatisticsView> {
        App::statistics(self, caller, range).await
    }

    async fn follow_sessions(
        &self,
        caller: &Person,
        repository: Option<&RepositoryName>,
    ) -> Result<SessionsFrames> {
        let frames = App::follow_sessions(self, caller, repository).await?;
        Ok(Box::pin(stream::unfold(frames, async |mut frames| match frames.next().await {
            Ok(frame) => Some((frame, frames)),
            Err(problem) => {
                tracing::warn!(%problem, "the list of sessions cannot be followed");
                None
            }
        })))
    }

    async fn create_session(
        &self,
        caller: &Person,
        key: &CommandId,
        body: CreateSession,
    ) -> Result<SessionView> {
        App::create_session(self, caller, key, body).await
    }

    async fn fork_session(
        &self,
        caller: &Person,
        key: &CommandId,
        id: SessionId,
        body: ForkSession,
    ) -> Result<SessionView> {
        App::fork_session(self, caller, key, id, body).await
    }

    async fn session_queue(&self, caller: &Person, id: SessionId) -> Result<Vec<QueuedPromptView>> {
        App::queue(self, caller, id).await
    }
    async fn session_asks(&self, caller: &Person, id: SessionId) -> Result<Vec<AskView>> {
        App::asks(self, caller, id).await
    }
    async fn session_outbox(&self, caller: &Person, id: SessionId) -> Result<OutboxView> {
        App::session_outbox(self, caller, id).await
    }
    async fn session_tree(&self, caller: &Person, id: SessionId) -> Result<SessionTree> {
        App::session_tree(self, caller, id).await
    }
    async fn session_environment(&self, caller: &Person, id: SessionId) -> Result<SessionEnvironment> {
        App::session_environment(self, caller, id).await
    }

    async fn preview(
        &self,
        caller: &Person,
        id: SessionId,
        port: u16,
        wanted: PreviewUse,
    ) -> Result<Preview> {
        let (stream, right) = App::preview(self, caller, id, port, wanted).await?;
        Ok((Box::new(stream), right))
    }

    async fn session(&self, caller: &Person, id: SessionId) -> Result<SessionView> {
        App::session(self, caller, id).await
    }

    async fn require_right(&self, caller: &Person, id: SessionId, right: Right) -> Result<()> {
        App::require_right(self, caller, id, right).await
    }

    async fn delete_session(&self, caller: &Person, id: SessionId) -> Result<()> {
        App::delete_session(self, caller, id).await
    }

    async fn submit_command(&self, caller: &Person, id: SessionId, body: SubmitCommand) -> Result<Receipt> {
        App::submit_command(self, caller, id, body).await
    }

    async fn session_trace(
        &self,
        caller: &Person,
        id: SessionId,
        turn: Option<u64>,
    ) -> Result<Vec<TurnTrace>> {
        App::session_trace(self, caller, id, turn).await
    }

    async fn session_context(&self, caller: &Person, id: SessionId) -> Result<ContextView> {
        App::session_context(self, caller, id).await
    }

    async fn entries(&self, caller: &Person, id: SessionId, after: u64, limit: usize) -> Result<EntryPage> {
        App::entries(self, caller, id, after, limit).await
    }

    async fn session_people(&self, caller: &Person, id: SessionId) -> Result<SessionPeople> {
        App::session_people(self, caller, id).await
    }

    async fn create_share_link(
        &self,
        caller: &Person,
        id: SessionId,
        body: CreateShareLink,
    ) -> Result<ShareLinkCreated> {
        App::create_share_link(self, caller, id, body).await
    }

    async fn share_links(&self, caller: &Person, id: SessionId) -> Result<Vec<ShareLinkView>> {
        App::share_links(self, caller, id).await
    }

    async fn revoke_share_link(&self, caller: &Person, id: SessionId, link: ShareLinkId) -> Result<()> {
        App::revoke_share_link(self, caller, id, link).await
    }

    async fn use_share_link(&self, caller: &Person, body: UseShareLink) -> Result<SessionView> {
        App::use_share_link(self, caller, body).await
    }

    async fn presence(&self, caller: &Person, id: SessionId) -> Result<Presence> {
        App::presence(self, caller, id).await
    }

    async fn say_typing(
        &self,
        caller: &Person,
        id: SessionId,
        client: ClientKind,
        is_typing: bool,
    ) -> Result<()> {
        App::say_typing(self, caller, id, client, is_typing).await
    }

    async fn mark_read(&self, caller: &Person, id: SessionId, seq: u64) -> Result<ReadPosition> {
        App::mark_read(self, caller, id, seq).await
    }

    async fn read_positions(&self, caller: &Person) -> Result<Vec<ReadPosition>> {
        App::read_positions(self, caller).await
    }

    async fn draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
    ) -> Result<Draft> {
        App::draft(self, caller, session, repository).await
    }

    async fn write_draft(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        repository: Option<RepositoryName>,
        body: WriteDraft,
    ) -> Result<DraftAnswer> {
        App::write_draft(self, caller, session, repository, body).await
    }

    async fn entries_before(
        &self,
        caller: &Person,
        id: SessionId,
        before: u64,
        limit: usize,
    ) -> Result<EntryPage> {
        App::entries_before(self, caller, id, before, limit).await
    }

    async fn subscribe(
        &self,
        caller: &Person,
        id: SessionId,
        after: u64,
        window: Option<u32>,
        client: ClientKind,
    ) -> Result<Frames> {
        let frames = App::subscribe(self, caller, id, after, window, client).await?;
        let hello = Frame::Hello { protocol: PROTOCOL, head_seq: frames.head_seq(), epoch: frames.epoch() };
        // Boxed: what is moved into a future and out of it is there twice, for each open stream.
        let rest = stream::unfold(Some(Box::new(frames)), async |frames| {
            let mut frames = frames?;
            match frames.next().await? {
                Ok(frame) => Some((frame, Some(frames))),
                Err(problem) => Some((Frame::Error { problem }.into(), None)),
            }
        });
        Ok(Box::pin(stream::iter([hello.into()]).chain(rest)))
    }

    async fn session_diff(&self, caller: &Person, id: SessionId) -> Result<Vec<FileDiffView>> {
        App::session_diff(self, caller, id).await
    }

    async fn session_steps(
        &self,
        caller: &Person,
        id: SessionId,
        before: Option<u64>,
    ) -> Result<SessionSteps> {
        App::session_steps(self, caller, id, before).await
    }

    async fn tree_diff(&self, caller: &Person, id: SessionId, of: TreesOf) -> Result<Vec<FileDiffView>> {
        App::tree_diff(self, caller, id, of).await
    }

    async fn session_blame(&self, caller: &Person, id: SessionId, path: &str) -> Result<Blame> {
        App::session_blame(self, caller, id, path).await
    }

    async fn attach(
        &self,
        caller: &Person,
        session: Option<SessionId>,
        name: &str,
        declared: Option<u64>,
        upload: Upload,
    ) -> Result<Attachment> {
        App::attach(self, caller, session, name, declared, upload).await
    }

    async fn export_session(&self, caller: &Person, id: SessionId) -> Result<ExportedSession> {
        App::export_session(self, caller, id).await
    }

    async fn import_session(
        &self,
        caller: &Person,
        key: &CommandId,
        repository: Option<&RepositoryName>,
        upload: Upload,
    ) -> Result<SessionView> {
        App::import_session(self, caller, key, repository, upload).await
    }

    async fn blob(&self, caller: &Person, id: SessionId, digest: &BlobDigest) -> Result<BlobFile> {
        App::blob(self, caller, id, digest).await
    }

    async fn artifacts(&self, caller: &Person, id: SessionId) -> Result<Vec<ArtifactView>> {
        App::artifacts(self, caller, id).await
    }

    async fn exec(&self, caller: &Person, id: SessionId, body: Exec) -> Result<ExecResult> {
        App::exec(self, caller, id, body).await
    }

    async fn changes(&self, caller: &Person, repository: Option<&RepositoryName>) -> Result<Vec<ChangeView>> {
        App::changes(self, caller, repository).await
    }

    async fn change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView> {
        App::change(self, caller, id).await
    }

    async fn change_diff(&self, caller: &Person, id: ChangeId) -> Result<Vec<FileDiffView>> {
        App::change_diff(self, caller, id).await
    }

    async fn approve_change(&self, caller: &Person, id: ChangeId, body: ApproveChange) -> Result<ChangeView> {
        App::approve_change(self, caller, id, body).await
    }

    async fn merge_change(&self, caller: &Person, id: ChangeId) -> Result<ChangeView> {
        App::merge_change(self, caller, id).await
    }

    async fn git_advertise(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        protocol: Option<&str>,
    ) -> Result<Vec<u8>> {
        App::git_advertise(self, caller, name, service, protocol).await
    }

    async fn git_serve(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        protocol: Option<&str>,
        input: Box<dyn AsyncRead + Send + Unpin>,
        output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()> {
        App::git_serve(self, caller, name, service, protocol, input, output).await
    }
}

fn web_session(session: greenroom_app::WebSession) -> WebSession {
    let greenroom_app::WebSession { person, secret, max_age_s } = session;
    WebSession { person, secret, max_age_s }
}
