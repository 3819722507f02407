//! What each layer's key covers.
//!
//! The *environment* key covers everything besides commit and steps. A step with declared inputs is keyed by the layer
//! before it, its own text and its inputs, not by the commit: its layer is reused under another clone. That is sound only
//! if the layer holds nothing that either commit tracks and nothing of `.git`; `touched` looks, and a layer that fails is
//! published under a key bound to its commit, so that what follows it is bound, too. The first step's key has the
//! environment as its parent, not the clone.

use super::{BuildRequest, Builder, SandboxSetup, scripts};
use crate::key::{KeyHasher, LayerKey};
use crate::recipe::{Recipe, RecipeBase, Service, Step};
use greenroom_domain::CommitHash;

/// Key of runtime, base, repository and the installation's set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment(pub(super) LayerKey);

pub(super) fn environment(
    builder: &Builder,
    request: &BuildRequest,
    runtime: &str,
    base: &RecipeBase,
) -> Environment {
    let SandboxSetup { binds, env, files, egress_ports: _ } = &request.setup;
    let files: Vec<_> = files.iter().map(|(path, bytes)| (path, digest(bytes))).collect();
    let fingerprint = if *base == RecipeBase::Host { builder.base_fingerprint.as_str() } else { "" };
    let key = KeyHasher::new("environment")
        .part("runtime", runtime)
        .part("fingerprint", fingerprint)
        .part("base", base.text())
        .part("repository", request.repository.to_string())
        .part("branch", request.branch.as_str())
        .part("url", &request.clone_url)
        .part("binds", json(binds))
        .part("env", json(env))
        .part("files", json(&files))
        .finish();
    Environment(key)
}

impl Environment {
    /// Over an unpacked base, whose contents are known only when it was unpacked.
    pub(super) fn on(&self, base: &LayerKey) -> Self {
        Self(
            KeyHasher::new("environment on")
                .part("environment", self.0.as_str())
                .part("base", base.as_str())
                .finish(),
        )
    }

    pub(super) fn first_clone(&self, commit: &CommitHash) -> LayerKey {
        KeyHasher::new("clone")
            .part("environment", self.0.as_str())
            .part("commit", commit.as_str())
            .part("script", scripts::CLONE)
            .finish()
    }
}

/// The commits since an earlier clone, as a layer over it.
pub(super) fn update(below: &LayerKey, commit: &CommitHash) -> LayerKey {
    KeyHasher::new("update")
        .part("below", below.as_str())
        .part("commit", commit.as_str())
        .part("script", scripts::UPDATE)
        .finish()
}

/// `parent` is the key of the step before, or of the environment.
pub(super) fn step(parent: &LayerKey, step: &Step, inputs: &LayerKey, recipe: &Recipe) -> LayerKey {
    KeyHasher::new("step")
        .part("parent", parent.as_str())
        .part("run", &step.run)
        .part("env", json(&recipe.env))
        .part("services", json(&services(recipe, &step.services)))
        .part("inputs", inputs.as_str())
        .finish()
}

/// The same, of one commit only.
pub(super) fn bound(key: &LayerKey, commit: &CommitHash) -> LayerKey {
    KeyHasher::new("bound").part("key", key.as_str()).part("commit", commit.as_str()).finish()
}

/// The checks' leftovers at a commit, over the layers of an earlier commit's that they began from.
pub(super) fn checks(
    parent: &LayerKey,
    recipe: &Recipe,
    commit: &CommitHash,
    caches: &[LayerKey],
) -> LayerKey {
    let hasher = KeyHasher::new("checks at").part("commit", commit.as_str());
    let hasher = hasher.part("anywhere", checks_anywhere(parent, recipe).as_str());
    caches.iter().fold(hasher, |hasher, key| hasher.part("over", key.as_str())).finish()
}

/// Equal for all commits whose checks may begin from one another's leftovers.
pub(super) fn checks_anywhere(parent: &LayerKey, recipe: &Recipe) -> LayerKey {
    KeyHasher::new("checks")
        .part("parent", parent.as_str())
        .part("checks", json(&recipe.checks))
        .part("env", json(&recipe.env))
        .part("services", json(&recipe.services))
        .finish()
}

/// Over everything below: it writes what git has to know about these very layers.
pub(super) fn finish<'a>(layers: impl Iterator<Item = &'a LayerKey>, commit: &CommitHash) -> LayerKey {
    let hasher = KeyHasher::new("finish").part("script", scripts::FINISH).part("commit", commit.as_str());
    layers.fold(hasher, |hasher, key| hasher.part("layer", key.as_str())).finish()
}

fn services<'a>(recipe: &'a Recipe, names: &[String]) -> Vec<&'a Service> {
    recipe.services.iter().filter(|service| names.contains(&service.name)).collect()
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values with text keys")
}

fn digest(bytes: &[u8]) -> LayerKey {
    KeyHasher::new("file").part("content", bytes).finish()
}
