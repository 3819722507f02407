//! What people see of a session's surroundings, and the way to its ports.

use super::Services;
use crate::{App, Result};
use greenroom_domain::{ErrorCode, Person, Problem, Role, SessionId};
use greenroom_image::ImageManifest;
use greenroom_sandbox::{Error, SandboxStream, Usage};
use greenroom_wire::{PortView, ServiceView, SessionEnvironment};
use std::collections::BTreeMap;

/// Ports that are listed beside those of the recipe.
const PORTS_LIMIT: usize = 64;

impl Services {
    /// In the recipe's order; a service that was not started yet is starting.
    pub(crate) fn views(&self) -> Vec<ServiceView> {
        let known = self.shared.known.borrow();
        let view = |service: &greenroom_image::recipe::Service| {
            let status = known.get(&service.name);
            ServiceView {
                name: service.name.clone(),
                state: status.map_or(greenroom_domain::event::ServicePhase::Starting, |status| status.phase),
                problem: status.and_then(|status| status.problem.clone()),
            }
        };
        self.shared.declared.iter().map(view).collect()
    }
}

impl App {
    /// What surrounds a session's conversation. Starts nothing. Addresses of ports are the interface's to fill.
    pub async fn session_environment(&self, caller: &Person, id: SessionId) -> Result<SessionEnvironment> {
        let handle = self.open(caller, Role::Viewer, id).await?;
        let state = handle.state().await?;
        let image = state.workspace.image.or(state.origin.as_ref().and_then(|origin| origin.image));
        let ready = self.inner.workspaces.ready(id);
        let (mut usage, mut listening) = (Usage::default(), vec![]);
        if let Some(ready) = &ready {
            let (found, ports) = tokio::join!(ready.sandbox.usage(), ready.sandbox.listening_ports());
            usage = found.unwrap_or_default();
            listening = ports.unwrap_or_default();
        }
        let manifest = match (&ready, image) {
            (Some(ready), _) => Some(ready.manifest.clone()),
            (None, Some(image)) => self.inner.manifest(image).await.ok(),
            (None, None) => None,
        };
        Ok(SessionEnvironment {
            is_running: ready.is_some(),
            image,
            services: ready.as_ref().map(|ready| ready.services.views()).unwrap_or_default(),
            ports: ports(manifest.as_deref(), &listening),
            snapshots: crate::snapshots::snapshot_views(&state),
            memory_bytes: usage.memory_bytes,
            processes: usage.processes,
            disk_bytes: usage.disk_bytes,
        })
    }

    /// A connection to a port inside, for a preview. Starts the sandbox when there is none.
    pub async fn preview(
        &self,
        caller: &Person,
        session: SessionId,
        port: u16,
    ) -> Result<Box<dyn SandboxStream>> {
        let handle = self.open(caller, Role::Viewer, session).await?;
        let sandbox = self.inner.ensure_sandbox(&handle).await?;
        sandbox.connect(port).await.map_err(|error| match error {
            Error::NotFound { .. } => {
                Problem::new(ErrorCode::PortClosed, format!("Nothing in the sandbox listens on port {port}."))
                    .hint("Start the program that serves it, or wait until its service is up.")
            }
            other => crate::problem_of_sandbox(other),
        })
    }
}

/// The recipe's, then what else listens, in ascending order.
fn ports(manifest: Option<&ImageManifest>, listening: &[u16]) -> Vec<PortView> {
    let declared = manifest.map(|manifest| manifest.ports.as_slice()).unwrap_or_default();
    let mut all: BTreeMap<u16, Option<String>> =
        listening.iter().take(PORTS_LIMIT).map(|port| (*port, None)).collect();
    all.extend(declared.iter().map(|port| (port.port, Some(port.name.clone()))));
    let view =
        |(port, name)| PortView { port, name, is_listening: listening.contains(&port), url: String::new() };
    all.into_iter().map(view).collect()
}
