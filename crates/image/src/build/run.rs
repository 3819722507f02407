//! Carries out a plan: part by part, each in its own sandbox, and removes everything temporary however it ends. A part
//! whose layer is there already does not run; `keys` and `touched` say when that is sound.

use super::failure::{self, What};
use super::keys;
use super::log::BuildLog;
use super::program::Program;
use super::progress::{BuildEvent, Progress};
use super::sandbox::BuildSandbox;
use super::touched::{self, Bound};
use super::{BuildFailure, BuildPlan, Builder, build_fence, scripts};
use crate::environment::environment;
use crate::key::LayerKey;
use crate::manifest::{CheckReport, ImageBase, ImageManifest, LayerRef, MANIFEST_VERSION, PartReport, Reuse};
use crate::recipe::{RecipeBase, Step};
use crate::store::{Hold, LONG_CHAIN, LayerMeta, squashed_key};
use greenroom_domain::Problem;
use greenroom_sandbox::{Base, ClaimSpec, Workspace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const FINISH_MINUTES: u32 = 10;
const SQUASHED: &str = "squashed";

#[derive(Debug)]
pub(super) struct Run {
    pub(super) builder: Builder,
    pub(super) plan: BuildPlan,
    pub(super) progress: Progress,
    pub(super) cancel: CancellationToken,
    pub(super) base: ImageBase,
    pub(super) env: Vec<(String, String)>,
    /// What the base's image says of the environment.
    pub(super) base_env: BTreeMap<String, String>,
    /// Published layers so far, lowest first.
    pub(super) layers: Vec<LayerRef>,
    parts: Vec<PartReport>,
    pub(super) checks: Vec<CheckReport>,
    pub(super) reuse: Reuse,
    /// On everything that was looked for or made, until the manifest names it.
    hold: Hold,
    runs: u32,
}

impl Run {
    pub(super) fn new(
        builder: Builder,
        plan: BuildPlan,
        progress: mpsc::Sender<BuildEvent>,
        cancel: CancellationToken,
    ) -> Self {
        let env = environment(&plan.request.setup.env, &plan.recipe.env);
        let reuse = Reuse {
            environment: plan.environment.0.clone(),
            clone: Vec::new(),
            checks: None,
            caches: Vec::new(),
        };
        Self {
            hold: builder.layers.hold([]),
            builder,
            plan,
            progress: Progress::new(progress),
            cancel,
            base: ImageBase::Host,
            env,
            base_env: BTreeMap::new(),
            layers: Vec::new(),
            parts: Vec::new(),
            checks: Vec::new(),
            reuse,
            runs: 0,
        }
    }

    pub(super) async fn finish(mut self) -> Result<ImageManifest, BuildFailure> {
        let image = self.plan.request.image;
        let result = self.build().await;
        if let Err(error) = self.builder.layers.discard(&self.builder.layers.build_directory(image)) {
            tracing::warn!(%error, "a build's directory is left over");
        }
        result
    }

    async fn build(&mut self) -> Result<ImageManifest, BuildFailure> {
        let directory = self.builder.layers.image_directory(self.plan.request.image);
        let mut log = BuildLog::create(&directory)
            .await
            .map_err(|error| failure::io(&error, &format!("create {}: {error}", directory.display())))?;
        let (commit, parts) = (self.plan.commit.clone(), self.names());
        self.progress.turning_point(BuildEvent::Planned { commit, parts }).await;
        if let Err(failure) = self.all_parts(&mut log).await {
            let _ = log.note(&format!("failed: {}", failure.problem)).await;
            return Err(failure);
        }
        self.squash_long_chain(&mut log).await;
        self.publish(&directory).await.map_err(BuildFailure::from)
    }

    fn names(&self) -> Vec<String> {
        if let Some(exchanged) = &self.plan.exchanged {
            return exchanged
                .base()
                .into_iter()
                .chain(exchanged.layers())
                .map(|layer| layer.name.clone())
                .collect();
        }
        let recipe = &self.plan.recipe;
        let steps = recipe.steps.iter().map(|step| step.name.clone());
        let checks = (!recipe.checks.is_empty()).then(|| "checks".to_owned());
        let base = (recipe.base != RecipeBase::Host).then(|| "base".to_owned());
        base.into_iter()
            .chain(["clone".to_owned()])
            .chain(steps)
            .chain(checks)
            .chain(["finish".to_owned()])
            .collect()
    }

    async fn all_parts(&mut self, log: &mut BuildLog) -> Result<(), BuildFailure> {
        for note in std::mem::take(&mut self.plan.notes) {
            let _ = log.note(&note).await;
        }
        if let Some(exchanged) = self.plan.exchanged.take() {
            return self.imported_parts(&exchanged, log).await;
        }
        self.base_part(log).await?;
        self.clone_part(log).await?;
        let mut parent = self.reuse.environment.clone();
        for (step, inputs) in self.plan.recipe.steps.clone().iter().zip(self.plan.inputs.clone()) {
            parent = self.step_part(step, &inputs, &parent, log).await?;
        }
        if !self.plan.recipe.checks.is_empty() {
            self.checks_part(&parent, log).await?;
        }
        self.finish_part(log).await
    }

    /// A published layer, which stays until the build is over.
    pub(super) fn find(&self, key: &LayerKey) -> Option<LayerMeta> {
        self.hold.add(key);
        self.builder.layers.get(key)
    }

    /// Every start pays for each layer. The chain's own layers stay for the next build (`ImageManifest::build_keys`).
    async fn squash_long_chain(&mut self, log: &mut BuildLog) {
        if self.layers.len() < LONG_CHAIN || self.cancel.is_cancelled() {
            return;
        }
        let chain: Vec<LayerKey> = self.layers.iter().map(|layer| layer.key.clone()).collect();
        let (count, key) = (chain.len(), squashed_key(&chain));
        self.hold.add(&key);
        let (layers, now_ms) = (self.builder.layers.clone(), (self.builder.clock)());
        let squashed = blocking(move || layers.squash(&chain, SQUASHED, now_ms)).await;
        let squashed = squashed.and_then(|squashed| squashed.map_err(|error| failure::store(&error)));
        match squashed {
            Ok(key) => {
                self.layers = vec![LayerRef { key, step: SQUASHED.to_owned() }];
                let _ = log.note(&format!("{count} layers are one now")).await;
            }
            // Slower to start, and as good.
            Err(problem) => {
                let _ = log.note(&format!("{count} layers stay as they are: {problem}")).await;
            }
        }
    }

    /// Answers the key under which the step's layer is kept.
    async fn step_part(
        &mut self,
        step: &Step,
        inputs: &LayerKey,
        parent: &LayerKey,
        log: &mut BuildLog,
    ) -> Result<LayerKey, BuildFailure> {
        let anywhere = keys::step(parent, step, inputs, &self.plan.recipe);
        let bound = keys::bound(&anywhere, &self.plan.commit);
        let has_inputs = !step.inputs.is_empty();
        let is_known = self.find(&anywhere).is_some();
        let may_lie_here =
            has_inputs && is_known && self.fits(self.builder.layers.path(&anywhere)).await?.is_ok();
        let known = if may_lie_here { anywhere.clone() } else { bound.clone() };
        if self.find(&known).is_some() {
            self.reuse_part(&step.name, vec![known.clone()], log).await?;
            return Ok(known);
        }
        let started_ms = (self.builder.clock)();
        let program =
            Program { what: What::Step, name: &step.name, script: &step.run, minutes: step.timeout_minutes };
        let sandbox = self.claim().await.map_err(of(&step.name))?;
        let worked = self.must(&program, &step.services, &sandbox, log).await;
        let directory = self.ended(worked, &sandbox, &step.name).await?;
        let mut key = bound;
        if has_inputs {
            match self.fits(directory.clone()).await? {
                Ok(()) if !is_known => key = anywhere,
                Ok(()) => {}
                Err(reason) => {
                    let name = &step.name;
                    let _ = log.note(&format!("{name} will run again at each commit: {reason}")).await;
                }
            }
        }
        self.keep(&key, directory, &step.name, vec![]).await.map_err(of(&step.name))?;
        self.made(&step.name, key.clone(), started_ms);
        Ok(key)
    }

    async fn finish_part(&mut self, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let key = keys::finish(self.layers.iter().map(|layer| &layer.key), &self.plan.commit);
        if self.find(&key).is_some() {
            return self.reuse_part("finish", vec![key], log).await;
        }
        let started_ms = (self.builder.clock)();
        let program =
            Program { what: What::Finish, name: "finish", script: scripts::FINISH, minutes: FINISH_MINUTES };
        let sandbox = self.claim().await.map_err(of("finish"))?;
        let worked = self.must(&program, &[], &sandbox, log).await;
        let directory = self.ended(worked, &sandbox, "finish").await?;
        self.keep(&key, directory, "finish", vec![]).await.map_err(of("finish"))?;
        self.made("finish", key, started_ms);
        Ok(())
    }

    pub(super) async fn reuse_part(
        &mut self,
        name: &str,
        keys: Vec<LayerKey>,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let top = keys.last().expect("a part has a layer").clone();
        if let Some(meta) = self.find(&top) {
            self.checks.extend(meta.checks);
        }
        let _ = log.note(&format!("{name} (reused)")).await;
        self.progress.turning_point(BuildEvent::Reused { step: name.to_owned() }).await;
        self.push_layers(name, &keys);
        if name == "clone" {
            self.reuse.clone = keys;
        }
        self.parts.push(PartReport { name: name.to_owned(), key: top, is_reused: true, duration_ms: 0 });
        Ok(())
    }

    pub(super) fn push_layers(&mut self, name: &str, keys: &[LayerKey]) {
        self.layers.extend(keys.iter().map(|key| LayerRef { key: key.clone(), step: name.to_owned() }));
    }

    pub(super) fn made(&mut self, name: &str, key: LayerKey, started_ms: i64) {
        self.push_layers(name, std::slice::from_ref(&key));
        let duration_ms = self.since(started_ms);
        self.parts.push(PartReport { name: name.to_owned(), key, is_reused: false, duration_ms });
    }

    /// Whether a layer may lie over this commit's clone.
    pub(super) async fn fits(&self, layer: PathBuf) -> Result<Result<(), Bound>, Problem> {
        let tracked = self.plan.tracked.clone();
        blocking(move || touched::check(&layer, &tracked)).await
    }

    pub(super) async fn claim(&mut self) -> Result<BuildSandbox, Problem> {
        if self.cancel.is_cancelled() {
            return Err(failure::cancelled());
        }
        self.runs += 1;
        let image = self.plan.request.image;
        let directory = self.builder.layers.build_directory(image).join(self.runs.to_string());
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|error| failure::io(&error, &format!("make {}: {error}", directory.display())))?;
        let base = match &self.base {
            ImageBase::Host => Base::HostRoot,
            ImageBase::Unpacked { key, .. } => Base::Directory { path: self.builder.layers.path(key) },
        };
        let spec = ClaimSpec {
            id: format!("{image}-{}", self.runs),
            fence: build_fence(image),
            base,
            layers: self.layers.iter().map(|layer| self.builder.layers.path(&layer.key)).collect(),
            workspace: Workspace { directory, begin_from: None },
            binds: self.plan.request.setup.binds.clone(),
            egress_ports: self.plan.request.setup.egress_ports_with(&self.plan.recipe.egress_ports()),
            resources: self.plan.recipe.resources.to_sandbox(),
            hostname: super::HOSTNAME.into(),
            env: self.env.clone(),
            is_background: true,
        };
        BuildSandbox::claim(&self.builder.sandboxes, spec).await
    }

    /// Ends the sandbox, and gives what it wrote if its work was done.
    pub(super) async fn ended(
        &self,
        worked: Result<(), BuildFailure>,
        sandbox: &BuildSandbox,
        name: &str,
    ) -> Result<PathBuf, BuildFailure> {
        let layer = match worked {
            Ok(()) => sandbox.suspend().await.map_err(of(name)),
            Err(failure) => Err(failure),
        };
        if layer.is_err() {
            sandbox.destroy().await;
        }
        layer
    }

    pub(super) async fn keep(
        &self,
        key: &LayerKey,
        directory: PathBuf,
        name: &str,
        checks: Vec<CheckReport>,
    ) -> Result<(), Problem> {
        self.hold.add(key);
        let (layers, key, name, now_ms) =
            (self.builder.layers.clone(), key.clone(), name.to_owned(), (self.builder.clock)());
        blocking(move || layers.publish(&key, &directory, &name, checks, now_ms))
            .await?
            .map(drop)
            .map_err(|error| failure::store(&error))
    }

    async fn publish(&mut self, directory: &Path) -> Result<ImageManifest, Problem> {
        let (plan, request) = (&self.plan, &self.plan.request);
        let recipe = &plan.recipe;
        let manifest = ImageManifest {
            version: MANIFEST_VERSION,
            id: request.image,
            repository: request.repository,
            commit: plan.commit.clone(),
            branch: request.branch.clone(),
            runtime_version: plan.runtime_version.clone(),
            base_fingerprint: self.builder.base_fingerprint.clone(),
            base: self.base.clone(),
            layers: std::mem::take(&mut self.layers),
            env: recipe.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>(),
            egress_allow: recipe.egress_allow.clone(),
            egress_ports: recipe.egress_ports(),
            secrets: recipe.secrets.clone(),
            resources: recipe.resources.clone(),
            instructions: plan.instructions.clone(),
            steps: recipe.steps.clone(),
            services: recipe.services.clone(),
            ports: recipe.ports.clone(),
            parts: std::mem::take(&mut self.parts),
            checks: std::mem::take(&mut self.checks),
            reuse: self.reuse.clone(),
            created_at_ms: (self.builder.clock)(),
        };
        let directory = directory.to_owned();
        let written = manifest.clone();
        blocking(move || written.write(&directory)).await?.map_err(|error| failure::manifest(&error))?;
        Ok(manifest)
    }

    /// Every run of a build has an id of its own.
    pub(super) fn next_call(&mut self) -> String {
        self.runs += 1;
        format!("{}-{}", self.plan.request.image, self.runs)
    }

    pub(super) fn since(&self, started_ms: i64) -> u64 {
        u64::try_from((self.builder.clock)() - started_ms).unwrap_or(0)
    }
}

pub(super) fn of(name: &str) -> impl FnOnce(Problem) -> BuildFailure + use<> {
    let step = Some(name.to_owned());
    move |problem| BuildFailure { problem, step }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let code = greenroom_domain::ErrorCode::Internal;
        Problem::new(code, format!("The build ended by a fault: {error}."))
    })
}

#[cfg(test)]
mod tests;
