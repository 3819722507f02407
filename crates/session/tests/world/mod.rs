//! Sessions over real files, whose turns the test plays.
#![allow(dead_code, reason = "each test program uses a part of it")]

use async_trait::async_trait;
use greenroom_domain::money::Budget;
use greenroom_domain::{
    Asking, Author, Command, Delivery, Entry, Event, PersonId, RepositoryId, Role, SessionId, SessionState,
    Via,
};
use greenroom_session::{
    Effects, FileSessions, Hibernation, Live, Registry, SessionDirectory, SessionHandle, StoredReceipt,
    Subscription, Summary, SystemClock, TurnHandle,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Hands started turns to the test instead of an agent.
#[derive(Debug)]
struct Hold {
    turns: mpsc::UnboundedSender<Started>,
}

pub(crate) type Started = (TurnHandle, SessionState, Option<Vec<Entry>>);

#[async_trait]
impl Effects for Hold {
    fn run_turn(&self, turn: TurnHandle, state: SessionState, conversation: Option<Vec<Entry>>) {
        self.turns.send((turn, state, conversation)).expect("the test listens");
    }
    fn publish(&self, _: Summary) {}
    fn rights_changed(&self, _: SessionId) {}
    async fn model_of(&self, _: &SessionState) -> Option<String> {
        Some("test".into())
    }
}

pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) registry: Registry,
    pub(crate) turns: Mutex<mpsc::UnboundedReceiver<Started>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Hibernation::default())
    }

    pub(crate) fn with(hibernation: Hibernation) -> Self {
        Self::over(tempfile::tempdir().unwrap(), hibernation)
    }

    fn over(directory: tempfile::TempDir, hibernation: Hibernation) -> Self {
        let files = FileSessions::open(directory.path()).unwrap();
        Self::of(directory, Arc::new(files), hibernation)
    }

    pub(crate) fn of(
        directory: tempfile::TempDir,
        files: Arc<dyn SessionDirectory>,
        hibernation: Hibernation,
    ) -> Self {
        let (sender, turns) = mpsc::unbounded_channel();
        let effects = Arc::new(Hold { turns: sender });
        let registry = Registry::new(files, effects, Arc::new(SystemClock), hibernation);
        Self { directory, registry, turns: Mutex::new(turns) }
    }

    /// The next process over the same files. The one before is left as a kill leaves it: nothing is closed.
    pub(crate) fn restart(self) -> Self {
        Self::over(self.directory, Hibernation::default())
    }

    pub(crate) async fn create(&self) -> SessionHandle {
        self.registry.create(session(), vec![created()]).await.unwrap()
    }

    pub(crate) async fn started(&self) -> Started {
        let mut turns = self.turns.lock().await;
        tokio::time::timeout(Duration::from_secs(20), turns.recv()).await.expect("a turn starts").unwrap()
    }

    pub(crate) async fn turn(&self) -> (TurnHandle, SessionState) {
        let (turn, state, _) = self.started().await;
        (turn, state)
    }
}

pub(crate) fn session() -> SessionId {
    SessionId::from_parts(1, 1)
}

pub(crate) fn author(n: u128) -> Author {
    Author {
        on_behalf_of: PersonId::from_parts(1, n),
        via: Via::Person,
        name: format!("Person {n}"),
        email: format!("p{n}@example.org"),
    }
}

pub(crate) fn asking(n: u128) -> Asking {
    Asking {
        author: author(n),
        role: Role::Member,
        model: Some("test".into()),
        attachments: vec![],
        subject: None,
    }
}

pub(crate) fn created() -> Event {
    Event::SessionCreated {
        repository: RepositoryId::from_parts(1, 1),
        repository_name: "sample".parse().unwrap(),
        title: "t".into(),
        author: author(1),
        branch: "greenroom/x".parse().unwrap(),
        base_branch: "main".parse().unwrap(),
        model: None,
        effort: None,
        budget: Budget::default(),
        image: None,
        forked_from: None,
        imported_from: None,
        parent: None,
        team_access: Default::default(),
    }
}

pub(crate) fn prompt(text: &str) -> Command {
    Command::Prompt { text: text.into(), delivery: Delivery::Queue, attachments: vec![] }
}

pub(crate) async fn send(handle: &SessionHandle, key: &str, command: Command) -> StoredReceipt {
    handle.command(key.parse().unwrap(), command, asking(1)).await.unwrap()
}

pub(crate) async fn next(subscription: &mut Subscription) -> Live {
    let frame =
        tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("a frame comes");
    frame.unwrap().expect("the stream goes on").live().clone()
}
