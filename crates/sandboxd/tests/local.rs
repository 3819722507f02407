//! The provider of this machine against the contract: as root, and as an ordinary user.

use greenroom_sandbox::SandboxProvider;
use greenroom_sandbox::contract::{self, Recorder, Subject};
use greenroom_sandboxd::{LocalProvider, LocalSettings};
use std::sync::Arc;

struct Setting {
    subject: Subject,
    _scratch: tempfile::TempDir,
}

async fn setting() -> Setting {
    let egress = Arc::new(Recorder::default());
    let provider = LocalProvider::start(LocalSettings::default(), egress.clone()).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    Setting { subject: Subject { provider, scratch: scratch.path().to_owned(), egress }, _scratch: scratch }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_basics_hold() {
    let setting = setting().await;
    contract::basics(&setting.subject).await;
    setting.subject.provider.shutdown().await.unwrap();
}
