//! OpenAI's Responses API, streamed and stateless: nothing is stored there; output items, encrypted reasoning included,
//! are kept here and sent back exactly as they came.

mod request;
mod stream;

use crate::catalog::ModelFacts;
use crate::client::Protocol;
use crate::provider::Request;
use greenroom_domain::message::Message;
use serde_json::Value;

/// `RawItems::format` of output items.
pub(crate) const FORMAT: &str = "openai_responses";

#[derive(Debug)]
pub(crate) struct Responses;

impl Protocol for Responses {
    type Decoder = stream::ResponseDecoder;
    const FORMAT: &'static str = FORMAT;

    fn encode(&self, model: &str, facts: &ModelFacts, request: &Request) -> Value {
        request::encode(model, facts.thinking, request)
    }

    fn decoder(&self, _: &[Message]) -> Self::Decoder {
        stream::ResponseDecoder::default()
    }
}
