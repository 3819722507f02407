//! `bench image`: building an environment image from nothing, after a changed source file, after a changed lockfile, of a
//! Rust and a Node project with dependencies from the registries. Beside each, `floor`: the same fetch and the same
//! commands of the parts that ran, on the machine itself, from what the build began with (checks after a changed step begin
//! without what earlier ones left). The aim is a factor of at most two. `kept`: where that floor is not the same, one that
//! kept all its earlier output.

use super::served::Knobs;
use super::world::World;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::table::Table;
use futures::StreamExt;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_wire::{AddRepository, BuildFrame, ImageState, ImageView, StepView};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// One project and what it is measured with. Commands are those that detection derives.
struct Project {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// Writes the lockfile.
    lock: &'static str,
    source: (&'static str, &'static str),
    /// Changes a dependency and the lockfile with it.
    relock: &'static str,
    install: &'static str,
    checks: &'static str,
}

const PROJECTS: [Project; 2] = [
    Project {
        name: "rust",
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nitoa = \"=1.0.14\"\n\
                 regex = \"1\"\nserde_json = \"1\"\n\n[workspace]\n",
            ),
            (
                "src/main.rs",
                "fn main() {\n    println!(\"{}\", serde_json::json!({ \"a\": 1 }));\n}\n\n#[test]\nfn it() {}\n",
            ),
            (".gitignore", "/target\n"),
        ],
        lock: "cargo generate-lockfile",
        source: (
            "src/main.rs",
            "fn main() {\n    println!(\"{}\", serde_json::json!({ \"a\": 2 }));\n}\n\n#[test]\nfn it() {}\n",
        ),
        relock: "sed -i 's/=1.0.14/=1.0.15/' Cargo.toml && cargo update -p itoa",
        install: "cargo fetch",
        checks: "cargo build --workspace && cargo test --workspace --no-run && cargo test --workspace",
    },
    Project {
        name: "node",
        files: &[
            (
                "package.json",
                "{\n  \"name\": \"sample\",\n  \"version\": \"1.0.0\",\n  \"private\": true,\n  \"scripts\": { \"test\": \"node test.js\" },\n  \
                 \"dependencies\": { \"express\": \"4.21.1\", \"lodash\": \"4.17.21\", \"typescript\": \"5.6.3\" }\n}\n",
            ),
            ("test.js", "require('express'); require('lodash'); console.log('ok');\n"),
            (".gitignore", "node_modules\n"),
        ],
        lock: "npm install --package-lock-only --no-audit --no-fund",
        source: ("test.js", "require('express'); require('lodash'); console.log('changed');\n"),
        relock: "sed -i 's/4.21.1/4.21.2/' package.json && npm install --package-lock-only --no-audit --no-fund",
        install: "npm ci --no-audit --no-fund",
        checks: "CI=1 npm run test",
    },
];

/// One build and its floor.
struct Row {
    name: String,
    build_ms: u64,
    floor_ms: u64,
    kept_ms: Option<u64>,
    steps: Vec<StepView>,
}

pub(crate) async fn run(global: &Global, out: Output) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for project in &PROJECTS {
        out.progress(&format!("{}…\n", project.name));
        let world = World::start_empty(global, out, Knobs::usual(16).without_pool(), project.name).await?;
        let measured = measure(&world, project).await;
        world.stop().await;
        rows.extend(measured?);
    }
    out.document(&document(&rows), |_| text(&rows))?;
    Ok(Exit::Done)
}

async fn measure(world: &World, project: &Project) -> Result<Vec<Row>, Failure> {
    let place = tempfile::tempdir()?;
    let (source, floor) = (place.path().join("source"), Floor::new(place.path())?);
    std::fs::create_dir(&source)?;
    super::world::make_repository(&source, project.files)?;
    shell(project.lock, &source, &[])?;
    commit(&source)?;

    let began = Instant::now();
    let body = AddRepository {
        name: world.repository.clone(),
        source: source.display().to_string(),
        required_approvals: None,
    };
    let added = world.desk.client.add_repository(&body).await?;
    let build = added.build.or(added.image).ok_or_else(|| missing("the first build did not begin"))?;
    let first = finished(world, build).await?;
    let build_ms = millis(began);
    let mut rows = vec![Row {
        name: format!("{}.from_nothing", project.name),
        build_ms,
        floor_ms: floor.run(world, Some(project.install), project.checks)?,
        kept_ms: None,
        steps: first.steps,
    }];

    let (path, text) = project.source;
    std::fs::write(source.join(path), text)?;
    rows.push(again(world, &source, project, &floor, "changed_source", None).await?);
    shell(project.relock, &source, &[])?;
    rows.push(again(world, &source, project, &floor, "changed_lockfile", Some(project.install)).await?);
    Ok(rows)
}

async fn again(
    world: &World,
    source: &Path,
    project: &Project,
    floor: &Floor,
    name: &str,
    install: Option<&str>,
) -> Result<Row, Failure> {
    commit(source)?;
    git(source, &["push", "-q", &world.push_url(), "HEAD:main"])?;
    let began = Instant::now();
    let build = world.desk.client.build_image(&world.repository).await?;
    let image = finished(world, build).await?;
    let build_ms = millis(began);
    let kept_ms = floor.run(world, install, project.checks)?;
    let (floor_ms, kept_ms) = match install {
        Some(_) => (floor.run_again(world, install, project.checks)?, Some(kept_ms)),
        None => (kept_ms, None),
    };
    Ok(Row { name: format!("{}.{name}", project.name), build_ms, floor_ms, kept_ms, steps: image.steps })
}

async fn finished(world: &World, build: ImageView) -> Result<ImageView, Failure> {
    let mut frames = world.desk.client.follow_build(build.id);
    while let Some(frame) = frames.next().await {
        if let BuildFrame::Finished { image } = frame? {
            return match (image.state, &image.problem) {
                (ImageState::Ready, _) => Ok(image),
                (_, Some(problem)) => Err(problem.clone().into()),
                _ => Err(missing("the image was not built")),
            };
        }
    }
    Err(missing("the build's log ended before the build"))
}

/// A clone on the machine itself, with package caches of its own.
struct Floor {
    clone: std::path::PathBuf,
    /// Where checks leave what they build.
    output: std::path::PathBuf,
    env: Vec<(String, String)>,
}

impl Floor {
    fn new(place: &Path) -> Result<Self, Failure> {
        let caches = place.join("caches");
        std::fs::create_dir(&caches)?;
        let path = |name: &str| caches.join(name).display().to_string();
        let env = vec![
            ("CARGO_HOME".to_owned(), path("cargo")),
            ("npm_config_cache".to_owned(), path("npm")),
            ("CARGO_TARGET_DIR".to_owned(), path("target")),
        ];
        Ok(Self { clone: place.join("floor"), output: caches.join("target"), env })
    }

    /// The same without what earlier checks left; what `install` fetched stays fetched.
    fn run_again(&self, world: &World, install: Option<&str>, checks: &str) -> Result<u64, Failure> {
        if self.output.exists() {
            std::fs::remove_dir_all(&self.output)?;
        }
        self.run(world, install, checks)
    }

    /// Fetches the newest commit and runs what the build had to run.
    fn run(&self, world: &World, install: Option<&str>, checks: &str) -> Result<u64, Failure> {
        let began = Instant::now();
        if self.clone.exists() {
            git(&self.clone, &["fetch", "-q", "origin"])?;
            git(&self.clone, &["checkout", "-q", "-f", "origin/main"])?;
        } else {
            let parent = self.clone.parent().unwrap_or(Path::new("/"));
            git(parent, &["clone", "-q", &world.push_url(), &self.clone.display().to_string()])?;
        }
        for command in install.into_iter().chain([checks]) {
            shell(command, &self.clone, &self.env)?;
        }
        Ok(millis(began))
    }
}

fn commit(source: &Path) -> Result<(), Failure> {
    git(source, &["add", "-A"])?;
    git(
        source,
        &[
            "-c",
            "user.name=Greenroom",
            "-c",
            "user.email=bench@demo.invalid",
            "commit",
            "-q",
            "-m",
            "A change",
        ],
    )
}

fn git(directory: &Path, arguments: &[&str]) -> Result<(), Failure> {
    succeed(Command::new("git").arg("-C").arg(directory).args(arguments), "git")
}

fn shell(command: &str, directory: &Path, env: &[(String, String)]) -> Result<(), Failure> {
    let env = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    succeed(Command::new("sh").args(["-ec", command]).current_dir(directory).envs(env), command)
}

fn succeed(command: &mut Command, what: &str) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Problem::new(ErrorCode::Internal, format!("`{what}` failed on this machine.")).detail(text).into())
}

fn missing(what: &str) -> Failure {
    Problem::new(ErrorCode::ImageMissing, format!("Nothing was measured: {what}.")).into()
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Row {
    fn ratio(&self) -> f64 {
        (self.build_ms as f64 / self.floor_ms.max(1) as f64 * 100.0).round() / 100.0
    }

    /// Milliseconds of each part that ran; the rest of the build is starting, keeping and publishing.
    fn durations(&self) -> Map<String, Value> {
        let ran = self.steps.iter().filter(|step| !step.is_reused);
        ran.map(|step| (step.name.clone(), json!(step.duration_ms))).collect()
    }

    fn names(&self, is_reused: bool) -> Vec<&str> {
        let steps = self.steps.iter().filter(|step| step.is_reused == is_reused);
        steps.map(|step| step.name.as_str()).collect()
    }
}

fn document(rows: &[Row]) -> Value {
    let entry = |row: &Row| {
        let value = json!({
            "build_ms": row.build_ms,
            "floor_ms": row.floor_ms,
            "kept_ms": row.kept_ms,
            "ratio": row.ratio(),
            "ran": row.names(false),
            "ran_ms": row.durations(),
            "reused": row.names(true),
        });
        (row.name.clone(), value)
    };
    Value::Object(rows.iter().map(entry).collect::<Map<_, _>>())
}

fn text(rows: &[Row]) -> String {
    let table =
        Table::new(&["IMAGE", "BUILD MS", "FLOOR MS", "RATIO", "KEPT MS", "RAN"], "Nothing was measured.");
    let table = table.right(&[1, 2, 3, 4]).rows(rows, |row| {
        vec![
            row.name.clone(),
            row.build_ms.to_string(),
            row.floor_ms.to_string(),
            format!("{:.2}", row.ratio()),
            row.kept_ms.map_or_else(|| "-".to_owned(), |kept| kept.to_string()),
            row.names(false).join(", "),
        ]
    });
    table.text()
}
