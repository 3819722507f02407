//! What the pool and all sandboxes cost, for people to see.

use super::{Stage, Warm};
use crate::{App, Inner, Result, require};
use greenroom_domain::{Person, RepositoryId, Role};
use greenroom_wire::{MachineResources, PoolView};
use std::collections::BTreeMap;

impl App {
    /// What the installation's sandboxes hold of the machine.
    pub async fn machine_resources(&self, caller: &Person) -> Result<MachineResources> {
        require(caller, Role::Viewer)?;
        self.resources().await
    }

    pub(crate) async fn resources(&self) -> Result<MachineResources> {
        let inner = &self.inner;
        Ok(MachineResources {
            sandboxes: (inner.workspaces.count() + inner.pool.count()) as u64,
            most_sandboxes: inner.config.max_sandboxes as u64,
            blanks: inner.sandboxes.ready_blanks() as u64,
            blanks_wanted: inner.config.blanks as u64,
            pools: inner.pool_views().await?,
            disk: inner.disk_view().await?,
        })
    }
}

impl Inner {
    /// Of every repository, by name.
    async fn pool_views(&self) -> Result<Vec<PoolView>> {
        let mut views = BTreeMap::new();
        for row in self.directory.repositories().await? {
            let view = self.pool_view(row.id, row.name.clone()).await;
            views.insert(row.name, view);
        }
        Ok(views.into_values().collect())
    }

    async fn pool_view(&self, repository: RepositoryId, name: greenroom_domain::RepositoryName) -> PoolView {
        let (now_ms, limits) = (self.now_ms(), self.pool.limits);
        let (mut view, warm) = self.pool.with(|state| {
            let demand = state.demand.get(&repository).cloned().unwrap_or_default();
            let (hits, starts) = demand.hits_and_starts(now_ms);
            let mut view = PoolView {
                repository: name,
                floor: limits.floor as u64,
                cap: limits.cap as u64,
                wanted: demand.wanted(now_ms, limits.floor, limits.cap).min(limits.most) as u64,
                ready: 0,
                preparing: 0,
                reserved: 0,
                hits,
                starts,
                memory_bytes: None,
                disk_bytes: None,
            };
            let mut warm: Vec<Warm> = vec![];
            for entry in state.entries.values().filter(|entry| entry.repository == repository) {
                view.reserved += u64::from(entry.reserved.is_some_and(|reserved| !reserved.is_over()));
                match &*entry.stage.borrow() {
                    Stage::Ready(ready) => {
                        view.ready += 1;
                        warm.push(ready.clone());
                    }
                    Stage::Preparing => view.preparing += 1,
                    Stage::Gone => {}
                }
            }
            (view, warm)
        });
        for ready in warm {
            let Ok(usage) = ready.sandbox.usage().await else { continue };
            view.memory_bytes = sum(view.memory_bytes, usage.memory_bytes);
            view.disk_bytes = sum(view.disk_bytes, usage.disk_bytes);
        }
        view
    }
}

fn sum(all: Option<u64>, one: Option<u64>) -> Option<u64> {
    match (all, one) {
        (Some(all), Some(one)) => Some(all + one),
        (all, one) => all.or(one),
    }
}
