//! The part `base`: on another base than the host's root, its unpacked root file system, and a layer with git, which the
//! clone and every session need. The machine's own tools are left out there: they are made for its own libraries.

use super::failure::What;
use super::keys::Environment;
use super::log::BuildLog;
use super::program::Program;
use super::run::{Run, blocking, of};
use super::{BuildFailure, failure, scripts};
use crate::base;
use crate::environment::environment;
use crate::key::{KeyHasher, LayerKey};
use crate::manifest::ImageBase;
use crate::recipe::RecipeBase;
use greenroom_domain::Problem;
use std::collections::BTreeMap;

const MINUTES: u32 = 15;

impl Run {
    pub(super) async fn base_part(&mut self, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let wanted = self.plan.recipe.base.clone();
        if wanted == RecipeBase::Host {
            return Ok(());
        }
        let name = wanted.text();
        let key = self.unpacked(&wanted, log).await.map_err(of("base"))?;
        self.stand_on(key, name, log).await?;
        self.git_layer(log).await
    }

    /// What follows lies on this unpacked base.
    pub(super) async fn stand_on(
        &mut self,
        key: LayerKey,
        name: String,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let path = self.builder.layers.path(&key);
        let facts = blocking(move || base::facts(&path)).await.map_err(of("base"))?;
        let _ = log.note(&format!("the base is {name}")).await;
        self.base = ImageBase::Unpacked { key: key.clone(), name };
        self.reuse.environment = Environment(self.reuse.environment.clone()).on(&key).0;
        self.plan.request.setup = self.plan.request.setup.without_host_tools();
        self.base_env = facts.env.into_iter().collect::<BTreeMap<_, _>>();
        self.base_env.extend(std::mem::take(&mut self.plan.recipe.env));
        self.plan.recipe.env = self.base_env.clone();
        self.env = environment(&self.plan.request.setup.env, &self.plan.recipe.env);
        Ok(())
    }

    async fn unpacked(&mut self, wanted: &RecipeBase, log: &mut BuildLog) -> Result<LayerKey, Problem> {
        let layers = self.builder.layers.clone();
        let found =
            base::find(wanted, &layers.bases(), &self.builder.registries, (self.builder.clock)()).await;
        let found = match found {
            Ok(found) => found.expect("the host's root is no part"),
            Err(problem) => return self.previous_base(wanted, problem, log).await,
        };
        if self.find(&found.key).is_some() {
            return Ok(found.key);
        }
        let _ = log.note(&format!("fetching and unpacking {}", wanted.text())).await;
        let place = layers.build_directory(self.plan.request.image);
        let (directory, scratch) = (place.join("base"), place.join("base-scratch"));
        for path in [&directory, &scratch] {
            let made = tokio::fs::create_dir_all(path).await;
            made.map_err(|error| failure::io(&error, &format!("make {}: {error}", path.display())))?;
        }
        let facts = tokio::select! {
            made = found.make(wanted, &directory, &scratch) => made?,
            () = self.cancel.cancelled() => return Err(failure::cancelled()),
        };
        if facts.left_out > 0 {
            let _ =
                log.note(&format!("{} devices and pipes of the base were left out", facts.left_out)).await;
        }
        self.keep(&found.key, directory, "base", vec![]).await?;
        Ok(found.key)
    }

    /// A registry that cannot be reached does not stop a build whose base is here.
    async fn previous_base(
        &self,
        wanted: &RecipeBase,
        problem: Problem,
        log: &mut BuildLog,
    ) -> Result<LayerKey, Problem> {
        let previous = self.plan.request.previous.as_ref().map(|image| &image.base);
        match previous {
            Some(ImageBase::Unpacked { key, name }) if *name == wanted.text() && self.find(key).is_some() => {
                let _ = log.note(&format!("the base of the last image is used: {}", problem.message)).await;
                Ok(key.clone())
            }
            _ => Err(problem),
        }
    }

    async fn git_layer(&mut self, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let key = KeyHasher::new("git")
            .part("environment", self.reuse.environment.as_str())
            .part("script", scripts::GIT)
            .finish();
        if self.find(&key).is_some() {
            return self.reuse_part("base", vec![key], log).await;
        }
        let started_ms = (self.builder.clock)();
        let sandbox = self.claim().await.map_err(of("base"))?;
        let program = Program { what: What::Step, name: "base", script: scripts::GIT, minutes: MINUTES };
        let worked = self.must(&program, &[], &sandbox, log).await;
        let directory = self.ended(worked, &sandbox, "base").await?;
        self.keep(&key, directory, "base", vec![]).await.map_err(of("base"))?;
        self.made("base", key, started_ms);
        Ok(())
    }
}
