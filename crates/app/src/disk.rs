//! What sandboxes, images and snapshots hold of the disk.

use crate::{Inner, Result};
use greenroom_directory::ImageState;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_wire::DiskView;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Images of one repository that are counted.
const IMAGES_LIMIT: u32 = 10_000;

/// Read from the file system.
struct Measured {
    total_bytes: u64,
    free_bytes: u64,
    layers_bytes: u64,
    layers_limit_bytes: u64,
    workspaces_bytes: Option<u64>,
    snapshots_bytes: Option<u64>,
    snapshots: u64,
}

impl Inner {
    /// Of the file system that layers, workspaces and snapshots lie on.
    pub(crate) async fn disk_view(self: &Arc<Self>) -> Result<DiskView> {
        let app = Arc::clone(self);
        let measured = tokio::task::spawn_blocking(move || app.measure_disk()).await;
        let measured = measured.map_err(|error| unmeasured(&error))??;
        let mut images = 0;
        for row in self.directory.repositories().await? {
            let built = self.directory.images(row.id, IMAGES_LIMIT).await?;
            images += built.iter().filter(|image| image.state == ImageState::Ready).count();
        }
        Ok(DiskView {
            total_bytes: measured.total_bytes,
            free_bytes: measured.free_bytes,
            layers_bytes: measured.layers_bytes,
            layers_limit_bytes: measured.layers_limit_bytes,
            workspaces_bytes: measured.workspaces_bytes,
            snapshots_bytes: measured.snapshots_bytes,
            limit_per_sandbox_bytes: self.config.disk_per_sandbox,
            images: images as u64,
            snapshots: measured.snapshots,
        })
    }

    fn measure_disk(&self) -> Result<Measured> {
        let space = rustix::fs::statvfs(self.storage.root()).map_err(|error| unmeasured(&error))?;
        let shelf = &self.snapshots.shelf;
        let mut snapshots = 0;
        for session in shelf.sessions().map_err(|error| unmeasured(&error))? {
            snapshots += shelf.snapshots(session).map_err(|error| unmeasured(&error))?.len();
        }
        Ok(Measured {
            total_bytes: space.f_blocks * space.f_frsize,
            free_bytes: space.f_bavail * space.f_frsize,
            layers_bytes: self.images.layers().total_bytes().map_err(|error| unmeasured(&error))?,
            layers_limit_bytes: self.layers_limit().map_err(|error| unmeasured(&error))?,
            workspaces_bytes: self.storage.workspaces_bytes().map_err(|error| unmeasured(&error))?,
            snapshots_bytes: self.storage.snapshots_bytes().map_err(|error| unmeasured(&error))?,
            snapshots: snapshots as u64,
        })
    }
}

/// What a tree takes of the disk, as far as it can be read. Follows no links. Blocking.
pub(crate) fn tree_bytes(root: &Path) -> u64 {
    let (mut pending, mut bytes) = (vec![root.to_owned()], 0);
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => pending.push(entry.path()),
                Ok(found) => bytes += found.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

fn unmeasured(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::Internal, format!("The disk could not be measured: {error}."))
}
