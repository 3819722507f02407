//! The words of Greenroom as types: ids, people, events, commands, the pure session state machine, and errors with
//! stable codes. Owns no I/O: no clock, randomness, database, network or environment is reachable from here.

pub mod access;
pub mod ask;
pub mod attachment;
pub mod children;
pub mod command;
pub mod egress;
pub mod event;
pub mod id;
pub mod message;
pub mod model;
pub mod money;
pub mod name;
pub mod permission;
pub mod person;
pub mod present;
pub mod problem;
pub mod quota;
pub mod retention;
pub mod state;
pub mod statistics;
pub mod trace;

pub use access::{Access, Right, SessionRole, ShareKind, TeamAccess};
pub use ask::{Answer, Asked, Grant, Question, QuestionAnswer};
pub use attachment::{Attachment, AttachmentRef};
pub use children::{ChildEnd, ChildOutcome, ChildRequest, ParentPoint, SpawnLimits};
pub use command::{Command, CommandId, Delivery};
pub use egress::DenyReason;
pub use event::{Consumer, Durability, Entry, Event};
pub use id::*;
pub use model::{Effort, ModelChoice};
pub use name::{BlobDigest, BranchName, CommitHash, ExchangeName, LoginName, RepositoryName};
pub use person::{Author, Person, Role, Via};
pub use present::Present;
pub use problem::{ErrorCode, Problem};
pub use retention::{KeptBy, RetentionSettings};
pub use state::{Asking, Effect, Ids, STATE_VERSION, SessionState};
