//! Where repositories and change requests live. `Forge` is the port; `local` is the forge that Greenroom serves itself:
//! bare repositories on disk, git's smart HTTP protocol, change requests with review and merge.

pub mod local;
pub mod smart_http;
mod types;

pub use local::LocalForge;
pub use local::diff::read_diff;
pub use types::{
    Approval, Change, ChangeState, Commit, Error, FileDiff, Forge, GitService, Incoming, OpenChange,
    PushPolicy, Refreshed, Result, Work,
};
