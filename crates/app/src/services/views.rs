//! What people see of a session's surroundings, and the way to its ports.

use super::Services;
use crate::workspaces::InSight;
use crate::{App, Result};
use greenroom_domain::{ErrorCode, Person, Problem, Right, SessionId};
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
        let handle = self.open(caller, Right::View, id).await?;
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

    /// A connection to a port inside, for a preview, and the right that it rests on. Whoever takes part in the session does
    /// anything at any port, and starts the sandbox when there is none; whoever only looks, looks at a port of the recipe
    /// while the sandbox runs.
    pub async fn preview(
        &self,
        caller: &Person,
        session: SessionId,
        port: u16,
        wanted: PreviewUse,
    ) -> Result<(Box<dyn SandboxStream>, Right)> {
        let handle = self.open(caller, Right::View, session).await?;
        let (sandbox, right) = match self.sandbox_in_sight(&handle, caller).await? {
            InSight::Own(sandbox) => (sandbox, Right::Prompt),
            InSight::Shown(ready, refusal) => {
                // What speaks something else could take a request for a command.
                let is_shown =
                    ready.manifest.ports.iter().any(|declared| declared.port == port && declared.is_http);
                if wanted != PreviewUse::Look {
                    let message = "You can look at this preview, but not send anything to it.";
                    return Err(Problem { message: message.into(), ..refusal });
                }
                if !is_shown {
                    let message = format!(
                        "Port {port} is none that the recipe shows: only who takes part in this session can open it."
                    );
                    return Err(Problem { message, ..refusal });
                }
                (ready.sandbox, Right::View)
            }
        };
        let stream = sandbox.connect(port).await.map_err(|error| unreached(port, error))?;
        Ok((stream, right))
    }
}

/// What a request to a preview may do inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewUse {
    /// It reads.
    Look,
    /// It sends something, or opens a way on which both sides can.
    Act,
}

fn unreached(port: u16, error: Error) -> Problem {
    match error {
        Error::NotFound { .. } => {
            Problem::new(ErrorCode::PortClosed, format!("Nothing in the sandbox listens on port {port}."))
                .hint("Start the program that serves it, or wait until its service is up.")
        }
        other => crate::problem_of_sandbox(other),
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

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_sandbox::fake::FakeProvider;
    use greenroom_sandbox::{Base, ClaimSpec, Fence, Resources, SandboxProvider, Workspace};
    use tokio::io::AsyncReadExt;

    fn claim() -> ClaimSpec {
        ClaimSpec {
            id: "one".into(),
            fence: Fence { session: "session".into(), epoch: 1, generation: 1 },
            base: Base::HostRoot,
            layers: vec![],
            workspace: Workspace { directory: "/one".into(), begin_from: None },
            binds: vec![],
            env: vec![],
            hostname: "one".into(),
            egress_ports: vec![],
            resources: Resources::default(),
            is_background: false,
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told_apart_from_a_sandbox_that_is_gone() {
        let provider = FakeProvider::default().with_port(3000, |mut inside| {
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut inside, b"apples").await });
        });
        let sandbox = provider.claim(claim()).await.unwrap();
        let mut said = String::new();
        sandbox.connect(3000).await.unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "apples");
        let refused = |error: Option<Error>| unreached(3001, error.unwrap());
        let closed = refused(sandbox.connect(3001).await.err());
        assert_eq!(closed.code, ErrorCode::PortClosed);
        assert!(closed.message.contains("3001") && closed.hint.is_some(), "{closed:?}");
        provider.shutdown().await.unwrap();
        let gone = refused(sandbox.connect(3001).await.err());
        assert_ne!(gone.code, ErrorCode::PortClosed, "{gone:?}");
    }

    #[test]
    fn ports_of_the_recipe_and_others_that_listen_are_listed_once_and_bounded() {
        let found = ports(None, &[8000, 3000]);
        assert_eq!(found.iter().map(|port| port.port).collect::<Vec<_>>(), [3000, 8000]);
        assert!(found.iter().all(|port| port.is_listening && port.name.is_none()));
        let many: Vec<u16> = (1..=1000).collect();
        assert_eq!(ports(None, &many).len(), PORTS_LIMIT);
    }
}
