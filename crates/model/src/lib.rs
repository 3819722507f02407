//! Clients of model providers behind one trait. Owns the wire protocols, retries' classification and connections made
//! in advance; knows nothing of tools' meaning or of sessions.

mod provider;

pub use provider::{
    Delta, Effort, Error, Provider, ProviderStream, Request, Response, StreamEvent, ToolDefinition,
};
