//! The published contract: bodies of requests and answers, and the frames of a session's stream. Events and commands
//! are those of `domain`. Shared by the server and the Rust client; the OpenAPI document is made from these types.

pub mod asks;
pub mod blame;
pub mod body;
pub mod context;
pub mod egress;
pub mod frame;
pub mod live;
pub mod outbox;
pub mod queue;
pub mod quota;
pub mod retention;
pub mod search;
pub mod share;
pub mod trees;
pub mod view;

pub use asks::*;
pub use blame::*;
pub use body::*;
pub use context::*;
pub use egress::*;
pub use frame::{
    ClientFrame, Frame, FrameCompression, FrameRef, PROTOCOL, Receipt, ResumeReason, SessionsFrame,
};
pub use live::*;
pub use outbox::*;
pub use queue::*;
pub use quota::*;
pub use retention::*;
pub use search::*;
pub use share::*;
pub use trees::*;
pub use view::*;
