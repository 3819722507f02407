//! Chat Completions, streamed: OpenAI's older API, which most other servers speak (Ollama, vLLM, llama.cpp, gateways).
//! What is special to OpenAI's own server is sent to that one only.

mod request;
mod stream;

use crate::assembly::used_call_ids;
use crate::catalog::ModelFacts;
use crate::client::Protocol;
use crate::provider::Request;
use greenroom_domain::message::Message;
use serde_json::Value;

/// `RawItems::format` of assistant messages.
pub(crate) const FORMAT: &str = "openai_chat";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Openai,
    /// Tells what an answer cost, and takes thinking back in a form of its own.
    Openrouter,
    Compatible,
}

#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) dialect: Dialect,
}

impl Protocol for Chat {
    type Decoder = stream::ChatDecoder;
    const FORMAT: &'static str = FORMAT;

    fn encode(&self, model: &str, _: &ModelFacts, request: &Request) -> Value {
        request::encode(model, self.dialect, request)
    }

    fn decoder(&self, messages: &[Message]) -> Self::Decoder {
        stream::ChatDecoder::new(used_call_ids(messages))
    }
}
