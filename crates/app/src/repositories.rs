//! Repositories: registered once, mirrored into the forge, given an image.

use crate::images::Look;
use crate::{App, Inner, Result, require};
use greenroom_directory::RepositoryRow;
use greenroom_domain::{ErrorCode, Person, Problem, RepositoryId, RepositoryName, Role};
use greenroom_forge::GitService;
use greenroom_forge::PushPolicy;
use greenroom_wire::{AddRepository, RepositoryView};
use tokio::io::{AsyncRead, AsyncWrite};

impl App {
    /// Mirrors the source and starts the first image build.
    pub async fn add_repository(&self, caller: &Person, body: AddRepository) -> Result<RepositoryView> {
        require(caller, Role::Admin)?;
        let inner = &self.inner;
        if inner.directory.repository_by_name(body.name.clone()).await?.is_some() {
            return Err(name_taken(&body.name));
        }
        let required_approvals = body.required_approvals.unwrap_or(1);
        let (at, random) = inner.id_parts();
        let id = RepositoryId::from_parts(at, random);
        let default_branch = inner.forge.create_repository(id, Some(&body.source)).await?;
        let row = RepositoryRow {
            id,
            name: body.name.clone(),
            source: without_credentials(&body.source),
            default_branch,
            required_approvals,
            added_at_ms: inner.now_ms(),
        };
        if let Err(error) = self.register(row.clone()).await {
            // Nothing half done: the mirror goes with the failed registration.
            let _ = inner.forge.remove_repository(id).await;
            return Err(error);
        }
        inner.keep_source(&row, &body.source)?;
        inner.directory.put_refresh(id, Some(inner.now_ms()), None).await?;
        inner.start_build(&row, Look::Here).await?;
        inner.pool_used(id, inner.now_ms());
        inner.repository_view(row).await
    }

    async fn register(&self, row: RepositoryRow) -> Result<()> {
        self.inner.forge.set_required_approvals(row.id, row.required_approvals).await?;
        let name = row.name.clone();
        self.inner.directory.add_repository(row).await.map_err(|error| match error {
            greenroom_directory::Error::NameTaken => name_taken(&name),
            other => other.into(),
        })
    }

    pub async fn repositories(&self, caller: &Person) -> Result<Vec<RepositoryView>> {
        require(caller, Role::Viewer)?;
        let mut views = vec![];
        for row in self.inner.directory.repositories().await? {
            views.push(self.inner.repository_view(row).await?);
        }
        Ok(views)
    }

    pub async fn repository(&self, caller: &Person, name: &RepositoryName) -> Result<RepositoryView> {
        require(caller, Role::Viewer)?;
        let row = self.inner.repository_row(name).await?;
        self.inner.repository_view(row).await
    }

    /// Removes the registration and its mirror. Refused while sessions of it exist.
    pub async fn remove_repository(&self, caller: &Person, name: &RepositoryName) -> Result<()> {
        require(caller, Role::Admin)?;
        let row = self.inner.repository_row(name).await?;
        let sessions = self.inner.directory.sessions_of_repository_count(row.id).await?;
        if sessions > 0 {
            return Err(Problem::new(
                ErrorCode::SessionBusy,
                format!("{sessions} sessions still use {name}."),
            )
            .hint("Delete them first with `greenroom session delete`."));
        }
        self.inner.pool_forgets(row.id);
        self.inner.images.cancel_build_of(row.id).await;
        self.inner.forget_secrets(row.id).await?;
        self.inner.forget_mirror(row.id)?;
        self.inner.forget_images(row.id).await?;
        self.inner.directory.remove_repository(row.id).await?;
        Ok(self.inner.forge.remove_repository(row.id).await?)
    }

    /// The first answer of git's smart HTTP protocol.
    pub async fn git_advertise(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        git_protocol: Option<&str>,
    ) -> Result<Vec<u8>> {
        let row = self.git_access(caller, name, service).await?;
        Ok(self.inner.forge.advertise(row.id, service, git_protocol).await?)
    }

    /// One exchange of git's smart HTTP protocol; returns when `output` is complete.
    pub async fn git_serve(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
        git_protocol: Option<&str>,
        input: Box<dyn AsyncRead + Send + Unpin>,
        output: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Result<()> {
        let row = self.git_access(caller, name, service).await?;
        let policy = matches!(service, GitService::ReceivePack).then_some(PushPolicy::Person(caller.id));
        let served = self.inner.forge.serve(row.id, service, git_protocol, policy, input, output).await;
        // The default branch may have moved.
        self.inner.pool.wake();
        Ok(served?)
    }

    async fn git_access(
        &self,
        caller: &Person,
        name: &RepositoryName,
        service: GitService,
    ) -> Result<RepositoryRow> {
        let role = match service {
            GitService::UploadPack => Role::Viewer,
            GitService::ReceivePack => Role::Member,
        };
        require(caller, role)?;
        self.inner.repository_row(name).await
    }
}

impl Inner {
    pub(crate) async fn repository_row(&self, name: &RepositoryName) -> Result<RepositoryRow> {
        let found = self.directory.repository_by_name(name.clone()).await?;
        found.ok_or_else(|| {
            Problem::new(ErrorCode::RepositoryUnknown, format!("There is no repository named {name}."))
                .hint(format!("Add it with `greenroom repository add {name} PATH-or-URL`."))
        })
    }

    async fn repository_view(&self, row: RepositoryRow) -> Result<RepositoryView> {
        let image = self.directory.newest_ready_image(row.id).await?;
        let newest = self.directory.images(row.id, 1).await?.pop();
        let build = newest.filter(|newest| image.as_ref().is_none_or(|image| image.id != newest.id));
        Ok(RepositoryView {
            head: self.forge.branch_head(row.id, &row.default_branch).await?,
            mirror: self.mirror_view(row.id).await?,
            clone_path: format!("/git/{}.git", row.name),
            image: image.map(crate::images::view_of),
            build: build.map(crate::images::view_of),
            id: row.id,
            name: row.name,
            source: row.source,
            default_branch: row.default_branch,
            required_approvals: row.required_approvals,
            added_at_ms: row.added_at_ms,
        })
    }
}

fn name_taken(name: &RepositoryName) -> Problem {
    Problem::new(ErrorCode::NameTaken, format!("A repository named {name} exists already."))
        .hint("Choose another name, or remove the other with `greenroom repository remove`.")
}

/// A URL without its user and password; a path as it is.
fn without_credentials(source: &str) -> String {
    match source.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn the_kept_source_holds_no_credentials() {
        assert_eq!(without_credentials("https://u:p%40@host/x.git"), "https://host/x.git");
        assert_eq!(without_credentials("https://u:p@ss@host/x.git"), "https://host/x.git");
        assert_eq!(without_credentials("/srv/x@y.git"), "/srv/x@y.git");
    }
}
