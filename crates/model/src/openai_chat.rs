//! Chat Completions, streamed: OpenAI's older API, which most other servers speak (Ollama, vLLM, llama.cpp, gateways).
//! What is special to OpenAI's own server is sent to that one only.

mod request;
mod stream;

use crate::config::Limits;
use crate::exchange::{Decoder, Exchange};
use crate::provider::{Error, Provider, ProviderStream, Request};
use async_trait::async_trait;
use greenroom_domain::message::{Content, Message};
use greenroom_domain::money::Usage;
use std::collections::HashSet;

/// `RawItems::format` of assistant messages.
pub(crate) const FORMAT: &str = "openai_chat";

#[derive(Debug)]
pub(crate) struct OpenaiChat {
    pub(crate) model: String,
    pub(crate) model_id: String,
    pub(crate) limits: Limits,
    pub(crate) exchange: Exchange,
    pub(crate) dialect: Dialect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Openai,
    Compatible,
}

#[async_trait]
impl Provider for OpenaiChat {
    fn model(&self) -> &str {
        &self.model
    }

    fn context_window(&self) -> u64 {
        self.limits.context_window
    }

    fn sees_images(&self) -> bool {
        self.limits.sees_images
    }

    fn price_microusd(&self, usage: &Usage) -> Option<u64> {
        self.exchange.facts.price.map(|_| self.exchange.facts.cost_microusd(usage))
    }

    async fn warm(&self) {
        self.exchange.endpoint.warm().await;
    }

    async fn stream(&self, request: Request) -> Result<ProviderStream, Error> {
        let request = self.limits.apply(request);
        let body = request::encode(&self.model_id, self.dialect, &request);
        self.exchange.start(&body, decoder(&request.messages)).await
    }
}

/// Of one answer to `messages`.
pub(crate) fn decoder(messages: &[Message]) -> impl Decoder + use<> {
    stream::ChatDecoder::new(used_call_ids(messages))
}

fn used_call_ids(messages: &[Message]) -> HashSet<String> {
    let contents = messages.iter().filter_map(|message| match message {
        Message::Assistant { content, .. } => Some(content),
        Message::User { .. } | Message::ToolResults { .. } => None,
    });
    contents
        .flatten()
        .filter_map(|content| match content {
            Content::ToolCall(call) => Some(call.id.clone()),
            Content::Text { .. } | Content::Thinking { .. } => None,
        })
        .collect()
}
