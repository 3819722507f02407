//! A local model server that speaks the three wire protocols from a script, with faults, over plain HTTP or TLS, with a
//! round trip of any length. For tests of this and other crates and for `greenroom bench ttft`; the product's own paths
//! never use it.

mod authority;
mod proxy;
mod record;
pub(crate) mod render;
mod script;
mod server;

pub use proxy::DelayProxy;
pub use record::{Recorded, Timeout};
pub use script::{Fault, Say, StatusFault, Tokens, Turn};
pub use server::{WireServer, WireServerOptions};
