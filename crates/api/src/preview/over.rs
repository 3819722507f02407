//! When a request to a preview is over, however far it has come: waiting for its answer, streaming one, or a WebSocket.

use super::closed_to_strangers;
use crate::error::shutting_down;
use crate::layers::Standing;
use futures::StreamExt;
use greenroom_domain::{ErrorCode, Problem};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Ends with why: what the caller needs was taken from them, the grant that let them in grew old, the server stops.
pub(super) async fn over(mut standing: Standing, shutdown: CancellationToken, until: Instant) -> Problem {
    let refused = async {
        loop {
            match standing.next().await {
                Some(Ok(_)) => {}
                Some(Err(problem)) => return problem,
                None => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => shutting_down(),
        problem = refused => match problem.code {
            ErrorCode::NotSignedIn => closed_to_strangers(),
            _ => problem,
        },
        () = tokio::time::sleep_until(until) => closed_to_strangers(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn what_is_open_lives_no_longer_than_the_grant_that_opened_it() {
        let begun = Instant::now();
        let until = begun + super::super::grants::GRANT_AGE;
        let standing = stream::pending().boxed();
        let problem = over(standing, CancellationToken::new(), until).await;
        assert_eq!(problem.code, ErrorCode::NotSignedIn);
        assert_eq!(begun.elapsed().as_secs(), Duration::from_hours(12).as_secs());
    }
}
