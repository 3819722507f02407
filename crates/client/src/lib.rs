//! Rust client of the HTTP API: one typed method per route, and the two event streams with resumption. Used by the
//! command line, the demo, the benchmarks and the end-to-end tests. Keeps no state of its own besides the credential;
//! reads no file and no environment: whoever makes a [`Client`] passes address and credential in.

mod address;
mod error;
mod feed;
mod key;
mod routes;
mod transport;

pub use address::{Address, InvalidAddress};
pub use error::Error;
pub use feed::{Follow, Patience};
pub use greenroom_wire as wire;
pub use key::new_key;
pub use routes::Pieces;
pub use transport::{Client, Credential, TokenSource};
