//! A server of the benchmark's own, with one repository whose image is built.

use crate::cli::Global;
use crate::connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::server::{self, Options, Server};
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
        let address: Address = server.listening_on().parse().map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("The server's own address cannot be read: {error}."))
        })?;
        let client = Client::new(address, Credential::Token(server.local_token.clone()))?;
        let repository = "bench".parse().expect("a valid name");
        let world = Self { desk: Desk { client, out }, repository, server, data };
        world.add_repository(files).await?;
        Ok(world)
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

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
        // The directory is this run's own; what cannot be removed is only disk space.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn make_repository(directory: &Path, files: &[(&str, &str)]) -> Result<(), Failure> {
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
