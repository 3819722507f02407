//! Memory that sessions needed goes back to the system when they have left it: the C library would keep most of it, in an
//! arena for each thread.

use std::time::Duration;
use tokio::sync::watch;

/// Processors that share one heap: few enough that threads seldom wait for one another.
const PROCESSORS_EACH: usize = 4;

/// Before the runtime's threads are started.
pub(crate) fn bound() {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let heaps = processors.div_ceil(PROCESSORS_EACH);
    greenroom_sandboxd::bound_heaps(u16::try_from(heaps).unwrap_or(u16::MAX));
}

/// Nobody who comes back at once is kept waiting; after a start, what it prepares in the background is there by then.
const PAUSE: Duration = Duration::from_secs(1);

/// After the start, and whenever the last session has left. Only while no session is in memory: nobody waits for a heap
/// that is being looked through.
pub(crate) async fn give_back(mut awake: watch::Receiver<usize>) {
    while awake.wait_for(|count| *count == 0).await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        if *awake.borrow() == 0 {
            let _done = tokio::task::spawn_blocking(greenroom_sandboxd::release_free_heap).await;
        }
        if awake.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
    }
}
