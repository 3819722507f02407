//! A server of the benchmark's own, with one repository whose image is built.

use crate::cli::Global;
use crate::connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::server::{self, Options, Server};
use crate::verb::Desk;
use greenroom_app::PoolLimits;
use greenroom_client::{Address, Client, Credential};
use greenroom_domain::{ErrorCode, Problem, RepositoryName};
use greenroom_model::Provider;
use greenroom_wire::{AddRepository, BuildFrame, ImageState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What differs between servers that are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knobs {
    pub(crate) blanks: usize,
    pub(crate) pool: PoolLimits,
    pub(crate) max_sandboxes: usize,
}

impl Knobs {
    /// As `serve` has them, with room for what a benchmark starts.
    pub(crate) fn usual(max_sandboxes: usize) -> Self {
        Self { blanks: greenroom_sandboxd::DEFAULT_BLANKS, pool: PoolLimits::default(), max_sandboxes }
    }

    pub(crate) fn without_pool(self) -> Self {
        Self { pool: PoolLimits { floor: 0, cap: 0, most: 0 }, ..self }
    }

    fn apply(self, options: Options) -> Options {
        Options { blanks: self.blanks, pool: self.pool, max_sandboxes: self.max_sandboxes, ..options }
    }
}

pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) repository: RepositoryName,
    server: Server,
    data: PathBuf,
}

impl World {
    pub(crate) async fn start(
        global: &Global,
        out: Output,
        provider: Option<Arc<dyn Provider>>,
        files: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let parent = global
            .data
            .clone()
            .unwrap_or_else(|| connection::data_dir(None).with_file_name("greenroom-bench"));
        let data = parent.join(format!("bench-{now}"));
        let server = server::start(Options::local(data.clone(), 0, provider)).await?;
        let client = client_of(&server)?;
        let repository = "bench".parse().expect("a valid name");
        let world = Self { desk: Desk { client, out }, repository, server, data };
        world.add_repository(files).await?;
        Ok(world)
    }

    /// The same repository, built again behind another server with a data directory of its own.
    pub(crate) async fn another(self, knobs: Knobs, files: &[(&str, &str)]) -> Result<Self, Failure> {
        let next = self.data.with_extension(format!("{}-blanks", knobs.blanks));
        let data = if next == self.data { self.data.with_extension("again") } else { next };
        let Self { desk, repository, server, data: former } = self;
        server.stop().await;
        // Only what is left over.
        let _ = std::fs::remove_dir_all(former);
        let server = server::start(knobs.apply(Options::local(data.clone(), 0, None))).await?;
        let client = client_of(&server)?;
        let world = Self { desk: Desk { client, out: desk.out }, repository, server, data };
        world.add_repository(files).await?;
        Ok(world)
    }

    /// With nothing in it yet: the caller adds a repository itself.
    pub(crate) async fn start_empty(global: &Global, out: Output, name: &str) -> Result<Self, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let parent = global
            .data
            .clone()
            .unwrap_or_else(|| connection::data_dir(None).with_file_name("greenroom-bench"));
        let data = parent.join(format!("bench-{now}"));
        let server = server::start(Options::local(data.clone(), 0, None)).await?;
        let client = client_of(&server)?;
        let repository = name.parse().expect("a valid name");
        Ok(Self { desk: Desk { client, out }, repository, server, data })
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
        let address = self.server.listening_on();
        let host = address.trim_start_matches("http://");
        format!("http://bench:{}@{host}/git/{}.git", self.server.local_token, self.repository)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
        // The directory is this run's own; what cannot be removed is only disk space.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl World {
    /// The client of one more person: the server bounds how much each asks for at once.
    pub(crate) async fn person(&self, number: usize) -> Result<Client, Failure> {
        let login: greenroom_domain::LoginName = format!("bench-{number}").parse().expect("a valid login");
        let body = greenroom_wire::AddPerson {
            login: login.clone(),
            name: format!("Bench {number}"),
            email: format!("bench-{number}@example.org"),
            role: greenroom_domain::Role::Member,
        };
        self.desk.client.add_person(&body).await?;
        let token = self.desk.client.create_token("bench", Some(login)).await?;
        client_with(&self.server, token.secret)
    }
}

fn client_of(server: &Server) -> Result<Client, Failure> {
    client_with(server, server.local_token.clone())
}

fn client_with(server: &Server, token: String) -> Result<Client, Failure> {
    let address: Address = server.listening_on().parse().map_err(|error| {
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
