//! Servers after each other, on one data directory and in one process.

use super::*;
use greenroom_client::{Address, Client, Credential, new_key};
use greenroom_wire::{AddRepository, CreateSession, Exec, ImageState};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn client_of(server: &Server) -> Client {
    let address: Address = server.listening_on().parse().unwrap();
    Client::new(address, Credential::Token(server.local_token.clone())).unwrap()
}

/// As this thread sees them, and every thread that it starts.
fn is_mounted(root: &Path) -> bool {
    let root = format!(" {} ", root.display());
    std::fs::read_to_string("/proc/thread-self/mounts").unwrap().lines().any(|line| line.contains(&root))
}

async fn add_repository(client: &Client) {
    let source = tempfile::tempdir().unwrap();
    let recipe = (".greenroom/environment.toml", "# Nothing but what the machine has.\n");
    std::fs::create_dir(source.path().join(".greenroom")).unwrap();
    std::fs::write(source.path().join(recipe.0), recipe.1).unwrap();
    for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "first"]] {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@test.invalid"];
        let mut git = std::process::Command::new("git");
        assert!(git.args(identity).args(arguments).current_dir(source.path()).status().unwrap().success());
    }
    let body = AddRepository {
        name: "sample".parse().unwrap(),
        source: source.path().display().to_string(),
        required_approvals: None,
    };
    client.add_repository(&body).await.unwrap();
    let is_built = async || {
        client.images(&body.name).await.unwrap().iter().any(|one| one.image.state == ImageState::Ready)
    };
    while !is_built().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn starts_and_stops(data: &Path) {
    let volume = data.join("volume");
    let server = start(Options::local(data.to_owned(), 0, None)).await.unwrap();
    let has_volume = is_mounted(&volume);
    assert_eq!(has_volume, data.join("volume.btrfs").exists());
    let client = client_of(&server);
    add_repository(&client).await;
    let body = CreateSession {
        repository: "sample".parse().unwrap(),
        prompt: None,
        attachments: vec![],
        title: None,
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    };
    let session = client.create_session(&new_key(), &body).await.unwrap().id;
    // Refused by the broker, and told: what was told keeps nothing of the server either.
    let command = "echo kept > kept.txt; curl -s -m 5 http://refused.invalid/ || true";
    client.exec(session, &Exec { command: command.into(), timeout_ms: None }).await.unwrap();
    assert_eq!(server.stop().await, Stop::InOrder);
    assert!(!is_mounted(&volume), "a stopped server has its volume mounted");

    let server = start(Options::local(data.to_owned(), 0, None)).await.unwrap();
    assert_eq!(is_mounted(&volume), has_volume);
    let exec = Exec { command: "cat kept.txt".into(), timeout_ms: None };
    let read = client_of(&server).exec(session, &exec).await.unwrap();
    assert_eq!(read.output, "kept\n");
    assert_eq!(server.stop().await, Stop::InOrder);
    assert!(!is_mounted(&volume));
}

#[test]
fn a_stopped_server_leaves_its_data_directory_to_the_next() {
    let data = tempfile::tempdir().unwrap();
    // Of this thread; the runtime's threads are its children. As root, the volume needs it.
    greenroom_sandboxd::enter_private_mounts();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, starts_and_stops(&data.path().join("data"))).await.expect("in time");
    });
}
