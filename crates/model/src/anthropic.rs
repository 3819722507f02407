//! Anthropic's Messages API, streamed. Content blocks are kept and sent back exactly as they came: thinking carries
//! signatures that must not change.

mod request;
mod stream;

use crate::config::Limits;
use crate::exchange::{Decoder, Exchange};
use crate::provider::{Error, Provider, ProviderStream, Request};
use async_trait::async_trait;
use greenroom_domain::money::Usage;

/// `RawItems::format` of content blocks.
pub(crate) const FORMAT: &str = "anthropic_messages";

#[derive(Debug)]
pub(crate) struct Anthropic {
    pub(crate) model: String,
    pub(crate) model_id: String,
    pub(crate) limits: Limits,
    pub(crate) exchange: Exchange,
}

#[async_trait]
impl Provider for Anthropic {
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
        let body = request::encode(&self.model_id, self.exchange.facts.thinking, &request);
        self.exchange.start(&body, decoder()).await
    }
}

/// Of one answer.
pub(crate) fn decoder() -> impl Decoder {
    stream::MessageDecoder::default()
}
