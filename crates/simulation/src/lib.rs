//! Sessions in a world of chance: the real session actors, their rooms and streams, and the real agent loop, over a disk, a
//! model and sandboxes that are made up, with people who write, change their minds, look on slowly and go away. One seed is
//! one history: a runtime of one thread, a clock that moves only when everybody waits, and one die for everything.
//!
//! The process dies at random places, and the disk keeps what was synced and a random part of the rest. At the end nothing
//! fails any more, everybody says again what was not answered, and [`check`] asks whether all that was promised is so.

mod brain;
mod check;
mod dice;
mod disk;
mod hands;
mod people;
mod server;
mod world;

pub use world::{History, run};
