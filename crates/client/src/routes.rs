//! The routes, in the order of the API's table.

use crate::{Address, Client, Credential, Error};
use greenroom_domain::quota::Quotas;
use greenroom_domain::trace::TurnTrace;
use greenroom_domain::{
    Attachment, BlobDigest, ChangeId, Command, CommandId, CommitHash, ImageId, LoginName, Person,
    RepositoryName, SessionId, ShareLinkId,
};
use greenroom_wire::*;
use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, SET_COOKIE},
};
use serde_json::json;
use tokio_util::io::ReaderStream;

impl Client {
    pub async fn health(&self) -> Result<Health, Error> {
        self.get(&["health"]).await
    }

    pub async fn machine(&self) -> Result<Machine, Error> {
        self.get(&["machine"]).await
    }

    pub async fn machine_resources(&self) -> Result<MachineResources, Error> {
        self.get(&["machine", "resources"]).await
    }

    /// Answers with the person and the credential to go on with.
    pub async fn sign_in(&self, body: &SignIn) -> Result<(SignedIn, Credential), Error> {
        self.signed_in(&["sign-in"], body).await
    }

    pub async fn use_sign_in_link(&self, body: &UseSignInLink) -> Result<(SignedIn, Credential), Error> {
        self.signed_in(&["sign-in", "link"], body).await
    }

    async fn signed_in<B: serde::Serialize>(
        &self,
        segments: &[&str],
        body: &B,
    ) -> Result<(SignedIn, Credential), Error> {
        let response = self.send(self.request(Method::POST, segments).json(body)).await?;
        let cookie =
            session_cookie(&response).ok_or_else(|| Error::protocol("a sign-in that sets no cookie"))?;
        Ok((self.read(response).await?, Credential::Cookie(cookie)))
    }

    pub async fn sign_out(&self) -> Result<(), Error> {
        self.done(Method::POST, &["sign-out"]).await
    }

    pub async fn me(&self) -> Result<SignedIn, Error> {
        self.get(&["me"]).await
    }

    pub async fn people(&self) -> Result<Vec<Person>, Error> {
        self.get(&["people"]).await
    }

    pub async fn add_person(&self, body: &AddPerson) -> Result<PersonAdded, Error> {
        self.post(&["people"], body).await
    }

    /// What is set; for admins.
    pub async fn quotas(&self) -> Result<QuotasView, Error> {
        self.get(&["quotas"]).await
    }

    /// In place of what was set, for one person or, without one, for everyone.
    pub async fn set_quotas(&self, login: Option<&LoginName>, quotas: &Quotas) -> Result<QuotasView, Error> {
        let request = match login {
            Some(login) => self.request(Method::PUT, &["people", login.as_str(), "quotas"]),
            None => self.request(Method::PUT, &["quotas"]),
        };
        self.answer(request.json(quotas)).await
    }

    pub async fn quota_usage(&self, login: &LoginName) -> Result<QuotaUsage, Error> {
        self.get(&["people", login.as_str(), "quotas"]).await
    }

    /// What is kept for how long, and what went last; for admins, as the two below.
    pub async fn retention(&self) -> Result<RetentionView, Error> {
        self.get(&["retention"]).await
    }

    /// What would go now.
    pub async fn retention_plan(&self) -> Result<RetentionReport, Error> {
        self.get(&["retention", "plan"]).await
    }

    /// Lets go of what is old enough.
    pub async fn run_retention(&self) -> Result<RetentionReport, Error> {
        self.answer(self.request(Method::POST, &["retention", "run"])).await
    }

    /// `expires_at_ms`: milliseconds since 1970-01-01 UTC; `None`: it does not end.
    pub async fn create_token(
        &self,
        name: &str,
        login: Option<LoginName>,
        expires_at_ms: Option<i64>,
    ) -> Result<TokenCreated, Error> {
        self.post(&["tokens"], &CreateToken { name: name.to_owned(), login, expires_at_ms }).await
    }

    pub async fn repositories(&self) -> Result<Vec<RepositoryView>, Error> {
        self.get(&["repositories"]).await
    }

    /// Mirrors the source and starts the first image build.
    pub async fn add_repository(&self, body: &AddRepository) -> Result<RepositoryView, Error> {
        self.post(&["repositories"], body).await
    }

    pub async fn repository(&self, name: &RepositoryName) -> Result<RepositoryView, Error> {
        self.get(&["repositories", name.as_str()]).await
    }

    pub async fn remove_repository(&self, name: &RepositoryName) -> Result<(), Error> {
        self.done(Method::DELETE, &["repositories", name.as_str()]).await
    }

    /// Its secret is answered this once; an earlier one is of no use any more.
    pub async fn create_hook(&self, repository: &RepositoryName) -> Result<HookCreated, Error> {
        self.post(&["repositories", repository.as_str(), "hook"], &json!({})).await
    }

    pub async fn remove_hook(&self, repository: &RepositoryName) -> Result<(), Error> {
        self.done(Method::DELETE, &["repositories", repository.as_str(), "hook"]).await
    }

    /// Makes a sandbox ready for the caller's next session.
    pub async fn warm(&self, repository: &RepositoryName, body: &WarmRepository) -> Result<WarmView, Error> {
        self.post(&["repositories", repository.as_str(), "warm"], body).await
    }

    pub async fn build_image(&self, repository: &RepositoryName) -> Result<ImageView, Error> {
        self.post(&["repositories", repository.as_str(), "images"], &json!({})).await
    }

    /// For another machine, into a directory of the server's.
    pub async fn export_image(&self, id: ImageId, body: &ExportImage) -> Result<ExportedImage, Error> {
        self.post(&["images", &id.to_string(), "export"], body).await
    }

    pub async fn import_image(
        &self,
        repository: &RepositoryName,
        body: &ImportImage,
    ) -> Result<ImageView, Error> {
        self.post(&["repositories", repository.as_str(), "images", "import"], body).await
    }

    pub async fn images(&self, repository: &RepositoryName) -> Result<Vec<ListedImage>, Error> {
        self.get(&["repositories", repository.as_str(), "images"]).await
    }

    pub async fn image(&self, id: ImageId) -> Result<ImageView, Error> {
        self.get(&["images", &id.to_string()]).await
    }

    pub async fn image_contents(&self, id: ImageId) -> Result<ImageContents, Error> {
        self.get(&["images", &id.to_string(), "contents"]).await
    }

    pub async fn egress(&self, repository: &RepositoryName) -> Result<EgressView, Error> {
        self.get(&["repositories", repository.as_str(), "egress"]).await
    }

    pub async fn set_egress(
        &self,
        repository: &RepositoryName,
        body: &SetEgress,
    ) -> Result<EgressView, Error> {
        let request = self.request(Method::PUT, &["repositories", repository.as_str(), "egress"]);
        self.answer(request.json(body)).await
    }

    pub async fn secrets(&self, repository: &RepositoryName) -> Result<Vec<SecretView>, Error> {
        self.get(&["repositories", repository.as_str(), "secrets"]).await
    }

    pub async fn add_secret(
        &self,
        repository: &RepositoryName,
        body: &AddSecret,
    ) -> Result<SecretView, Error> {
        self.post(&["repositories", repository.as_str(), "secrets"], body).await
    }

    pub async fn remove_secret(&self, repository: &RepositoryName, name: &str) -> Result<(), Error> {
        self.done(Method::DELETE, &["repositories", repository.as_str(), "secrets", name]).await
    }

    pub async fn models(&self) -> Result<Vec<ModelView>, Error> {
        self.get(&["models"]).await
    }

    pub async fn add_model(&self, body: &AddModel) -> Result<ModelView, Error> {
        self.post(&["models"], body).await
    }

    pub async fn remove_model(&self, name: &str) -> Result<(), Error> {
        self.done(Method::DELETE, &["models", name]).await
    }

    pub async fn test_model(&self, name: &str) -> Result<ModelTested, Error> {
        self.post(&["models", name, "test"], &json!({})).await
    }

    pub async fn sessions(&self) -> Result<Vec<SessionView>, Error> {
        self.get(&["sessions"]).await
    }

    pub async fn archived_sessions(&self) -> Result<Vec<SessionView>, Error> {
        self.answer(self.request(Method::GET, &["sessions"]).query(&[("archived", "true")])).await
    }

    pub async fn search(
        &self,
        query: &str,
        repository: Option<&RepositoryName>,
    ) -> Result<Vec<SearchHit>, Error> {
        let mut parameters = vec![("query", query)];
        parameters.extend(repository.map(|name| ("repository", name.as_str())));
        self.answer(self.request(Method::GET, &["search"]).query(&parameters)).await
    }

    /// `parameters` as the route has them.
    pub async fn statistics(&self, parameters: &[(&str, String)]) -> Result<StatisticsView, Error> {
        self.answer(self.request(Method::GET, &["statistics"]).query(parameters)).await
    }

    /// The same `key` again gets the same session, not another one.
    pub async fn create_session(&self, key: &CommandId, body: &CreateSession) -> Result<SessionView, Error> {
        let request = self.request(Method::POST, &["sessions"]);
        self.answer(request.header("idempotency-key", key.as_str()).json(body)).await
    }

    /// The same `key` again gets the same session.
    pub async fn fork_session(
        &self,
        key: &CommandId,
        id: SessionId,
        body: &ForkSession,
    ) -> Result<SessionView, Error> {
        let request = self.request(Method::POST, &["sessions", &id.to_string(), "fork"]);
        self.answer(request.header("idempotency-key", key.as_str()).json(body)).await
    }

    /// The session as one file, piece by piece.
    pub async fn export_session(&self, id: SessionId) -> Result<Pieces, Error> {
        let request = self.request(Method::GET, &["sessions", &id.to_string(), "export"]);
        Ok(Pieces { response: self.send(request).await?, address: self.address().clone() })
    }

    /// Makes a session of an exported one. The same `key` with the same file again gets the same session.
    pub async fn import_session(
        &self,
        key: &CommandId,
        repository: Option<&RepositoryName>,
        file: tokio::fs::File,
        bytes: u64,
    ) -> Result<SessionView, Error> {
        let mut url = self.address().route(&["sessions", "import"]);
        if let Some(repository) = repository {
            url.query_pairs_mut().append_pair("repository", repository.as_str());
        }
        let request = self.request_url(Method::POST, url).header("idempotency-key", key.as_str());
        let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
        self.answer(request.header(CONTENT_LENGTH, bytes).body(body)).await
    }

    pub async fn session_tree(&self, id: SessionId) -> Result<SessionTree, Error> {
        self.get(&["sessions", &id.to_string(), "tree"]).await
    }

    pub async fn session_environment(&self, id: SessionId) -> Result<SessionEnvironment, Error> {
        self.get(&["sessions", &id.to_string(), "environment"]).await
    }

    pub async fn session_queue(&self, id: SessionId) -> Result<Vec<QueuedPromptView>, Error> {
        self.get(&["sessions", &id.to_string(), "queue"]).await
    }

    pub async fn session_asks(&self, id: SessionId) -> Result<Vec<AskView>, Error> {
        self.get(&["sessions", &id.to_string(), "asks"]).await
    }

    pub async fn session_outbox(&self, id: SessionId) -> Result<OutboxView, Error> {
        self.get(&["sessions", &id.to_string(), "outbox"]).await
    }

    pub async fn session(&self, id: SessionId) -> Result<SessionView, Error> {
        self.get(&["sessions", &id.to_string()]).await
    }

    pub async fn delete_session(&self, id: SessionId) -> Result<(), Error> {
        self.done(Method::DELETE, &["sessions", &id.to_string()]).await
    }

    /// The same `key` again gets the same receipt.
    pub async fn submit(&self, id: SessionId, key: &CommandId, command: &Command) -> Result<Receipt, Error> {
        let body = SubmitCommand { key: key.clone(), command: command.clone() };
        self.post(&["sessions", &id.to_string(), "commands"], &body).await
    }

    pub async fn entries(&self, id: SessionId, after: u64, limit: u32) -> Result<EntryPage, Error> {
        let mut url = self.address().route(&["sessions", &id.to_string(), "entries"]);
        url.query_pairs_mut()
            .append_pair("after", &after.to_string())
            .append_pair("limit", &limit.to_string());
        self.answer(self.request_url(Method::GET, url)).await
    }

    /// Who has the session open now.
    pub async fn presence(&self, id: SessionId) -> Result<Presence, Error> {
        self.get(&["sessions", &id.to_string(), "presence"]).await
    }

    /// Which prompts made which line of a file of the working tree.
    pub async fn session_blame(&self, id: SessionId, path: &str) -> Result<Blame, Error> {
        let mut url = self.address().route(&["sessions", &id.to_string(), "blame"]);
        url.query_pairs_mut().append_pair("path", path);
        self.answer(self.request_url(Method::GET, url)).await
    }

    pub async fn session_people(&self, id: SessionId) -> Result<SessionPeople, Error> {
        self.get(&["sessions", &id.to_string(), "participants"]).await
    }

    pub async fn share_links(&self, id: SessionId) -> Result<Vec<ShareLinkView>, Error> {
        self.get(&["sessions", &id.to_string(), "share-links"]).await
    }

    /// Its secret is answered this once.
    pub async fn create_share_link(
        &self,
        id: SessionId,
        body: &CreateShareLink,
    ) -> Result<ShareLinkCreated, Error> {
        self.post(&["sessions", &id.to_string(), "share-links"], body).await
    }

    pub async fn revoke_share_link(&self, id: SessionId, link: ShareLinkId) -> Result<(), Error> {
        self.done(Method::DELETE, &["sessions", &id.to_string(), "share-links", &link.to_string()]).await
    }

    pub async fn use_share_link(&self, body: &UseShareLink) -> Result<SessionView, Error> {
        self.post(&["share-links", "use"], body).await
    }

    /// Shown for six seconds.
    pub async fn say_typing(&self, id: SessionId, is_typing: bool) -> Result<(), Error> {
        let body = SayTyping { is_typing, client: self.kind() };
        let request = self.request(Method::POST, &["sessions", &id.to_string(), "typing"]);
        self.send(request.json(&body)).await.map(drop)
    }

    /// Answers the position that counts.
    pub async fn mark_read(&self, id: SessionId, seq: u64) -> Result<ReadPosition, Error> {
        let request = self.request(Method::PUT, &["sessions", &id.to_string(), "read"]);
        self.answer(request.json(&MarkRead { seq })).await
    }

    pub async fn read_positions(&self) -> Result<Vec<ReadPosition>, Error> {
        self.get(&["reads"]).await
    }

    /// What was typed and not sent, in a session or for a new one.
    pub async fn draft(
        &self,
        session: Option<SessionId>,
        repository: Option<&RepositoryName>,
    ) -> Result<Draft, Error> {
        self.answer(self.request_url(Method::GET, self.draft_url(session, repository))).await
    }

    pub async fn write_draft(
        &self,
        session: Option<SessionId>,
        repository: Option<&RepositoryName>,
        body: &WriteDraft,
    ) -> Result<DraftAnswer, Error> {
        let url = self.draft_url(session, repository);
        self.answer(self.request_url(Method::PUT, url).json(body)).await
    }

    fn draft_url(&self, session: Option<SessionId>, repository: Option<&RepositoryName>) -> url::Url {
        match (session, repository) {
            (Some(id), _) => self.address().route(&["sessions", &id.to_string(), "draft"]),
            (None, Some(name)) => {
                let mut url = self.address().route(&["draft"]);
                url.query_pairs_mut().append_pair("repository", name.as_str());
                url
            }
            (None, None) => self.address().route(&["draft"]),
        }
    }

    pub async fn session_diff(&self, id: SessionId) -> Result<Vec<FileDiffView>, Error> {
        self.get(&["sessions", &id.to_string(), "diff"]).await
    }

    /// What a step or a turn changed, or a revert would.
    pub async fn tree_diff(&self, id: SessionId, of: TreesOf) -> Result<Vec<FileDiffView>, Error> {
        let mut url = self.address().route(&["sessions", &id.to_string(), "diff"]);
        let (name, value) = match of {
            TreesOf::Step(step) => ("step", step.to_string()),
            TreesOf::Turn(turn) => ("turn", turn.to_string()),
            TreesOf::Revert(step) => ("revert_to", step.to_string()),
        };
        url.query_pairs_mut().append_pair(name, &value);
        self.answer(self.request_url(Method::GET, url)).await
    }

    /// Newest first, at most 200 before the one that is named.
    pub async fn session_steps(&self, id: SessionId, before: Option<u64>) -> Result<SessionSteps, Error> {
        let mut url = self.address().route(&["sessions", &id.to_string(), "steps"]);
        if let Some(before) = before {
            url.query_pairs_mut().append_pair("before", &before.to_string());
        }
        self.answer(self.request_url(Method::GET, url)).await
    }

    /// Keeps a file for a prompt of this session, or of the caller's next one.
    pub async fn attach(
        &self,
        session: Option<SessionId>,
        name: &str,
        file: tokio::fs::File,
        bytes: u64,
    ) -> Result<Attachment, Error> {
        let mut url = match session {
            Some(id) => self.address().route(&["sessions", &id.to_string(), "attachments"]),
            None => self.address().route(&["attachments"]),
        };
        url.query_pairs_mut().append_pair("name", name);
        let request = self.request_url(Method::POST, url).header(CONTENT_LENGTH, bytes);
        self.answer(request.body(reqwest::Body::wrap_stream(ReaderStream::new(file)))).await
    }

    pub async fn artifacts(&self, id: SessionId) -> Result<Vec<ArtifactView>, Error> {
        self.get(&["sessions", &id.to_string(), "artifacts"]).await
    }

    /// The bytes of a file of the session, piece by piece.
    pub async fn blob(&self, id: SessionId, digest: &BlobDigest) -> Result<Pieces, Error> {
        let request = self.request(Method::GET, &["sessions", &id.to_string(), "blobs", digest.as_str()]);
        Ok(Pieces { response: self.send(request).await?, address: self.address().clone() })
    }

    /// The last 50 turns, oldest first, or the one of this number.
    pub async fn session_trace(&self, id: SessionId, turn: Option<u64>) -> Result<Vec<TurnTrace>, Error> {
        let mut url = self.address().route(&["sessions", &id.to_string(), "trace"]);
        if let Some(turn) = turn {
            url.query_pairs_mut().append_pair("turn", &turn.to_string());
        }
        self.answer(self.request_url(Method::GET, url)).await
    }

    /// What the model sees of the session.
    pub async fn session_context(&self, id: SessionId) -> Result<ContextView, Error> {
        self.get(&["sessions", &id.to_string(), "context"]).await
    }

    pub async fn exec(&self, id: SessionId, body: &Exec) -> Result<ExecResult, Error> {
        self.post(&["sessions", &id.to_string(), "exec"], body).await
    }

    pub async fn changes(&self, repository: Option<&RepositoryName>) -> Result<Vec<ChangeView>, Error> {
        let mut url = self.address().route(&["changes"]);
        if let Some(repository) = repository {
            url.query_pairs_mut().append_pair("repository", repository.as_str());
        }
        self.answer(self.request_url(Method::GET, url)).await
    }

    pub async fn change(&self, id: ChangeId) -> Result<ChangeView, Error> {
        self.get(&["changes", &id.to_string()]).await
    }

    pub async fn change_diff(&self, id: ChangeId) -> Result<Vec<FileDiffView>, Error> {
        self.get(&["changes", &id.to_string(), "diff"]).await
    }

    /// `head`: of the change as it was looked at.
    pub async fn approve_change(&self, id: ChangeId, head: &CommitHash) -> Result<ChangeView, Error> {
        let body = ApproveChange { head: head.clone() };
        self.post(&["changes", &id.to_string(), "approve"], &body).await
    }

    pub async fn merge_change(&self, id: ChangeId) -> Result<ChangeView, Error> {
        self.post(&["changes", &id.to_string(), "merge"], &json!({})).await
    }

    /// A request whose answer's body says nothing.
    async fn done(&self, method: Method, segments: &[&str]) -> Result<(), Error> {
        self.send(self.request(method, segments)).await.map(drop)
    }
}

/// A body on its way.
#[derive(Debug)]
pub struct Pieces {
    response: Response,
    address: Address,
}

impl Pieces {
    /// `None` at the end.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        self.response.chunk().await.map_err(|source| Error::unreachable(&self.address, source))
    }
}

fn session_cookie(response: &Response) -> Option<String> {
    response.headers().get_all(SET_COOKIE).iter().find_map(|header| {
        let pair = header.to_str().ok()?.split(';').next()?;
        pair.trim().strip_prefix("greenroom_session=").map(str::to_owned)
    })
}
