//! What every protocol's client does alike: keeps to what the model can, leaves out what is bound to another model, sends,
//! and hands the answer to the protocol's decoder.

use crate::catalog::ModelFacts;
use crate::exchange::{Decoder, Exchange};
use crate::provider::{Error, Provider, ProviderStream, Request};
use async_trait::async_trait;
use greenroom_domain::Effort;
use greenroom_domain::message::Message;
use greenroom_domain::money::Usage;
use serde_json::Value;

/// A protocol's two sides. Pure.
pub(crate) trait Protocol: std::fmt::Debug + Send + Sync + 'static {
    type Decoder: Decoder;

    /// `RawItems::format` of its own items.
    const FORMAT: &'static str;

    /// A request's body. Raw items in it are this model's own.
    fn encode(&self, model: &str, facts: &ModelFacts, request: &Request) -> Value;

    /// Of the one answer to these messages.
    fn decoder(&self, messages: &[Message]) -> Self::Decoder;
}

/// A configured model at one address.
#[derive(Debug)]
pub(crate) struct Client<P> {
    /// As people and the log know it.
    pub(crate) label: String,
    /// The provider's id of it.
    pub(crate) model: String,
    pub(crate) limits: Limits,
    pub(crate) facts: ModelFacts,
    pub(crate) exchange: Exchange,
    pub(crate) protocol: P,
}

/// What a configured model allows, whatever is asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) context_window: u64,
    pub(crate) max_output_tokens: u32,
    pub(crate) effort: Option<Effort>,
    pub(crate) efforts: Vec<Effort>,
    pub(crate) sees_images: bool,
}

impl Limits {
    fn apply(&self, request: &mut Request) {
        request.max_output_tokens = request.max_output_tokens.min(self.max_output_tokens);
        // What was chosen for another model of a chain may be unknown to this one.
        request.effort = request.effort.or(self.effort).and_then(|effort| effort.nearest(&self.efforts));
        if !self.sees_images {
            request.messages.iter_mut().for_each(tell_images_in_words);
        }
    }
}

/// For a model without eyes: pictures that were meant for another one are named instead.
fn tell_images_in_words(message: &mut Message) {
    let Message::User { text, images } = message else { return };
    for image in std::mem::take(images) {
        let words = format!("[A picture ({}) was shown here, which you cannot see.]", image.media_type);
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&words);
    }
}

/// Thinking is signed or sealed for one model: another one is given the words and calls alone.
fn keep_own_items(message: &mut Message, format: &str, origin: &str) {
    let Message::Assistant { raw, .. } = message else { return };
    let is_own = |raw: &greenroom_domain::message::RawItems| {
        raw.format == format && raw.model.as_deref().is_none_or(|model| model == origin)
    };
    if raw.as_ref().is_some_and(|raw| !is_own(raw)) {
        *raw = None;
    }
}

#[async_trait]
impl<P: Protocol> Provider for Client<P> {
    fn model(&self) -> &str {
        &self.label
    }

    fn context_window(&self) -> u64 {
        self.limits.context_window
    }

    fn sees_images(&self) -> bool {
        self.limits.sees_images
    }

    fn uses_tools(&self) -> bool {
        self.facts.tools
    }

    fn edits_by_patch(&self) -> bool {
        self.facts.patches
    }

    fn price_microusd(&self, usage: &Usage) -> Option<u64> {
        self.facts.price.map(|_| self.facts.cost_microusd(usage))
    }

    fn efforts(&self) -> Vec<Effort> {
        self.limits.efforts.clone()
    }

    async fn warm(&self) {
        self.exchange.endpoint.warm().await;
    }

    async fn stream(&self, mut request: Request) -> Result<ProviderStream, Error> {
        self.limits.apply(&mut request);
        for message in &mut request.messages {
            keep_own_items(message, P::FORMAT, &self.exchange.origin);
        }
        let body = self.protocol.encode(&self.model, &self.facts, &request);
        self.exchange.start(&body, self.protocol.decoder(&request.messages)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::message::{Content, Image, RawItems};

    #[test]
    fn items_of_another_model_give_way_to_the_words() {
        let with = |model: Option<&str>| {
            let raw = RawItems { format: "f".into(), items: vec![], model: model.map(str::to_owned) };
            let content = vec![Content::Text { text: "hello".into() }];
            let mut message = Message::Assistant { content, raw: Some(raw) };
            keep_own_items(&mut message, "f", "anthropic/one");
            matches!(message, Message::Assistant { raw: Some(_), .. })
        };
        assert!(with(Some("anthropic/one")) && with(None));
        assert!(!with(Some("anthropic/two")));
    }

    #[test]
    fn a_model_without_eyes_is_told_of_pictures_and_an_unknown_effort_becomes_the_nearest() {
        let image = Image { media_type: "image/png".into(), data: "AAAA".into() };
        let message = Message::User { text: "what is this?".into(), images: vec![image] };
        let mut request = Request {
            system: String::new(),
            tools: vec![],
            messages: vec![message],
            max_output_tokens: 100,
            effort: Some(Effort::Max),
            cache_key: String::new(),
        };
        let limits = Limits {
            context_window: 1,
            max_output_tokens: 50,
            effort: None,
            efforts: vec![Effort::Low, Effort::High],
            sees_images: false,
        };
        limits.apply(&mut request);
        let Message::User { text, images } = &request.messages[0] else { panic!("a user's") };
        assert!(images.is_empty());
        assert_eq!(text, "what is this?\n\n[A picture (image/png) was shown here, which you cannot see.]");
        assert_eq!((request.max_output_tokens, request.effort), (50, Some(Effort::High)));
    }
}
