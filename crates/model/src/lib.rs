//! Clients of model providers behind one trait. Owns the wire protocols, retries' classification and connections made
//! in advance; knows nothing of tools' meaning or of sessions.

mod anthropic;
mod assembly;
pub mod catalog;
mod client;
mod config;
mod exchange;
mod gemini;
#[cfg(test)]
mod hostile_tests;
mod openai_chat;
mod openai_responses;
mod probe;
mod provider;
mod refusal;
pub mod scripted;
mod secret;
pub mod sse;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;

pub use catalog::Catalog;
pub use config::{
    DEFAULT_ANTHROPIC_MODEL, DEFAULT_OPENAI_MODEL, ModelConfig, ProviderKind, connect, connect_from,
    connect_with,
};
pub use greenroom_domain::Effort;
pub use probe::{TestReport, test};
pub use provider::{Delta, Error, Provider, ProviderStream, Request, Response, StreamEvent, ToolDefinition};
pub use secret::Secret;
pub use transport::{Endpoint, EndpointOptions};
