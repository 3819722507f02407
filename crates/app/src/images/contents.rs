//! What an image holds and why it is still there, for people to see. Reads manifests; changes and decides nothing.

use super::view_of;
use crate::images::retention::{ImageHistory, ROWS};
use crate::{App, Result, require};
use greenroom_directory::{ImageRow, ImageState};
use greenroom_domain::{ImageId, Person, RepositoryName, Role};
use greenroom_image::manifest::{CheckReport, ImageBase};
use greenroom_image::recipe::{Port, Probe, Service};
use greenroom_image::{ImageManifest, LayerKey};
use greenroom_sandbox::ExitReason;
use greenroom_wire::{
    CheckView, DeclaredPort, DeclaredService, ImageContents, ImageKept, LayerView, ListedImage,
};
use std::collections::{HashMap, HashSet};

const LISTED: usize = 50;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl App {
    /// Newest first.
    pub async fn images(&self, caller: &Person, name: &RepositoryName) -> Result<Vec<ListedImage>> {
        require(caller, Role::Viewer)?;
        let repository = self.inner.repository_row(name).await?.id;
        let rows = self.inner.directory.images(repository, ROWS).await?;
        let kept = kept(&rows, self.inner.config.image_history);
        let sizes = self.inner.layer_sizes().await?;
        let mut listed = vec![];
        for (row, kept) in rows.into_iter().zip(kept).take(LISTED) {
            let is_good = row.state == ImageState::Ready;
            let manifest = if is_good { self.inner.manifest(row.id).await.ok() } else { None };
            let size_bytes = manifest.map(|manifest| size_of(&manifest, &sizes));
            listed.push(ListedImage { image: view_of(row), size_bytes, kept });
        }
        Ok(listed)
    }

    /// Of a good image: its layers, what its checks said, and what its recipe declares.
    pub async fn image_contents(&self, caller: &Person, id: ImageId) -> Result<ImageContents> {
        require(caller, Role::Viewer)?;
        let row = self.inner.image_row(id).await?;
        let manifest = self.inner.manifest(id).await?;
        let sizes = self.inner.layer_sizes().await?;
        let mut users: HashMap<LayerKey, u64> = HashMap::new();
        for other in self.inner.directory.images(row.repository, ROWS).await? {
            if other.state == ImageState::Ready
                && let Ok(other) = self.inner.manifest(other.id).await
            {
                let keys: HashSet<&LayerKey> = other.keys().collect();
                keys.into_iter().for_each(|key| *users.entry(key.clone()).or_default() += 1);
            }
        }
        Ok(contents(&manifest, &sizes, &users))
    }
}

fn size_of(manifest: &ImageManifest, sizes: &HashMap<LayerKey, u64>) -> u64 {
    manifest.layers.iter().filter_map(|layer| sizes.get(&layer.key)).sum()
}

fn contents(
    manifest: &ImageManifest,
    sizes: &HashMap<LayerKey, u64>,
    users: &HashMap<LayerKey, u64>,
) -> ImageContents {
    let layer = |layer: &greenroom_image::manifest::LayerRef| LayerView {
        step: layer.step.clone(),
        size_bytes: sizes.get(&layer.key).copied().unwrap_or(0),
        images: users.get(&layer.key).copied().unwrap_or(1),
    };
    ImageContents {
        image: manifest.id,
        base: match &manifest.base {
            ImageBase::Host => None,
            ImageBase::Unpacked { name, .. } => Some(name.clone()),
        },
        size_bytes: size_of(manifest, sizes),
        layers: manifest.layers.iter().map(layer).collect(),
        checks: manifest.checks.iter().map(check).collect(),
        services: manifest.services.iter().map(service).collect(),
        ports: manifest.ports.iter().map(port).collect(),
    }
}

fn check(report: &CheckReport) -> CheckView {
    CheckView {
        name: report.name.clone(),
        is_optional: report.is_optional,
        has_passed: report.has_passed(),
        ended: match report.outcome {
            ExitReason::Code { code } => format!("exit code {code}"),
            ExitReason::Signal { signal } => format!("signal {signal}"),
            ExitReason::OutOfMemory => "out of memory".to_owned(),
            ExitReason::TimedOut => "it took too long".to_owned(),
            ExitReason::Cancelled => "it was cancelled".to_owned(),
            ExitReason::NotStarted { .. } => "it could not be started".to_owned(),
        },
        duration_ms: report.duration_ms,
    }
}

fn service(declared: &Service) -> DeclaredService {
    let probe = |probe: &Probe| match probe {
        Probe::Port { port } => format!("port {port} listens"),
        Probe::Command { run } => format!("`{run}` succeeds"),
    };
    DeclaredService {
        name: declared.name.clone(),
        run: declared.run.clone(),
        ready_when: declared.ready.as_ref().map(|ready| probe(&ready.probe)),
        within_seconds: declared.ready.as_ref().map(|ready| ready.deadline_seconds),
        is_restarted: declared.restart,
    }
}

fn port(declared: &Port) -> DeclaredPort {
    DeclaredPort { port: declared.port, name: declared.name.clone(), is_http: declared.is_http }
}

/// Why each of the rows (newest first) is there; `None` while it is being built.
fn kept(rows: &[ImageRow], history: ImageHistory) -> Vec<Option<ImageKept>> {
    let most = history.good.max(1);
    let mut good = 0;
    let reason = |row: &ImageRow| match row.state {
        ImageState::Building => None,
        ImageState::Ready => {
            good += 1;
            Some(match good {
                1 => ImageKept::Newest,
                place if place <= most => ImageKept::AmongNewest { of: most as u64 },
                _ => ImageKept::InUse,
            })
        }
        ImageState::Failed => {
            let ended_ms = row.finished_at_ms.unwrap_or(row.started_at_ms);
            let until_ms = ended_ms + i64::from(history.failed_days) * DAY_MS;
            Some(ImageKept::ForItsLog { until_ms })
        }
    };
    rows.iter().map(reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::RepositoryId;

    fn row(number: u64, state: ImageState) -> ImageRow {
        ImageRow {
            id: ImageId::from_parts(number, 0),
            repository: RepositoryId::from_parts(1, 1),
            state,
            commit: None,
            steps: serde_json::json!([]),
            problem: None,
            started_at_ms: 0,
            finished_at_ms: Some(DAY_MS),
        }
    }

    #[test]
    fn every_image_says_why_it_is_still_there() {
        let history = ImageHistory { good: 2, failed_days: 3 };
        let states = [
            ImageState::Building,
            ImageState::Ready,
            ImageState::Failed,
            ImageState::Ready,
            ImageState::Ready,
        ];
        let rows: Vec<_> =
            states.into_iter().enumerate().map(|(at, state)| row(9 - at as u64, state)).collect();
        let reasons = [
            None,
            Some(ImageKept::Newest),
            Some(ImageKept::ForItsLog { until_ms: 4 * DAY_MS }),
            Some(ImageKept::AmongNewest { of: 2 }),
            Some(ImageKept::InUse),
        ];
        assert_eq!(kept(&rows, history), reasons);
        let only = kept(&rows[1..2], ImageHistory { good: 0, failed_days: 0 });
        assert_eq!(only, [Some(ImageKept::Newest)], "one good image always stays");
    }
}
