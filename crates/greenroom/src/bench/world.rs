//! A server of the benchmark's own, with one repository whose image is built.

use super::process::Process;
use super::served::{Knobs, Served};
use crate::cli::Global;
use crate::connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::verb::Desk;
use greenroom_client::{Address, Client, Credential};
use greenroom_domain::{ErrorCode, Problem, RepositoryName};
use greenroom_model::Provider;
use greenroom_wire::{AddRepository, BuildFrame, ImageState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) repository: RepositoryName,
    served: Served,
    data: PathBuf,
}

impl World {
    /// A server in a process of its own, as people run it.
    pub(crate) async fn start(
        global: &Global,
        out: Output,
        knobs: Knobs,
        files: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let world = Self::start_empty(global, out, knobs, "bench").await?;
        world.add_repository(files).await?;
        Ok(world)
    }

    /// A server of this process, which answers with this provider.
    pub(crate) async fn with_provider(
        global: &Global,
        out: Output,
        provider: Arc<dyn Provider>,
        files: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let data = directory(global);
        let served = Served::here(&data, provider).await?;
        let world = Self::over(served, data, out, "bench")?;
        world.add_repository(files).await?;
        Ok(world)
    }

    /// With nothing in it yet: the caller adds a repository itself.
    pub(crate) async fn start_empty(
        global: &Global,
        out: Output,
        knobs: Knobs,
        name: &str,
    ) -> Result<Self, Failure> {
        let data = directory(global);
        Self::over(Served::process(&data, knobs).await?, data, out, name)
    }

    /// The same data behind another server.
    pub(crate) async fn again(self, knobs: Knobs) -> Result<Self, Failure> {
        self.again_after(knobs, async |_: &Path| Ok(())).await
    }

    /// The same, with something done to the data while no server has them.
    pub(crate) async fn again_after(
        self,
        knobs: Knobs,
        between: impl AsyncFnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let Self { desk, repository, served, data } = self;
        served.stop().await?;
        between(&data).await?;
        let served = Served::process(&data, knobs).await?;
        Self::over(served, data, desk.out, repository.as_str())
    }

    fn over(served: Served, data: PathBuf, out: Output, name: &str) -> Result<Self, Failure> {
        let client = client_with(&served.address, served.token.clone())?;
        let repository = name.parse().expect("a valid name");
        Ok(Self { desk: Desk { client, out }, repository, served, data })
    }

    async fn add_repository(&self, files: &[(&str, &str)]) -> Result<(), Failure> {
        let source = tempfile::tempdir()?;
        make_repository(source.path(), files)?;
        let body = AddRepository {
            name: self.repository.clone(),
            source: source.path().display().to_string(),
            required_approvals: None,
        };
        let added = self.desk.client.add_repository(&body).await?;
        let Some(build) = added.build.or(added.image) else { return Ok(()) };
        let mut frames = self.desk.client.follow_build(build.id);
        while let Some(frame) = futures::StreamExt::next(&mut frames).await {
            if let BuildFrame::Finished { image } = frame? {
                return match (image.state, image.problem) {
                    (ImageState::Ready, _) => Ok(()),
                    (_, Some(problem)) => Err(problem.into()),
                    _ => Err(Problem::new(ErrorCode::ImageMissing, "The image was not built.").into()),
                };
            }
        }
        Ok(())
    }

    /// Where its repository is pushed to, with what that takes.
    pub(crate) fn push_url(&self) -> String {
        let host = self.served.address.trim_start_matches("http://");
        format!("http://bench:{}@{host}/git/{}.git", self.served.token, self.repository)
    }

    pub(crate) fn address(&self) -> &str {
        &self.served.address
    }

    /// The measured process.
    pub(crate) fn process(&self) -> Result<Process, Failure> {
        let missing = || Problem::new(ErrorCode::Internal, "The measured server has no process of its own.");
        Ok(Process::new(self.served.pid().ok_or_else(missing)?))
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) async fn stop(self) {
        if let Err(failure) = self.served.stop().await {
            tracing::warn!(?failure, "the measured server did not stop");
        }
        // The directory is this run's own; what cannot be removed is only disk space.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl World {
    /// The client of one more person: the server bounds how much each asks for at once.
    pub(crate) async fn person(&self, number: usize) -> Result<Client, Failure> {
        client_with(&self.served.address, self.token(number).await?)
    }

    /// A new person's token.
    pub(crate) async fn token(&self, number: usize) -> Result<String, Failure> {
        let login: greenroom_domain::LoginName = format!("bench-{number}").parse().expect("a valid login");
        let body = greenroom_wire::AddPerson {
            login: login.clone(),
            name: format!("Bench {number}"),
            email: format!("bench-{number}@example.org"),
            role: greenroom_domain::Role::Member,
        };
        self.desk.client.add_person(&body).await?;
        Ok(self.desk.client.create_token("bench", Some(login), None).await?.secret)
    }
}

fn directory(global: &Global) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let beside = || connection::data_dir(None).with_file_name("greenroom-bench");
    global.data.clone().unwrap_or_else(beside).join(format!("bench-{now}"))
}

pub(crate) fn client_with(address: &str, token: String) -> Result<Client, Failure> {
    let address: Address = address.parse().map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The server's own address cannot be read: {error}."))
    })?;
    Ok(Client::new(address, Credential::Token(token))?)
}

pub(crate) fn make_repository(directory: &Path, files: &[(&str, &str)]) -> Result<(), Failure> {
    for (name, text) in files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    for arguments in
        [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "Files to measure with"]]
    {
        let identity = ["-c", "user.name=Greenroom", "-c", "user.email=bench@demo.invalid"];
        let status = Command::new("git").args(identity).args(arguments).current_dir(directory).status()?;
        if !status.success() {
            return Err(Problem::new(
                ErrorCode::Internal,
                "git could not make the repository to measure with.",
            )
            .into());
        }
    }
    Ok(())
}
