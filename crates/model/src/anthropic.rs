//! Anthropic's Messages API, streamed. Content blocks are kept and sent back exactly as they came: thinking carries
//! signatures that must not change.

mod request;
mod stream;

use crate::catalog::ModelFacts;
use crate::client::Protocol;
use crate::provider::Request;
use greenroom_domain::message::Message;
use serde_json::Value;

/// `RawItems::format` of content blocks.
pub(crate) const FORMAT: &str = "anthropic_messages";

#[derive(Debug)]
pub(crate) struct Messages;

impl Protocol for Messages {
    type Decoder = stream::MessageDecoder;
    const FORMAT: &'static str = FORMAT;

    fn encode(&self, model: &str, facts: &ModelFacts, request: &Request) -> Value {
        request::encode(model, facts, request)
    }

    fn decoder(&self, _: &[Message]) -> Self::Decoder {
        stream::MessageDecoder::default()
    }
}
