//! What becomes of work that panics in a task of its own. A task whose handle nobody keeps dies without a word, and what it
//! was to bring to an end stays as it is for ever: a turn that runs, a build that goes on, a loop that nobody runs any more.
//!
//! So whoever spawns such work does one of two things. Work with an end goes through [`caught`], and who spawned it brings to its end
//! what it left. A loop that lives as long as the server goes through [`keep`], which begins it again. Work that leaves nothing
//! behind is spawned as it is. Both log in the span that they are called in; [`log_panics`] says, for every panic, where it was.

use futures::FutureExt;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Also: a loop that ran for longer before it panicked is begun again as if for the first time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Some work ended without a result. In words for the server's log, not for people: what a panic says may hold anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} panicked")]
pub struct Panicked {
    what: &'static str,
}

/// Runs `work` to its end, or to its panic, which is logged. What it shared with others is theirs to look at: whoever
/// catches brings it to its end, and every lock in this program outlives its poisoning.
pub async fn caught<T>(what: &'static str, work: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
        tracing::error!(panic = words_of(&*panic), "{what} panicked");
        Panicked { what }
    })
}

/// Runs a loop until it returns. One that panics is begun again, after pauses that double from a second to a minute.
pub async fn keep<F: Future<Output = ()>>(what: &'static str, mut begin: impl FnMut() -> F) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        if caught(what, begin()).await.is_ok() {
            return;
        }
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        tracing::warn!("{what} is begun again");
    }
}

/// From now on every panic of the process is logged with its place, in the span it happened in: with the session, the turn
/// and the request that it was for. `RUST_BACKTRACE=1` adds the way there.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let way = Backtrace::capture();
        let way = (way.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&way));
        let place = panic.location().map(tracing::field::display);
        tracing::error!(panic = words_of(panic.payload()), place, way, "a panic");
    }));
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn work_that_panics_ends_as_an_error_and_other_work_with_its_result() {
        assert_eq!(caught("this", async { 1 }).await, Ok(1));
        let panicked = caught("this", async { panic!("as tests do") }).await;
        assert_eq!(panicked.map_err(|error| error.to_string()), Err::<(), _>("this panicked".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_is_begun_again_ever_more_seldom_and_one_that_returns_is_over() {
        let begun = Mutex::new(vec![]);
        let begin = || {
            let count = {
                let mut begun = begun.lock().unwrap_or_else(|_| unreachable!());
                begun.push(Instant::now());
                begun.len()
            };
            async move {
                if count == 9 {
                    sleep(LONGEST_PAUSE * 2).await;
                }
                assert!(count > 10, "as tests do");
            }
        };
        keep("a loop", begin).await;
        let begun = begun.into_inner().unwrap_or_else(|_| unreachable!());
        let pauses: Vec<_> = begun.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 121, 2]);
    }

    #[test]
    fn whatever_a_panic_carries_there_are_words_for_it() {
        assert_eq!(words_of(&"text"), "text");
        assert_eq!(words_of(&"owned".to_owned()), "owned");
        assert_eq!(words_of(&1_u8), "without words");
    }
}
