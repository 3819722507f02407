//! The part `clone`: the repository at the commit, made from as little as possible.

use super::failure::What;
use super::keys::{self, Environment};
use super::log::BuildLog;
use super::program::Program;
use super::run::{Run, of};
use super::sandbox::BuildSandbox;
use super::{BuildFailure, scripts};
use crate::key::LayerKey;
use greenroom_domain::Problem;

const CLONE_MINUTES: u32 = 20;
/// Layers after which a clone is made anew: each adds to every start.
const CLONE_LAYERS: usize = 12;

impl Run {
    /// The clone at the commit: the one of an earlier image, that one and what came since, or a new one.
    pub(super) async fn clone_part(&mut self, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let environment = Environment(self.reuse.environment.clone());
        let full = environment.first_clone(&self.plan.commit);
        let previous = self.previous_clone();
        let is_same =
            self.plan.request.previous.as_ref().is_some_and(|image| image.commit == self.plan.commit);
        if is_same && !previous.is_empty() {
            return self.reuse_part("clone", previous, log).await;
        }
        if self.find(&full).is_some() {
            return self.reuse_part("clone", vec![full], log).await;
        }
        if let Some(below) = previous.last().filter(|_| previous.len() < CLONE_LAYERS) {
            let key = keys::update(below, &self.plan.commit);
            let chain: Vec<LayerKey> = previous.iter().cloned().chain([key.clone()]).collect();
            if self.find(&key).is_some() {
                return self.reuse_part("clone", chain, log).await;
            }
            let below_clone = self.layers.len();
            self.push_layers("clone", &previous);
            match self.make_clone(&key, scripts::UPDATE, log).await {
                Err(failure) if !self.cancel.is_cancelled() => {
                    let _ = log.note(&format!("cloning anew, because {}", failure.problem.message)).await;
                    self.layers.truncate(below_clone);
                }
                Err(failure) => return Err(failure),
                Ok(()) => {
                    self.reuse.clone = chain;
                    return Ok(());
                }
            }
        }
        self.make_clone(&full, scripts::CLONE, log).await?;
        self.reuse.clone = vec![full];
        Ok(())
    }

    async fn make_clone(
        &mut self,
        key: &LayerKey,
        script: &str,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let started_ms = (self.builder.clock)();
        let repository = self.plan.request.name.clone();
        let program = Program {
            what: What::Clone { repository: repository.as_str() },
            name: "clone",
            script,
            minutes: CLONE_MINUTES,
        };
        let sandbox = self.claim().await.map_err(of("clone"))?;
        let worked = match self.write_setup(script, &sandbox).await {
            Ok(()) => self.must(&program, &[], &sandbox, log).await,
            Err(problem) => Err(of("clone")(problem)),
        };
        let directory = self.ended(worked, &sandbox, "clone").await?;
        self.keep(key, directory, "clone", vec![]).await.map_err(of("clone"))?;
        self.made("clone", key.clone(), started_ms);
        Ok(())
    }

    /// An update lies over a clone that has them.
    async fn write_setup(&self, script: &str, sandbox: &BuildSandbox) -> Result<(), Problem> {
        if script == scripts::CLONE {
            for (path, bytes) in &self.plan.request.setup.files {
                sandbox.write(path, bytes).await?;
            }
        }
        Ok(())
    }

    /// The layers of the previous image's clone; none where they do not fit.
    fn previous_clone(&self) -> Vec<LayerKey> {
        let Some(previous) = &self.plan.request.previous else { return vec![] };
        let is_alike = previous.reuse.environment == self.reuse.environment;
        let layers = &previous.reuse.clone;
        let is_whole = layers.iter().all(|key| self.find(key).is_some());
        if is_alike && is_whole { layers.clone() } else { vec![] }
    }
}
