//! Threads that own database connections and run jobs from one bounded queue.
//!
//! When the queue is full, callers wait: the delay is theirs, memory does not grow. A caller that goes away after its
//! job was queued does not undo it. A job that panics fails alone: its transaction is rolled back, the thread goes on.

use crate::{Error, Result};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// One thread for each connection.
    pub(crate) fn start(name: &str, connections: Vec<Connection>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for connection in connections {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || serve(connection, &queue))
                .map_err(|error| Error::Database(format!("starting the thread {name}: {error}")))?;
        }
        Ok(Self { jobs })
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _caller_left = reply.send(job(connection));
        });
        let stopped = || Error::Database("the directory's thread stopped".into());
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn serve(mut connection: Connection, queue: &Mutex<mpsc::Receiver<Job>>) {
    while let Some(job) = next_job(queue) {
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            tracing::error!("a job of the directory panicked");
        }
    }
}

/// Idle threads queue for the lock; the one that holds it waits for the next job.
fn next_job(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}
