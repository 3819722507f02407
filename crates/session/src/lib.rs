//! Sessions at run time: one actor and one log each. Owns the commit gate (append, then act), idempotent commands,
//! live streams, hibernation, and recovery after a crash. Knows no HTTP, sandbox or model: what a turn does is an `Effects` port.

mod actor;
mod blobs;
mod checkpoint;
mod clock;
mod handle;
mod hibernation;
mod live;
mod log;
mod message;
mod migrations;
mod recent;
mod registry;
mod room;
mod running_output;
mod spares;
mod sqlite_log;
mod subscription;
mod tree;
mod viewers;
mod written;

pub use blobs::{BlobError, Blobs, Received, Shelf};
pub use checkpoint::{Checkpoint, Folded};
pub use clock::{Clock, SystemClock};
pub use handle::{SessionHandle, TurnEnded, TurnHandle};
pub use hibernation::Hibernation;
pub use live::{TextOf, Told, brings};
pub use log::{Append, CommitLog, LogError, Ownership, SessionDirectory, StoredReceipt, Tidy};
pub use registry::{Effects, Registry, Summary};
pub use sqlite_log::FileSessions;
pub use subscription::{Live, Opening, Subscription};
pub use tree::remove_tree;
pub use written::Written;
