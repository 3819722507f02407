//! Sessions at run time: one actor and one log each. Owns the commit gate (append, then act), idempotent commands,
//! live streams, and recovery after a crash. Knows no HTTP, sandbox or model: what a turn does is an `Effects` port.

mod actor;
mod clock;
mod handle;
mod log;
mod recent;
mod registry;
mod running_output;
mod spares;
mod sqlite_log;
mod subscription;
mod tree;

pub use clock::{Clock, SystemClock};
pub use handle::{SessionHandle, TurnEnded, TurnHandle};
pub use log::{Append, CommitLog, LogError, Ownership, SessionDirectory, StoredReceipt};
pub use registry::{Effects, Registry, Summary};
pub use sqlite_log::FileSessions;
pub use subscription::{Live, Subscription};
pub use tree::remove_tree;
