//! The native agent: asks the model, runs its tool calls in the sandbox, and writes everything to the session's log
//! through [`ports`]. Runs outside the sandbox and never holds a key, a database or a route; `app` implements the ports
//! and calls [`turn::run`] once per turn.

pub mod attachments;
pub mod context;
mod conversation;
mod halt;
pub mod permissions;
pub mod ports;
pub mod prompt;
pub mod tools;
pub mod transcript;
pub mod turn;

pub use attachments::{Material, Said};
pub use permissions::{Permissions, Unattended};
pub use ports::{
    Artifacts, Changes, ChildReport, Children, Clock, Hands, Log, NoChildren, OpenedChange, Reading, Spawn,
    SystemClock, TurnEnded, WaitFor,
};
pub use prompt::{Instructions, Port, Service, Skill};
pub use transcript::{Speakers, Transcript, transcript};
pub use turn::{Finished, TurnContext, Used, run};
