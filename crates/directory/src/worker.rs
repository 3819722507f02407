//! Threads that own database connections and run jobs from one bounded queue.
//!
//! When the queue is full, callers wait: the delay is theirs, memory does not grow. A caller that goes away after its
//! job was queued does not undo it. A job that panics fails alone: its transaction is rolled back, the thread goes on.
//!
//! A writer makes the transactions of all jobs at hand durable by one sync, and only then answers them: many sessions
//! that begin at once wait for the disk once.

use crate::{Error, Result};
use rusqlite::Connection;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

const QUEUE: usize = 256;
/// Jobs that wait for one sync.
const TOGETHER: usize = 64;

/// Answers a job's caller, who hears of a failed sync instead of the result.
type Reply = Box<dyn FnOnce(Result<()>)>;
type Job = Box<dyn FnOnce(&mut Connection) -> Reply + Send>;

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// One thread for each connection; each answers its jobs one by one.
    pub(crate) fn readers(name: &str, connections: Vec<Connection>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for mut connection in connections {
            let queue = queue.clone();
            spawn(name, move || {
                while let Some(job) = next_job(&queue) {
                    if let Some(reply) = carry_out(job, &mut connection) {
                        reply(Ok(()));
                    }
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// One thread. `journal` is what the connection's transactions are in when they are committed.
    pub(crate) fn writer(name: &str, mut connection: Connection, journal: File) -> Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        spawn(name, move || {
            while let Some(first) = queue.blocking_recv() {
                let mut replies: Vec<Reply> = carry_out(first, &mut connection).into_iter().collect();
                while replies.len() < TOGETHER
                    && let Ok(job) = queue.try_recv()
                {
                    replies.extend(carry_out(job, &mut connection));
                }
                let synced = journal.sync_data().map_err(|error| format!("syncing the journal: {error}"));
                for reply in replies {
                    reply(synced.clone().map_err(Error::Database));
                }
            }
        })?;
        Ok(Self { jobs })
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = job(connection);
            Box::new(move |synced| {
                let _caller_left = reply.send(synced.and(result));
            })
        });
        let stopped = || Error::Database("the directory's thread stopped".into());
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| Error::Database(format!("starting the thread {name}: {error}")))
}

fn carry_out(job: Job, connection: &mut Connection) -> Option<Reply> {
    let done = catch_unwind(AssertUnwindSafe(|| job(connection)));
    if done.is_err() {
        tracing::error!("a job of the directory panicked");
    }
    done.ok()
}

/// Idle threads queue for the lock; the one that holds it waits for the next job.
fn next_job(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe has nothing to be synced.
    fn unsyncable() -> File {
        let (reader, _writer) = std::io::pipe().unwrap();
        File::from(std::os::fd::OwnedFd::from(reader))
    }

    #[tokio::test]
    async fn a_caller_hears_of_a_sync_that_failed() {
        let writer = Worker::writer("writer", Connection::open_in_memory().unwrap(), unsyncable()).unwrap();
        let error = writer.run(|_| Ok(())).await.unwrap_err();
        assert!(error.to_string().contains("syncing"), "{error}");
    }

    #[tokio::test]
    async fn a_job_that_panics_fails_alone() {
        let file = tempfile::tempfile().unwrap();
        let writer = Worker::writer("writer", Connection::open_in_memory().unwrap(), file).unwrap();
        assert!(writer.run(|_| -> Result<()> { panic!("as tests do") }).await.is_err());
        assert_eq!(writer.run(|_| Ok(1)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn jobs_that_wait_together_are_answered_each_with_its_own_result() {
        let file = tempfile::tempfile().unwrap();
        let writer = Worker::writer("writer", Connection::open_in_memory().unwrap(), file).unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = writer.clone();
        let held = tokio::spawn(async move {
            first
                .run(move |_| {
                    wait.recv().unwrap();
                    Ok(0)
                })
                .await
        });
        let many: Vec<_> = (1..100)
            .map(|number| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    writer
                        .run(move |_| {
                            if number % 2 == 0 {
                                Ok(number)
                            } else {
                                Err(Error::Database(number.to_string()))
                            }
                        })
                        .await
                })
            })
            .collect();
        go.send(()).unwrap();
        assert_eq!(held.await.unwrap().unwrap(), 0);
        for (number, answer) in (1..100).zip(many) {
            match answer.await.unwrap() {
                Ok(answered) => assert!(answered == number && number % 2 == 0),
                Err(error) => assert!(number % 2 == 1 && error.to_string().contains(&number.to_string())),
            }
        }
    }
}
