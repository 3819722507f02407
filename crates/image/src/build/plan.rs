//! What a build will do, decided before anything is made: commit, recipe, instructions, and the key of every layer.

use super::{BuildFailure, BuildRequest, Builder, SandboxSetup, failure, run};
use crate::detect::{Ecosystem, detect, wanted};
use crate::instructions::{self, Instructions};
use crate::key::{KeyHasher, LayerKey};
use crate::recipe::{RECIPE_PATH, Recipe, Step, glob, limit};
use greenroom_domain::{CommitHash, ErrorCode, Problem};
use std::collections::HashMap;

/// Ready to run. `recipe.egress_allow` is what the broker must let through for `build_session(image)`.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    pub request: BuildRequest,
    pub commit: CommitHash,
    pub recipe: Recipe,
    pub source: RecipeSource,
    pub instructions: Instructions,
    pub runtime_version: String,
    /// In the order of the chain: clone, steps, finish.
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeSource {
    /// `.greenroom/environment.toml`.
    File,
    /// Derived; empty for a plain repository.
    Detected(Vec<Ecosystem>),
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) key: LayerKey,
    pub(super) work: Work,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Clone,
    Step(Step),
    Finish,
}

/// Files that decide anything are small; larger ones are not looked at.
const READ_BYTES: u64 = 1024 * 1024;
const INPUT_BYTES: u64 = 16 * 1024 * 1024;
const INPUT_FILES: usize = 256;

pub(super) async fn plan(builder: &Builder, request: BuildRequest) -> Result<BuildPlan, BuildFailure> {
    let head =
        builder.forge.branch_head(request.repository, &request.branch).await.map_err(failure::forge)?;
    let commit = head.ok_or_else(|| no_commit(&request))?;
    let tree = Tree { builder, request: &request, commit: &commit };
    let paths = builder.forge.list_files(request.repository, &commit, "").await.map_err(failure::forge)?;
    let (recipe, source) = tree.recipe(&paths).await?;
    let instructions = instructions::read_among(&*builder.forge, request.repository, &commit, &paths)
        .await
        .map_err(failure::forge)?;
    let runtime_version = crate::runtime_version(&builder.sandboxes.capabilities());
    let parts = tree.parts(&recipe, &paths, &runtime_version).await?;
    Ok(BuildPlan { commit: commit.clone(), recipe, source, instructions, runtime_version, parts, request })
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

    async fn recipe(&self, paths: &[String]) -> Result<(Recipe, RecipeSource), Problem> {
        if paths.iter().any(|path| path == RECIPE_PATH)
            && let Some(text) = self.file(RECIPE_PATH, READ_BYTES).await.map_err(failure::forge)?
        {
            return Ok((Recipe::parse(&text)?, RecipeSource::File));
        }
        let mut files = HashMap::new();
        for path in wanted(paths) {
            match self.file(&path, READ_BYTES).await {
                Ok(Some(bytes)) => drop(files.insert(path, bytes)),
                Ok(None) | Err(greenroom_forge::Error::Refused(_)) => {}
                Err(error) => return Err(failure::forge(error)),
            }
        }
        let detected = detect(paths, &|path| files.get(path).cloned());
        Ok((detected.recipe, RecipeSource::Detected(detected.ecosystems)))
    }

    async fn parts(&self, recipe: &Recipe, paths: &[String], runtime: &str) -> Result<Vec<Part>, Problem> {
        let mut key = self.clone_key(runtime);
        let mut parts = vec![Part { name: "clone".into(), key: key.clone(), work: Work::Clone }];
        for step in &recipe.steps {
            let hasher = KeyHasher::new("step")
                .part("parent", key.as_str())
                .part("run", &step.run)
                .part("env", json(&recipe.env));
            key = self.inputs(hasher, step, paths).await?.finish();
            parts.push(Part { name: step.name.clone(), key: key.clone(), work: Work::Step(step.clone()) });
        }
        let finish = KeyHasher::new("finish")
            .part("parent", key.as_str())
            .part("script", run::FINISH_SCRIPT)
            .part("checks", json(&recipe.checks))
            .part("env", json(&recipe.env))
            .finish();
        parts.push(Part { name: "finish".into(), key: finish, work: Work::Finish });
        Ok(parts)
    }

    fn clone_key(&self, runtime: &str) -> LayerKey {
        let SandboxSetup { binds, env, files } = &self.request.setup;
        let files: Vec<_> = files.iter().map(|(path, bytes)| (path, digest(bytes))).collect();
        KeyHasher::new("clone")
            .part("runtime", runtime)
            .part("base", &self.builder.base_fingerprint)
            .part("repository", self.request.repository.to_string())
            .part("branch", self.request.branch.as_str())
            .part("commit", self.commit.as_str())
            .part("url", &self.request.clone_url)
            .part("script", run::CLONE_SCRIPT)
            .part("binds", json(binds))
            .part("env", json(env))
            .part("files", json(&files))
            .finish()
    }

    async fn inputs(
        &self,
        mut hasher: KeyHasher,
        step: &Step,
        paths: &[String],
    ) -> Result<KeyHasher, Problem> {
        let globs: Vec<_> = step.inputs.iter().filter_map(|pattern| glob(pattern).ok()).collect();
        let is_input = |path: &&String| {
            globs.iter().any(|glob| glob.is_match(path.as_str())) && !path.contains(char::is_control)
        };
        let mut files: Vec<_> = paths.iter().filter(is_input).collect();
        files.sort();
        if files.len() > INPUT_FILES {
            return Err(too_many_inputs(step, files.len()));
        }
        for path in files {
            let bytes = self.file(path, INPUT_BYTES).await.map_err(failure::forge)?.unwrap_or_default();
            hasher = hasher.part("path", path).part("content", bytes);
        }
        Ok(hasher)
    }
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

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values with text keys")
}

fn digest(bytes: &[u8]) -> LayerKey {
    KeyHasher::new("file").part("content", bytes).finish()
}
