//! Memory that sessions needed goes back to the system when they have left it: the C library would keep most of it, in an
//! arena for each thread.

use std::time::Duration;
use tokio::sync::watch;

/// Sessions that leave in one go are waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// Until the app is gone.
pub(crate) async fn give_back(mut rested: watch::Receiver<u64>) {
    while rested.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        rested.mark_unchanged();
        let _done = tokio::task::spawn_blocking(greenroom_sandboxd::release_free_heap).await;
    }
}
