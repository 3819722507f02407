//! The part `checks`: their verdicts, and what they leave as caches for sessions and for the next build.

use super::BuildFailure;
use super::keys;
use super::log::BuildLog;
use super::run::{Run, of};
use crate::key::LayerKey;

/// Layers of leftovers after which the checks begin from nothing again.
const CACHE_LAYERS: usize = 8;

impl Run {
    /// The checks run at each new commit, over what they left at the one before, so that they are quick.
    pub(super) async fn checks_part(
        &mut self,
        parent: &LayerKey,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let anywhere = keys::checks_anywhere(parent, &self.plan.recipe);
        let mut caches = self.previous_caches(&anywhere).await?;
        self.reuse.checks = Some(anywhere);
        let is_same =
            self.plan.request.previous.as_ref().is_some_and(|image| image.commit == self.plan.commit);
        if is_same && !caches.is_empty() {
            self.reuse.caches.clone_from(&caches);
            return self.reuse_part("checks", caches, log).await;
        }
        if caches.len() >= CACHE_LAYERS {
            caches.clear();
        }
        let key = keys::checks(parent, &self.plan.recipe, &self.plan.commit, &caches);
        let chain: Vec<LayerKey> = caches.iter().cloned().chain([key.clone()]).collect();
        self.reuse.caches.clone_from(&chain);
        if self.find(&key).is_some() {
            return self.reuse_part("checks", chain, log).await;
        }
        let started_ms = (self.builder.clock)();
        self.push_layers("checks", &caches);
        let sandbox = self.claim().await.map_err(of("checks"))?;
        let mut worked = Ok(vec![]);
        for check in self.plan.recipe.checks.clone() {
            let Ok(reports) = &mut worked else { break };
            match self.check(&check, &sandbox, log).await {
                Ok(report) => reports.push(report),
                Err(problem) => worked = Err(of(&check.name)(problem)),
            }
        }
        let (worked, reports) = match worked {
            Ok(reports) => (Ok(()), reports),
            Err(failure) => (Err(failure), vec![]),
        };
        let directory = self.ended(worked, &sandbox, "checks").await?;
        if let Err(reason) = self.fits(directory.clone()).await? {
            self.reuse.caches.clear();
            let _ = log.note(&format!("the next build's checks begin without these caches: {reason}")).await;
        }
        self.keep(&key, directory, "checks", reports.clone()).await.map_err(of("checks"))?;
        self.checks.extend(reports);
        self.made("checks", key, started_ms);
        Ok(())
    }

    /// What the previous image's checks left, if it may lie here.
    async fn previous_caches(&self, anywhere: &LayerKey) -> Result<Vec<LayerKey>, BuildFailure> {
        let Some(previous) = &self.plan.request.previous else { return Ok(vec![]) };
        if previous.reuse.checks.as_ref() != Some(anywhere) {
            return Ok(vec![]);
        }
        for key in &previous.reuse.caches {
            let is_kept = self.find(key).is_some();
            if !is_kept
                || (previous.commit != self.plan.commit
                    && self.fits(self.builder.layers.path(key)).await?.is_err())
            {
                return Ok(vec![]);
            }
        }
        Ok(previous.reuse.caches.clone())
    }
}
