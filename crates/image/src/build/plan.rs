//! What a build will do, decided before anything is made: commit, recipe, instructions, and what every step depends on.

use super::keys::{self, Environment};
use super::touched::Tracked;
use super::{BuildFailure, BuildRequest, Builder, failure};
use crate::detect::{Detected, Ecosystem, detect, wanted};
use crate::devcontainer;
use crate::exchange::Exchanged;
use crate::instructions::{self, Instructions};
use crate::key::{KeyHasher, LayerKey};
use crate::recipe::{RECIPE_PATH, Recipe, RecipeBase, Step, glob, limit};
use greenroom_domain::{CommitHash, ErrorCode, Problem};
use std::collections::HashMap;
use std::sync::Arc;

/// Ready to run. `recipe.egress_allow` is what the broker must let through for `build_session(image)`.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    pub request: BuildRequest,
    pub commit: CommitHash,
    pub recipe: Recipe,
    pub source: RecipeSource,
    /// Sentences about the recipe for the build's log, for example what of a devcontainer is not done.
    pub notes: Vec<String>,
    pub instructions: Instructions,
    pub runtime_version: String,
    /// Everything that the layers depend on besides commit and steps.
    pub(super) environment: Environment,
    pub(super) tracked: Arc<Tracked>,
    /// Digest of each step's declared inputs at the commit, in the recipe's order.
    pub(super) inputs: Vec<LayerKey>,
    /// The image of another machine that is taken instead of making one.
    pub(super) exchanged: Option<Exchanged>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeSource {
    /// `.greenroom/environment.toml`.
    File,
    /// The devcontainer file of this path; what it leaves open is detected.
    Devcontainer(String),
    /// Derived; empty for a plain repository.
    Detected(Vec<Ecosystem>),
}

/// Files that decide anything are small; larger ones are not looked at.
const READ_BYTES: u64 = 1024 * 1024;
const INPUT_BYTES: u64 = 16 * 1024 * 1024;
const INPUT_FILES: usize = 256;

pub(super) async fn plan(builder: &Builder, request: BuildRequest) -> Result<BuildPlan, BuildFailure> {
    let head =
        builder.forge.branch_head(request.repository, &request.branch).await.map_err(failure::forge)?;
    let commit = head.ok_or_else(|| no_commit(&request))?;
    let paths = builder.forge.list_files(request.repository, &commit, "").await.map_err(failure::forge)?;
    plan_at(builder, request, commit, paths).await
}

pub(super) async fn plan_at(
    builder: &Builder,
    request: BuildRequest,
    commit: CommitHash,
    paths: Vec<String>,
) -> Result<BuildPlan, BuildFailure> {
    let tree = Tree { builder, request: &request, commit: &commit };
    let (recipe, source, notes) = tree.recipe(&paths).await?;
    let instructions = instructions::read_among(&*builder.forge, request.repository, &commit, &paths)
        .await
        .map_err(failure::forge)?;
    let runtime_version = crate::runtime_version(&builder.sandboxes.capabilities());
    let environment = keys::environment(builder, &request, &runtime_version, &recipe.base);
    let mut inputs = Vec::with_capacity(recipe.steps.len());
    for step in &recipe.steps {
        inputs.push(tree.inputs(step, &paths).await?);
    }
    Ok(BuildPlan {
        commit: commit.clone(),
        exchanged: None,
        recipe,
        source,
        notes,
        instructions,
        runtime_version,
        environment,
        tracked: Arc::new(Tracked::new(paths)),
        inputs,
        request,
    })
}

fn no_commit(request: &BuildRequest) -> Problem {
    Problem::new(
        ErrorCode::CloneFailed,
        format!("The repository {} has no commit on its branch {}.", request.name, request.branch),
    )
    .hint("Push a first commit to that branch and build again.")
}

struct Tree<'a> {
    builder: &'a Builder,
    request: &'a BuildRequest,
    commit: &'a CommitHash,
}

impl Tree<'_> {
    async fn file(&self, path: &str, limit: u64) -> greenroom_forge::Result<Option<Vec<u8>>> {
        self.builder.forge.read_file(self.request.repository, self.commit, path, limit).await
    }

    /// Written, else of a devcontainer, else detected.
    async fn recipe(&self, paths: &[String]) -> Result<(Recipe, RecipeSource, Vec<String>), Problem> {
        let has = |wanted: &str| paths.iter().any(|path| path == wanted);
        if has(RECIPE_PATH)
            && let Some(text) = self.file(RECIPE_PATH, READ_BYTES).await.map_err(failure::forge)?
        {
            return Ok((Recipe::parse(&text)?, RecipeSource::File, vec![]));
        }
        let detected = self.detected(paths).await?;
        for path in devcontainer::PATHS.into_iter().filter(|path| has(path)) {
            if let Some(text) = self.file(path, READ_BYTES).await.map_err(failure::forge)? {
                let mut made = devcontainer::parse(path, &text)?;
                let mut notes: Vec<String> =
                    made.notes.drain(..).map(|note| format!("{path}: {note}")).collect();
                let recipe = complete(made, detected, &mut notes);
                return Ok((recipe, RecipeSource::Devcontainer(path.to_owned()), notes));
            }
        }
        Ok((detected.recipe, RecipeSource::Detected(detected.ecosystems), detected.notes))
    }

    async fn detected(&self, paths: &[String]) -> Result<Detected, Problem> {
        let mut files = HashMap::new();
        for path in wanted(paths) {
            match self.file(&path, READ_BYTES).await {
                Ok(Some(bytes)) => drop(files.insert(path, bytes)),
                Ok(None) | Err(greenroom_forge::Error::Refused(_)) => {}
                Err(error) => return Err(failure::forge(error)),
            }
        }
        Ok(detect(paths, &|path| files.get(path).cloned()))
    }

    async fn inputs(&self, step: &Step, paths: &[String]) -> Result<LayerKey, Problem> {
        let globs: Vec<_> = step.inputs.iter().filter_map(|pattern| glob(pattern).ok()).collect();
        let is_input = |path: &&String| {
            globs.iter().any(|glob| glob.is_match(path.as_str())) && !path.contains(char::is_control)
        };
        let mut files: Vec<_> = paths.iter().filter(is_input).collect();
        files.sort();
        if files.len() > INPUT_FILES {
            return Err(too_many_inputs(step, files.len()));
        }
        let mut hasher = KeyHasher::new("inputs");
        for path in files {
            let bytes = self.file(path, INPUT_BYTES).await.map_err(failure::forge)?.unwrap_or_default();
            hasher = hasher.part("path", path).part("content", bytes);
        }
        Ok(hasher.finish())
    }
}

/// Detection adds what a devcontainer leaves open: the installation of dependencies where it has no command, and checks.
fn complete(made: devcontainer::Devcontainer, detected: Detected, notes: &mut Vec<String>) -> Recipe {
    let has_commands = made.has_commands;
    let mut recipe = made.recipe;
    if !has_commands {
        recipe.steps = detected.recipe.steps;
        recipe.env = detected.recipe.env.into_iter().chain(recipe.env).collect();
        notes.extend(detected.notes);
    }
    recipe.checks = detected.recipe.checks;
    if recipe.base != RecipeBase::Host {
        notes.push(format!("the base is {}", recipe.base.text()));
    }
    recipe
}

fn too_many_inputs(step: &Step, found: usize) -> Problem {
    debug_assert!(step.inputs.len() <= limit::INPUTS);
    Problem::new(
        ErrorCode::RecipeInvalid,
        format!(
            "The inputs of the step {:?} match {found} files, and at most {INPUT_FILES} are allowed.",
            step.name
        ),
    )
    .hint("Name the files that the step depends on, or leave `inputs` out.")
}
