//! The id of the request that a task works for. It follows the request's future; a task that is spawned takes it along
//! by [`scope_of`].

use greenroom_domain::RequestId;

tokio::task_local! {
    static REQUEST: Option<RequestId>;
}

/// Runs `work` in the name of a request.
pub async fn scope<F: Future>(id: RequestId, work: F) -> F::Output {
    REQUEST.scope(Some(id), work).await
}

/// Gives `work` the request that this task works for.
pub fn scope_of<F: Future>(work: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(current(), work)
}

/// `None`: this task works for no request.
pub fn current() -> Option<RequestId> {
    REQUEST.try_with(|id| *id).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_follows_its_work_into_tasks_that_take_it_along() {
        assert_eq!(current(), None);
        let id = RequestId::from_parts(1, 1);
        scope(id, async {
            assert_eq!(current(), Some(id));
            let taken = tokio::spawn(scope_of(async { current() }));
            assert_eq!(taken.await.unwrap(), Some(id));
            assert_eq!(tokio::spawn(async { current() }).await.unwrap(), None);
        })
        .await;
        assert_eq!(current(), None);
    }
}
