//! `image …`

use super::watching;
use super::{Desk, now_ms};
use crate::cli::Image;
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::{ago, bytes, duration, one_line};
use greenroom_domain::{ErrorCode, ExchangeName, ImageId, Problem, RepositoryName};
use greenroom_wire::{
    ExportImage, ExportedImage, ImageKept, ImageState, ImageView, ImportImage, ListedImage,
};

pub(crate) async fn perform(desk: &Desk, verb: Image) -> Result<Exit, Failure> {
    match verb {
        Image::Build { repository, follow } => build(desk, &repository, follow).await,
        Image::List { repository } => list(desk, &repository).await,
        Image::Show { image } => show(desk, image).await,
        Image::Log { image } => watching::build(desk, image).await,
        Image::Export { repository, image, to } => export(desk, &repository, image, to).await,
        Image::Import { repository, from } => import(desk, &repository, from).await,
    }
}

async fn build(desk: &Desk, repository: &RepositoryName, follow: bool) -> Result<Exit, Failure> {
    let image = desk.client.build_image(repository).await?;
    if follow {
        desk.out.json_line(&image)?;
        return watching::build(desk, image.id).await;
    }
    desk.out.document(&image, |image| {
        format!("{} is being built. Watch it: greenroom image log {}\n", image.id, image.id)
    })?;
    Ok(Exit::Done)
}

async fn export(
    desk: &Desk,
    repository: &RepositoryName,
    image: Option<ImageId>,
    to: ExchangeName,
) -> Result<Exit, Failure> {
    let image = match image {
        Some(image) => image,
        None => newest(desk, repository).await?,
    };
    let exported = desk.client.export_image(image, &ExportImage { to }).await?;
    desk.out.document(&exported, |exported| {
        let ExportedImage { image, directory, blobs, size_bytes } = exported;
        format!("{image} is at {directory} on the server: {blobs} layers, {}.\n", bytes(*size_bytes))
    })?;
    Ok(Exit::Done)
}

async fn newest(desk: &Desk, repository: &RepositoryName) -> Result<ImageId, Failure> {
    let images = desk.client.images(repository).await?;
    let newest = images.iter().find(|listed| listed.image.state == ImageState::Ready);
    newest.map(|listed| listed.image.id).ok_or_else(|| {
        let message = format!("The repository {repository} has no good image.");
        Problem::new(ErrorCode::ImageMissing, message)
            .hint(format!("Build one with `greenroom image build {repository}`."))
            .into()
    })
}

async fn import(desk: &Desk, repository: &RepositoryName, from: ExchangeName) -> Result<Exit, Failure> {
    let image = desk.client.import_image(repository, &ImportImage { from }).await?;
    desk.out.json_line(&image)?;
    watching::build(desk, image.id).await
}

async fn list(desk: &Desk, repository: &RepositoryName) -> Result<Exit, Failure> {
    let images = desk.client.images(repository).await?;
    let now = now_ms();
    desk.out.document(&images, |images| {
        let table =
            Table::new(&["IMAGE", "STATE", "COMMIT", "STARTED", "TOOK", "SIZE", "KEPT"], "No image yet.");
        let row = |listed: &ListedImage| {
            let size = listed.size_bytes.map_or(String::new(), bytes);
            [cells(&listed.image, now), vec![size, kept(listed.kept, now)]].concat()
        };
        table.right(&[4, 5]).rows(images, row).text()
    })?;
    Ok(Exit::Done)
}

async fn show(desk: &Desk, image: ImageId) -> Result<Exit, Failure> {
    let image = desk.client.image(image).await?;
    let now = now_ms();
    desk.out.document(&image, |image| {
        let [id, state, commit, started, took]: [String; 5] =
            cells(image, now).try_into().expect("a row has five cells");
        let reason = image.problem.as_ref().map_or(String::new(), |problem| format!("{problem}\n"));
        let table = Table::new(&["STEP", "", "TOOK"], "No step was finished.").right(&[2]);
        let steps = table.rows(&image.steps, |step| {
            let is_new = if step.is_reused { "reused" } else { "ran" };
            vec![step.name.clone(), is_new.to_owned(), duration(step.duration_ms)]
        });
        format!("{id}  {state}  {commit}  {started}  {took}\n{reason}\n{}", steps.text())
    })?;
    Ok(Exit::Done)
}

fn kept(kept: Option<ImageKept>, now: i64) -> String {
    match kept {
        None => String::new(),
        Some(ImageKept::Newest) => "new sessions start from it".to_owned(),
        Some(ImageKept::AmongNewest { of }) => format!("among the newest {of}"),
        Some(ImageKept::InUse) => "in use".to_owned(),
        Some(ImageKept::ForItsLog { until_ms }) => {
            format!("its log, {} more days", (until_ms - now).max(0) / (24 * 60 * 60 * 1000))
        }
    }
}

fn cells(image: &ImageView, now: i64) -> Vec<String> {
    let state = match (image.state, &image.problem) {
        (ImageState::Building, _) => "building".to_owned(),
        (ImageState::Ready, _) => "ready".to_owned(),
        (ImageState::Failed, Some(problem)) => format!("failed: {}", one_line(&problem.message, 60)),
        (ImageState::Failed, None) => "failed".to_owned(),
    };
    let commit = image.commit.as_ref().map_or("", |commit| &commit.as_str()[..10]);
    let took =
        image.finished_at_ms.map_or(String::new(), |end| duration((end - image.started_at_ms).max(0) as u64));
    vec![image.id.to_string(), state, commit.to_owned(), ago(image.started_at_ms, now), took]
}
