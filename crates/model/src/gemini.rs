//! Google's `generateContent`, streamed. Parts are kept and sent back exactly as they came: thought signatures must not
//! change, nor move to another part. <https://ai.google.dev/api/generate-content>

mod request;
mod stream;

use crate::assembly::used_call_ids;
use crate::catalog::ModelFacts;
use crate::client::Protocol;
use crate::provider::Request;
use greenroom_domain::message::Message;
use serde_json::Value;

/// `RawItems::format` of parts.
pub(crate) const FORMAT: &str = "gemini";

#[derive(Debug)]
pub(crate) struct Gemini;

impl Protocol for Gemini {
    type Decoder = stream::PartDecoder;
    const FORMAT: &'static str = FORMAT;

    fn encode(&self, _: &str, facts: &ModelFacts, request: &Request) -> Value {
        request::encode(facts.thinking, request)
    }

    fn decoder(&self, messages: &[Message]) -> Self::Decoder {
        stream::PartDecoder::new(used_call_ids(messages))
    }
}
