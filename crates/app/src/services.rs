//! Programs of the recipe that run as long as their sandbox does: started in the recipe's order after the sync, watched,
//! started again where the recipe says so. Their output is a file inside (`log_path`), kept short from outside. Nobody's
//! command waits for them but a step that names them.

mod health;
mod supervise;
mod views;

pub use views::PreviewUse;

use crate::Result;
use greenroom_domain::event::ServicePhase;
use greenroom_domain::{ErrorCode, Event, Problem};
use greenroom_image::ImageManifest;
use greenroom_image::recipe::Service;
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use greenroom_tasks::caught;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where a service's output is kept inside the sandbox.
pub(crate) fn log_path(name: &str) -> String {
    format!("/var/log/greenroom/{name}.log")
}

/// As the agent is told of it.
pub(crate) fn for_the_agent(service: &Service) -> greenroom_agent::Service {
    greenroom_agent::Service {
        name: service.name.clone(),
        command: service.run.clone(),
        log: log_path(&service.name),
    }
}

/// The services of one sandbox. Cheap to clone; they are let go of by `stop`, and end with the sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    declared: Vec<Service>,
    /// Another handle once the sandbox has been given to a session.
    sandbox: watch::Sender<Arc<dyn Sandbox>>,
    known: watch::Sender<Known>,
    /// Whose log is told; `None`: nobody's yet.
    session: Mutex<Option<SessionHandle>>,
    stop: CancellationToken,
}

/// How services are, by name: those that were started.
type Known = BTreeMap<String, Status>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    phase: ServicePhase,
    problem: Option<Problem>,
}

impl Services {
    pub(crate) fn new(
        manifest: &ImageManifest,
        sandbox: Arc<dyn Sandbox>,
        session: Option<SessionHandle>,
    ) -> Self {
        let shared = Shared {
            declared: manifest.services.clone(),
            sandbox: watch::Sender::new(sandbox),
            known: watch::Sender::default(),
            session: Mutex::new(session),
            stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts all that do not run yet, each once the one before it is up or has failed, and does not wait.
    pub(crate) fn start_all(&self) {
        if self.shared.declared.is_empty() {
            return;
        }
        let services = self.clone();
        tokio::spawn(async move {
            for service in services.shared.declared.clone() {
                services.begin(&service);
                // Its end is told; the others are started all the same.
                let _ = services.settled(&service.name).await;
            }
        });
    }

    /// Starts these in the recipe's order and waits until they are up. Fails with the first that is not.
    pub(crate) async fn up(&self, names: &[String]) -> Result<()> {
        for service in self.shared.declared.clone() {
            if names.contains(&service.name) {
                self.begin(&service);
                self.settled(&service.name).await?;
            }
        }
        Ok(())
    }

    /// Waits until all that were started are up or have failed.
    pub(crate) async fn all_settled(&self) {
        for service in &self.shared.declared {
            let _ = self.settled(&service.name).await;
        }
    }

    /// No more restarts and no more words; what runs ends with the sandbox.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// The sandbox is a session's now. Answers what its log has to say of services that were started before.
    pub(crate) fn hand_over(&self, sandbox: Arc<dyn Sandbox>, session: &SessionHandle) -> Vec<Event> {
        *self.shared.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        self.shared.sandbox.send_replace(sandbox);
        self.shared.known.borrow().iter().map(|(name, status)| status.event(name)).collect()
    }

    /// Whether this call is the first to start it.
    fn begin(&self, service: &Service) {
        let starting = Status { phase: ServicePhase::Starting, problem: None };
        let is_first = self.shared.known.send_if_modified(|known| {
            let is_new = !known.contains_key(&service.name);
            if is_new {
                known.insert(service.name.clone(), starting.clone());
            }
            is_new
        });
        if is_first {
            let (services, service) = (self.clone(), service.clone());
            tokio::spawn(async move {
                let name = service.name.clone();
                if caught("looking after a service", services.clone().supervise(service)).await.is_err() {
                    // Whoever waits for it would wait for ever.
                    let problem = failed(&name, "is not looked after any more, by a fault in the server");
                    services.tell(&name, ServicePhase::Failed, Some(problem)).await;
                }
            });
        }
    }

    async fn settled(&self, name: &str) -> Result<()> {
        let mut known = self.shared.known.subscribe();
        let is_settled =
            |known: &Known| known.get(name).is_some_and(|status| status.phase != ServicePhase::Starting);
        let settled = async {
            match known.wait_for(is_settled).await.ok().and_then(|known| known.get(name).cloned()) {
                Some(Status { phase: ServicePhase::Ready, .. }) => Ok(()),
                Some(Status { problem: Some(problem), .. }) => Err(problem),
                _ => Err(failed(name, "did not start")),
            }
        };
        tokio::select! {
            settled = settled => settled,
            () = self.shared.stop.cancelled() => Err(failed(name, "was stopped with its sandbox")),
        }
    }

    /// Notes a change, and tells the session.
    async fn tell(&self, name: &str, phase: ServicePhase, problem: Option<Problem>) {
        let status = Status { phase, problem };
        let event = status.event(name);
        self.shared.known.send_if_modified(|known| {
            known.insert(name.to_owned(), status.clone()).as_ref() != Some(&status)
        });
        let session = self.shared.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = session.filter(|_| !self.shared.stop.is_cancelled()) {
            // A session that closes needs no word of it.
            let _ = session.record(vec![event]).await;
        }
    }

    fn sandbox(&self) -> Arc<dyn Sandbox> {
        Arc::clone(&self.shared.sandbox.borrow())
    }
}

impl Status {
    fn event(&self, name: &str) -> Event {
        Event::ServiceChanged { name: name.to_owned(), state: self.phase, problem: self.problem.clone() }
    }
}

fn failed(name: &str, what: &str) -> Problem {
    Problem::new(ErrorCode::ServiceFailed, format!("The service {name} {what}."))
        .hint(format!("Its output is in {} inside the sandbox.", log_path(name)))
}
